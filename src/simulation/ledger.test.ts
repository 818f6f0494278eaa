import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { Ledger, type Holder, type Invariant } from './ledger.js'
import { payloadOf, valueOf } from './payload.js'
import { RegionLife } from './region-life.js'

function setUp(): { ledger: Ledger; holder: (name: string) => Holder; broken: () => Invariant[] } {
  const simulation = new Simulation(1)
  const holders: Holder[] = []
  const ledger = new Ledger(simulation.now, () => holders)
  const holder = (name: string): Holder => {
    const made = { name, life: new RegionLife(simulation, name, BigInt(holders.length + 1)), box: 1, generation: 1, alive: true, holds: () => true }
    holders.push(made)
    return made
  }
  return { ledger, holder, broken: () => ledger.violations.map(({ invariant }) => invariant) }
}

describe('the ledger', () => {
  it('finds nothing wrong with what is as it should be', () => {
    const { ledger, holder, broken } = setUp()
    const a = holder('a')
    ledger.begin('s', a.life, 1)
    ledger.trying('s', 2)
    ledger.acknowledged('s', 2, a)
    ledger.checkHolders('s')
    expect(ledger.served('s', payloadOf('s', 2), a)).toBe(2)
    expect(broken()).toEqual([])
  })

  it('tells a commit that is acknowledged after the fence', () => {
    const { ledger, holder, broken } = setUp()
    const a = holder('a')
    ledger.begin('s', a.life, 1)
    a.life.raiseFence(1, 1)
    ledger.acknowledged('s', 2, a)
    expect(broken()).toEqual(['acknowledged-after-fence'])
  })

  it('tells an older state than was acknowledged, a later one than was tried, and bytes of two states', () => {
    const { ledger, holder, broken } = setUp()
    const a = holder('a')
    ledger.begin('s', a.life, 1)
    ledger.trying('s', 3)
    ledger.acknowledged('s', 3, a)
    ledger.served('s', payloadOf('s', 2), a)
    ledger.served('s', payloadOf('s', 4), a)
    const mixed = payloadOf('s', 3)
    mixed.set(payloadOf('s', 2).subarray(4, 12), 4)
    expect(valueOf('s', mixed)).toBeUndefined()
    ledger.served('s', mixed, a)
    ledger.served('another', payloadOf('another', 1), a)
    expect(broken()).toEqual(['lost', 'never-committed', 'never-committed', 'never-committed'])
  })

  it('tells two that serve one session, unless one is fenced or dead', () => {
    const { ledger, holder, broken } = setUp()
    const a = holder('a')
    const b = holder('b')
    ledger.begin('s', a.life, 1)
    ledger.checkHolders('s')
    expect(broken()).toEqual(['served-twice'])
    b.life.raiseFence('node', 1)
    ledger.checkHolders('s')
    expect(broken()).toEqual(['served-twice'])
  })
})
