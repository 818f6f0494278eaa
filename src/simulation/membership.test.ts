/** Nodes come and go, and for a while each knows others: who is a member is watched and recovered, and who is none is left alone. */
import { describe, expect, it } from 'vitest'
import { runScenario, type Outcome } from './run.js'
import { drawScenario, memberKinds, steadyKinds, type Fault, type FaultKind, type Scenario, type Trigger } from './scenario.js'
import { shrink } from './shrink.js'
import { storyOf } from './story.js'
import { timing } from './timing.js'

const ms = 1000

const at = (atMs: number): Trigger => ({ atUs: atMs * ms })
const fault = (kind: FaultKind, when: Trigger, more: Partial<Fault> = {}): Fault => ({ kind, when, who: 0, other: 0, lastsUs: null, midCommit: null, ...more })
const withFaults = (faults: readonly Fault[], more: Partial<Scenario> = {}): Scenario => ({ seed: 9, nodes: 3, watched: 2, sessions: 6, faults, fencing: null, ...more })

async function run(faults: readonly Fault[], more: Partial<Scenario> = {}): Promise<Outcome> {
  const outcome = await runScenario(withFaults(faults, more))
  expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
  return outcome
}

const toldIn = ({ story }: Outcome, words: RegExp): string[] => story.flatMap(([, what]) => (words.test(what) ? [what] : []))
/** Whom each machine came to know of, in the end. */
function knownIn(outcome: Outcome): Record<string, string> {
  return Object.fromEntries(toldIn(outcome, / knows of /).map((what) => what.split(' knows of ') as [string, string]))
}

describe('a node that joins', () => {
  const join = fault('join', at(400), { withinUs: 200 * ms })

  it('is heard of by each at another time, and its servers serve sessions', async () => {
    const outcome = await run([join])
    expect(outcome).toMatchObject({ joined: 1, recoveries: 0, excused: 0 })
    expect(knownIn(outcome)).toEqual({ a: 'b, c, d', b: 'a, c, d', c: 'a, b, d' })
    const times = outcome.story.filter(([, what]) => what.includes(' knows of ')).map(([atUs]) => atUs)
    expect(new Set(times).size).toBe(3)
  })

  it('is recovered when it fails, with all its sessions', async () => {
    const outcome = await run([join, fault('stop-machine', at(1100), { who: 'joined' })])
    expect(outcome).toMatchObject({ joined: 1, recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /has done with d \(the node\): announced/)).toEqual([expect.stringMatching(/4 adopted$/)])
  })

  it('watches others, and sees them fail', async () => {
    const outcome = await run([join, fault('stop-machine', at(1100))], { nodes: 2, watched: 1 })
    expect(outcome).toMatchObject({ joined: 1, recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /^c says a is os-stalled/)).toHaveLength(1)
  })

  it.each(['suspected', 'claimed', 'extracted', 'adopted', 'announced'] as const)('while another is being recovered, at %s, disturbs nothing', async (step) => {
    const outcome = await run([fault('stop-machine', at(400)), fault('join', { step, nth: 1, afterUs: 0 }, { withinUs: 100 * ms })])
    expect(outcome).toMatchObject({ joined: 1, recoveries: 1, excused: 0 })
  })
})

describe('a node that leaves in order', () => {
  const leave = fault('leave', at(400), { withinUs: 300 * ms })

  it('is neither condemned, recovered nor fenced, and serves on', async () => {
    const outcome = await run([leave], { nodes: 4, sessions: 8, fencing: { required: false, takesUs: 10 * ms, failures: 0 } })
    expect(outcome).toMatchObject({ left: 1, recoveries: 0, excused: 0 })
    expect(toldIn(outcome, /says a is (?!daemon-lost)|from outside|suspected/)).toEqual([])
    expect(knownIn(outcome)).toEqual({ b: 'c, d', c: 'b, d', d: 'b, c' })
  })

  it('takes none of those with it that it watched: they are watched by others', async () => {
    const outcome = await run([leave, fault('stop-machine', at(1200), { who: 1 })], { nodes: 4, sessions: 8 })
    expect(outcome).toMatchObject({ left: 1, recoveries: 1, excused: 0 })
  })

  it('comes back, and is recovered when it fails', async () => {
    const outcome = await run([{ ...leave, lastsUs: 300 * ms }, fault('stop-machine', at(1300))])
    expect(outcome).toMatchObject({ left: 1, recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /^a is back/)).toHaveLength(1)
  })

  it('is missed from the time on at which it is told to: another that cannot be spared besides stays', async () => {
    const leaves = (['suspect', 'recoverer', 'suspect'] as const).map((who, i) => fault('leave', { step: 'fenced', nth: 1, afterUs: 7 + i }, { who }))
    const outcome = await run([fault('kill-server', at(375)), ...leaves])
    expect(outcome).toMatchObject({ left: 1, recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /spared|has left/)).toEqual([expect.stringMatching(/^[bc] cannot be spared$/), 'a cannot be spared', 'a has left in order'])
  })

  it('does so at no time after the last fault, be it on its way by then', async () => {
    const outcome = await run([{ ...leave, when: { atUs: timing.healedUs + 1 } }, fault('stop-machine', at(400)), fault('join', { step: 'claimed', nth: 1, afterUs: timing.healedUs - 400 * ms }, { withinUs: 0 })], { nodes: 4 })
    expect(outcome).toMatchObject({ left: 0, joined: 0, recoveries: 1 })
    expect(toldIn(outcome, /FAULT/)).toHaveLength(1)
  })

  it('ends what it recovers first', async () => {
    const outcome = await run([fault('stop-machine', at(400)), fault('leave', { step: 'claimed', nth: 1, afterUs: 0 }, { who: 'recoverer' })])
    expect(outcome).toMatchObject({ left: 1, recoveries: 1, excused: 0 })
    const [leaver] = toldIn(outcome, / has left in order$/).map((what) => what.charAt(0))
    expect(toldIn(outcome, /has announced a|has left/)).toEqual([`${leaver} has announced a (the node)`, `${leaver} has left in order`])
  })

  it('while one of its servers is being recovered lends its memory until that has ended', async () => {
    const outcome = await run([fault('kill-server', at(375)), fault('leave', { step: 'fenced', nth: 1, afterUs: 7 }, { who: 'suspect' })])
    expect(outcome).toMatchObject({ left: 1, recoveries: 1, excused: 0 })
  })

  it('is watched no more by one that looks out for a recovery of it, which nobody can read any more', async () => {
    const outcome = await run([fault('hang-server', at(1122)), fault('leave', { step: 'suspected', nth: 2, afterUs: 15_113 }, { who: 'suspect', withinUs: 0 })], { sessions: 1 })
    expect(outcome).toMatchObject({ left: 1, recoveries: 1 })
  })
})

