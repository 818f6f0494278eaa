import { describe, expect, it } from 'vitest'
import { SessionLedger } from './ledger.js'
import { applied, type SessionState } from './protocol.js'

/** A ledger after requests that were acknowledged by the nodes named, and the states that they answered with. */
function ledgerOf(...nodes: string[]): { ledger: SessionLedger; states: SessionState[] } {
  const ledger = new SessionLedger('s1')
  const states: SessionState[] = []
  for (const [i, node] of nodes.entries()) {
    ledger.ask(`request ${i + 1}`)
    states.push(applied(states.at(-1), `request ${i + 1}`, node))
    ledger.acknowledge(node, states[i] as SessionState, i)
  }
  return { ledger, states }
}

const kinds = (ledger: SessionLedger): string[] => ledger.findings.map(({ violation }) => violation)

describe('a session that is served as it should be', () => {
  it('goes from the node that failed to another, with nothing to be found', () => {
    const { ledger, states } = ledgerOf('a', 'a')
    ledger.fail('a')
    expect(ledger.wasOnFailedNode).toBe(true)
    ledger.ask('request 3')
    const next = applied(states[1], 'request 3', 'b')
    ledger.acknowledge('b', next, 70)
    ledger.audit([{ node: 'b', state: next }])
    expect(ledger.findings).toEqual([])
    expect(ledger.recovery).toEqual({ by: 'b', atMs: 70 })
    expect(ledger.acknowledged).toBe(3)
  })

  it('was not on the failed node where another had served it last', () => {
    const { ledger } = ledgerOf('a', 'b')
    ledger.fail('a')
    expect(ledger.wasOnFailedNode).toBe(false)
  })

  it('may be answered late by the failed node, for what was recovered from it', () => {
    const { ledger, states } = ledgerOf('a')
    ledger.fail('a')
    ledger.ask('request 2')
    const committedByA = applied(states[0], 'request 2', 'a')
    ledger.acknowledge('b', committedByA, 60)
    ledger.acknowledge('a', committedByA, 90)
    expect(ledger.findings).toEqual([])
    expect(ledger.repeated).toBe(1)
  })

  it('may be one request ahead of what was acknowledged, in the audit', () => {
    const { ledger, states } = ledgerOf('a')
    ledger.ask('request 2')
    ledger.audit([{ node: 'b', state: applied(states[0], 'request 2', 'a') }])
    expect(ledger.findings).toEqual([])
  })

  it('that was never acknowledged need not be anywhere', () => {
    const ledger = new SessionLedger('s1')
    ledger.ask('request 1')
    ledger.audit([])
    expect(ledger.findings).toEqual([])
  })
})

describe('served twice', () => {
  it('is a request that two nodes applied, in whatever order they say so', () => {
    for (const order of [['a', 'b'], ['b', 'a']] as const) {
      const { ledger, states } = ledgerOf('a')
      ledger.ask('request 2')
      for (const node of order) ledger.acknowledge(node, applied(states[0], 'request 2', node), 0)
      expect(kinds(ledger)).toEqual(['servedTwice'])
      expect(ledger.findings[0]?.what).toContain(`acknowledged by ${order.join(', then ')}`)
    }
  })

  it('is a session that two servers have in the audit', () => {
    const { ledger, states } = ledgerOf('a')
    const state = states[0] as SessionState
    ledger.audit([{ node: 'b', state }, { node: 'c', state }])
    expect(kinds(ledger)).toEqual(['servedTwice'])
  })

  it('is another history of it in the audit', () => {
    const { ledger, states } = ledgerOf('a', 'a')
    ledger.audit([{ node: 'b', state: applied(states[0], 'request 2', 'b') }])
    expect(kinds(ledger)).toEqual(['servedTwice'])
  })
})

describe('lost', () => {
  it('is a session that nobody has', () => {
    const { ledger } = ledgerOf('a')
    ledger.audit([])
    expect(kinds(ledger)).toEqual(['lost'])
  })

  it('is a session found older than it was acknowledged, by a refusal or in the audit', () => {
    const refused = ledgerOf('a', 'a')
    refused.ledger.ask('request 3')
    refused.ledger.refuse('b', 1)
    expect(kinds(refused.ledger)).toEqual(['lost'])
    const audited = ledgerOf('a', 'a')
    audited.ledger.audit([{ node: 'b', state: audited.states[0] as SessionState }])
    expect(kinds(audited.ledger)).toEqual(['lost'])
  })
})

describe('invented', () => {
  const answered = (change: (next: SessionState) => SessionState): string[] => {
    const { ledger, states } = ledgerOf('a')
    ledger.ask('request 2')
    ledger.acknowledge('b', change(applied(states[0], 'request 2', 'b')), 0)
    return kinds(ledger)
  }

  it('is a state with bytes of another, or one that nobody asked for', () => {
    expect(answered((next) => next)).toEqual([])
    expect(answered((next) => ({ ...next, text: 'request 1' }))).toEqual(['invented'])
    expect(answered((next) => ({ ...next, digest: '0123456789abcdef' }))).toEqual(['invented'])
    expect(answered((next) => ({ ...next, by: 'a' }))).toEqual(['invented'])
    expect(answered((next) => ({ ...next, n: 3 }))).toEqual(['invented'])
    expect(answered((next) => ({ ...next, n: 0 }))).toEqual(['invented'])
  })

  it('is a refusal for a request that was never made', () => {
    const { ledger } = ledgerOf('a')
    ledger.ask('request 2')
    ledger.refuse('b', 7)
    expect(kinds(ledger)).toEqual(['invented'])
  })

  it('is bytes that are no state, in an answer or in the audit', () => {
    const { ledger } = ledgerOf('a')
    ledger.broken('b', 'PAYLOAD_INVALID')
    ledger.audit([{ node: 'b', state: { broken: 'PAYLOAD_INVALID' } }])
    expect(kinds(ledger)).toEqual(['invented', 'invented', 'lost'])
  })
})

describe('a session given up before it was acknowledged', () => {
  it('begins anew under another name', () => {
    const ledger = new SessionLedger('s1')
    ledger.ask('request 1')
    ledger.startAnew('s1.1')
    expect(ledger.ask('request 1')).toBe(1)
    ledger.acknowledge('a', applied(undefined, 'request 1', 'a'), 0)
    expect(ledger).toMatchObject({ session: 's1.1', acknowledged: 1, findings: [] })
  })

  it('is none that has been acknowledged', () => {
    expect(() => ledgerOf('a').ledger.startAnew('s1.1')).toThrow(/acknowledged/)
  })
})
