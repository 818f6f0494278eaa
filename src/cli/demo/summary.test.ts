import { describe, expect, it } from 'vitest'
import { SessionLedger } from './ledger.js'
import type { DemoOptions } from './options.js'
import { applied, type SessionState } from './protocol.js'
import { summaryText } from './report.js'
import { judge, type Evidence } from './summary.js'

const options: DemoOptions = { failure: 'kill', nodes: 3, sessions: 2, seed: 7, json: true, canary: undefined }

/** One session of the failed node `a`, recovered by `b` so long after the failure. */
function recoveredSession(id: string, atMs: number): { ledger: SessionLedger; state: SessionState } {
  const ledger = new SessionLedger(id)
  ledger.ask('one')
  const first = applied(undefined, 'one', 'a')
  ledger.acknowledge('a', first, 900)
  ledger.fail('a')
  ledger.ask('two')
  const state = applied(first, 'two', 'b')
  ledger.acknowledge('b', state, 1000 + atMs)
  return { ledger, state }
}

function evidence(more: Partial<Evidence> = {}): Evidence {
  const ledgers = [recoveredSession('s1', 80).ledger, recoveredSession('s2', 200).ledger]
  const observations = { detected: { by: 'b', atMs: 1051.26, verdict: 'os-stalled' }, recovered: { by: 'b', atMs: 1060, sessions: 2 } }
  return { options, failedNode: 'a', failedAtMs: 1000, ledgers, halfWritten: ['s2'], observations, longestWaitMs: 120, woken: undefined, ...more }
}

describe('the judgement', () => {
  it('is ok where every session of the failed node was served on, and nothing else was found', () => {
    expect(judge(evidence())).toEqual({
      ok: true, faults: [], failure: 'kill', canary: null, nodes: 3, seed: 7, sessions: 2, requests: 4, failedNode: 'a', failedSessions: 2,
      recovered: 2, lost: 0, servedTwice: 0, invented: 0, halfWritten: { planted: 1, discarded: 1 }, verdict: 'os-stalled', detectedBy: 'b',
      recoveredBy: 'b', detectMs: 51.3, recoverMs: 60, firstClientMs: 80, lastClientMs: 200, longestWaitMs: 120, woken: null,
    })
  })

  it('notices a session that was lost', () => {
    const { ledger } = recoveredSession('s1', 80)
    ledger.audit([])
    expect(judge(evidence({ ledgers: [ledger] }))).toMatchObject({ ok: false, lost: 1, recovered: 0 })
  })

  it('notices a session that was served twice', () => {
    const { ledger, state } = recoveredSession('s1', 80)
    ledger.audit([{ node: 'b', state }, { node: 'c', state }])
    expect(judge(evidence({ ledgers: [ledger] }))).toMatchObject({ ok: false, servedTwice: 1, faults: ['1 sessions were served twice', 'session s1: b and c both serve it'] })
  })

  it('notices a state that nobody made, and does not count its half-written commit as discarded', () => {
    const { ledger } = recoveredSession('s2', 80)
    ledger.broken('b', 'PAYLOAD_INVALID')
    expect(judge(evidence({ ledgers: [ledger] }))).toMatchObject({ ok: false, invented: 1, recovered: 0, halfWritten: { planted: 1, discarded: 0 } })
  })

  it('notices a session that nobody serves again', () => {
    const ledger = new SessionLedger('s3')
    ledger.ask('one')
    ledger.acknowledge('a', applied(undefined, 'one', 'a'), 900)
    ledger.fail('a')
    expect(judge(evidence({ ledgers: [recoveredSession('s1', 80).ledger, ledger] }))).toMatchObject({ ok: false, recovered: 1, failedSessions: 2, faults: ['1 of 2 sessions were not recovered'] })
  })

  it('is not ok where the experiment was none: no verdict, no sessions, nothing half-written', () => {
    expect(judge(evidence({ observations: {} }))).toMatchObject({ ok: false, detectMs: null, recoverMs: null, faults: ['nobody saw the failure', 'nobody announced the recovery of its sessions'] })
    expect(judge(evidence({ ledgers: [] })).faults).toContain('the failed node had no sessions')
    expect(judge(evidence({ halfWritten: [] })).ok).toBe(true)
    expect(judge(evidence({ halfWritten: [], options: { ...options, canary: 'crc' } })).faults).toEqual(['no half-written commit could be planted before the node was fenced'])
  })
})

describe('the summary', () => {
  const plain = (_: unknown, text: string): string => text

  it('says what happened in words', () => {
    const text = summaryText(judge(evidence({ woken: { refused: 9, acknowledged: 0 } })), plain)
    expect(text).toContain('Node a was killed while it served 2 of 2 sessions.')
    expect(text).toContain('after 51.3 ms by b: os-stalled')
    expect(text).toContain('refused 9 requests')
    expect(text).toContain('OK: nothing was lost, served twice or invented.')
    expect(text).toContain('backdoors demo --failure kill --nodes 3 --sessions 2 --seed 7\n')
  })

  it('says why it failed, and which safeguard was off', () => {
    const text = summaryText(judge(evidence({ options: { ...options, canary: 'crc' }, observations: {} })), plain)
    expect(text).toContain('FAILED: nobody saw the failure')
    expect(text).toContain('--canary crc')
  })
})