describe('members that differ', () => {
  it('for a while cost nothing', async () => {
    const outcome = await run([fault('forget-member', at(400), { other: 1, lastsUs: 600 * ms })])
    expect(outcome).toMatchObject({ recoveries: 0, excused: 0 })
    expect(toldIn(outcome, / knows of /)).toEqual(['a knows of c', 'a knows of b, c'])
  })

  it('leave who is forgotten by one to be recovered by another', async () => {
    const outcome = await run([fault('forget-member', at(400), { other: 1, lastsUs: 800 * ms }), fault('stop-machine', at(700), { who: 1 })])
    expect(outcome).toMatchObject({ recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /has announced b/)).toEqual(['c has announced b (the node)'])
  })

  it('leave nobody with too few watchers behind one that has stopped, and that had cut a watcher off', async () => {
    // d stops for good when it does not know yet that b is back: b cannot read it, and c can.
    const faults = [
      fault('leave', { atUs: 391_397 }, { who: 1, lastsUs: 158 * ms, withinUs: 368_887 }),
      fault('stop-machine', { atUs: 694_516 }, { who: 3 }),
    ]
    const outcome = await run(faults, { seed: 224, nodes: 5, sessions: 1 })
    expect(toldIn(outcome, /^b says d is link-cut/)).toHaveLength(1)
  })
})

describe('a scenario with members that change', () => {
  it('is the same run each time, bit for bit', async () => {
    const scenarios = Array.from({ length: 40 }, (_, seed) => drawScenario(seed)).filter(({ faults }) => faults.some(({ kind }) => kind === 'join'))
    const [scenario] = scenarios as [Scenario]
    expect(await runScenario(scenario)).toEqual(await runScenario(scenario))
  })

  it('is what its seed was before, with the changes in addition', () => {
    const differing = Array.from({ length: 200 }, (_, seed) => {
      const [steady, all] = [drawScenario(seed, { kinds: steadyKinds }), drawScenario(seed)]
      expect({ ...all, faults: all.faults.slice(0, steady.faults.length) }).toEqual(steady)
      return all.faults.length > steady.faults.length
    })
    expect(differing.filter((differs) => differs).length).toBeGreaterThan(50)
    expect(differing.filter((differs) => !differs).length).toBeGreaterThan(50)
  })

  it('may have no other faults', () => {
    const kinds = Array.from({ length: 50 }, (_, seed) => drawScenario(seed, { kinds: memberKinds }).faults.map(({ kind }) => kind))
    expect(kinds.every((each) => each.length > 0)).toBe(true)
    expect(new Set(kinds.flat())).toEqual(new Set(memberKinds))
    expect(drawScenario(1, { kinds: ['leave'] }).faults.map(({ kind }) => kind)).toContain('leave')
  })

  it('is made smaller: what does not matter is left out, and what does comes all at once', async () => {
    const outcomeOf = async (scenario: Scenario): Promise<Outcome> => {
      const isBroken = scenario.faults.some(({ kind }) => kind === 'leave')
      return { ...(await runScenario({ ...scenario, faults: [] })), scenario, ok: !isBroken, violations: isBroken ? [{ invariant: 'plan', what: 'made up', atUs: 0 }] : [] }
    }
    const failed = await outcomeOf(withFaults([fault('join', at(400), { withinUs: 5 }), fault('leave', at(500), { withinUs: 300 * ms }), fault('stop-machine', at(600))]))
    const { outcome } = await shrink(failed, outcomeOf)
    expect(outcome.scenario).toMatchObject({ nodes: 2, sessions: 1, faults: [{ kind: 'leave', withinUs: 0 }] })
    expect(storyOf(outcome)).toContain('leave of a at 500000 µs, for good, in all files within 0 µs')
  })
})
