/** Whole clusters under drawn faults: they hold what they promise, the same seed is the same run, and a missing safeguard is missed. */
import { describe, expect, it } from 'vitest'
import type { Canary } from '../safeguards.js'
import type { Invariant } from './ledger.js'
import { runScenario, type Outcome } from './run.js'
import { drawScenario, faultKinds, steadyKinds, type FaultKind, type Scenario } from './scenario.js'
import { runSeeds } from './seeds.js'
import { shrink } from './shrink.js'
import { storyOf } from './story.js'

const ms = 1000

async function run(first: number, count: number, scenario: Parameters<typeof drawScenario>[1] = {}): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for await (const outcome of runSeeds({ first, count, scenario, jobs: 1 })) outcomes.push(outcome)
  return outcomes
}

/** The first of so many seeds that breaks an invariant without this safeguard. */
async function caught(canary: Canary, within: number, kinds: readonly FaultKind[] = faultKinds): Promise<Outcome | undefined> {
  for (let seed = 1; seed <= within; seed++) {
    const outcome = await runScenario(drawScenario(seed, { canary, kinds }))
    if (!outcome.ok) return outcome
  }
  return undefined
}

const broken = (outcome: Outcome | undefined): Invariant | undefined => outcome?.violations[0]?.invariant

/** Two machines more than fail, and what befalls the first. */
const withFaults = (faults: Scenario['faults']): Scenario => ({ seed: 9, nodes: 3, watched: 2, sessions: 6, faults, fencing: null })
const fault = (kind: FaultKind, atMs: number, lastsMs: number | null): Scenario['faults'][number] => ({ kind, when: { atUs: atMs * ms }, who: 0, other: 0, lastsUs: lastsMs === null ? null : lastsMs * ms, midCommit: null })

describe('a simulated cluster', () => {
  it('keeps its promises in 50 seeds, in which there is much to recover', async () => {
    const outcomes = await run(1, 50)
    expect(outcomes.filter(({ ok }) => !ok).map(storyOf)).toEqual([])
    const total = (key: 'faults' | 'recoveries' | 'commits' | 'joined' | 'left'): number => outcomes.reduce((sum, outcome) => sum + outcome[key], 0)
    expect(total('faults')).toBeGreaterThan(100)
    expect(total('recoveries')).toBeGreaterThan(30)
    expect(total('commits')).toBeGreaterThan(10_000)
    expect(total('joined')).toBeGreaterThan(5)
    expect(total('left')).toBeGreaterThan(2)
  }, 120_000)

  it('is the same run at the same seed, bit for bit, and another at another', async () => {
    const [first, again, other] = [(await run(7, 1))[0], (await run(7, 1))[0], (await run(8, 1))[0]]
    expect(again).toEqual(first)
    expect(other?.hash).not.toBe(first?.hash)
  })

  it('without faults recovers nobody, and all is served', async () => {
    expect(await runScenario(withFaults([]))).toMatchObject({ ok: true, recoveries: 0, excused: 0 })
  })

  it('recovers a machine that stops, and puts up with its waking', async () => {
    expect(await runScenario(withFaults([fault('stop-machine', 400, 500)]))).toMatchObject({ ok: true, recoveries: 1, excused: 0 })
  })

  it('recovers a machine that stops after its daemon had stalled', async () => {
    expect(await runScenario(withFaults([fault('stall-daemon', 400, 3000), fault('stop-machine', 700, null)]))).toMatchObject({ ok: true, recoveries: 1, excused: 0 })
  })

  it('fences nobody whose daemon dies or whose links are cut', async () => {
    const faults = [fault('kill-daemon', 400, 300), { ...fault('cut-link', 900, 300), other: 1 }]
    expect(await runScenario(withFaults(faults))).toMatchObject({ ok: true, recoveries: 0, excused: 0 })
  })
})

describe('the last machine that is up', () => {
  it('owes nobody what it has offered to a server that hangs: nobody is left to fence that one (seed 200226)', async () => {
    const outcome = await runScenario({ ...drawScenario(200226, { kinds: steadyKinds }), fencing: null })
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
  }, 60_000)
})

describe('what is held against a cluster', () => {
  it('is not that a process which has just been woken has the rest of a commit to write yet (seed 403731)', async () => {
    const outcome = await runScenario(drawScenario(403731, { kinds: steadyKinds }))
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
  }, 60_000)

  it('is not that fencing from outside fails where it is not required, and the recovery goes on (seed 404335)', async () => {
    const outcome = await runScenario(drawScenario(404335, { kinds: steadyKinds }))
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
    expect(outcome.story.some(([, what]) => what.includes('cannot fence'))).toBe(true)
  }, 60_000)

  it('is not what a fault does that strikes when there are to be none any more (seed 401018)', async () => {
    const outcome = await runScenario(drawScenario(401018, { kinds: steadyKinds }))
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
  }, 60_000)
})

describe('fencing from outside', () => {
  const fencing = { required: true, takesUs: 20 * ms, failures: 0 }
  const toldIn = ({ story }: Outcome, words: RegExp): string[] => story.flatMap(([, what]) => (words.test(what) ? [what] : []))

  it('befalls nobody who has lost one link: who else reaches it is asked', async () => {
    const outcome = await runScenario({ ...withFaults([{ ...fault('cut-link', 400, 1000), other: 1 }]), fencing })
    expect(outcome).toMatchObject({ ok: true, recoveries: 0, excused: 0 })
    expect(toldIn(outcome, /says . is/).map((what) => what.split(':')[0])).toEqual([
      'a says b is link-cut', 'b says a is link-cut', 'a says b is daemon-lost', 'b says a is daemon-lost', 'b says a is alive', 'a says b is alive',
    ])
    expect(toldIn(outcome, /from outside/)).toEqual([])
  })

  it('befalls a machine that nobody reaches, by all who have found it so', async () => {
    const outcome = await runScenario({ ...withFaults([fault('kill-machine', 400, null)]), fencing })
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
    expect(toldIn(outcome, /from outside/).sort()).toEqual(['b/daemon has fenced a from outside: its clients cannot reach it', 'c/daemon has fenced a from outside: its clients cannot reach it'])
  })

  it('that is required and fails is tried again, and the recovery with it', async () => {
    const outcome = await runScenario({ ...withFaults([fault('stop-machine', 400, null)]), fencing: { ...fencing, failures: 2 } })
    expect(outcome).toMatchObject({ ok: true, recoveries: 1, excused: 0 })
    expect(toldIn(outcome, /from outside/)).toHaveLength(4)
  })
})

describe('a recoverer that stops in the midst of it', () => {
  it.each([
    ['as its claim on a node comes to say adopted, and nobody reaches both memories', 48201, 6],
    ['as its claim on a server does, before its own machine is recovered by that server\'s', 42375, 2],
    ['as its claim does, and those who see it never had a link to its recoverer', 64387, 1],
    ['between adopted and announced', 63506, 3],
  ])('%s, costs no session (seed %i)', async (_, seed, sessions) => {
    const outcome = await runScenario({ ...drawScenario(seed, { sessions, kinds: steadyKinds }), fencing: null })
    expect(outcome.ok ? '' : storyOf(outcome)).toBe('')
    expect(outcome.recoveries).toBe(2)
  }, 60_000)

  it('is retried by a link that has lost operations, once that is mended (seed 66887)', async () => {
    expect(await runScenario({ ...drawScenario(66887, { kinds: steadyKinds }), fencing: null })).toMatchObject({ ok: true, recoveries: 3 })
  }, 60_000)
})

describe('a safeguard that is switched off', () => {
  it('is missed: the fence', async () => {
    expect(broken(await caught('fence', 20, steadyKinds))).toBe('acknowledged-after-fence')
  }, 60_000)

  it('is missed: the claim', async () => {
    expect(broken(await caught('claim', 20))).toBe('served-twice')
  }, 60_000)

  it('is missed: the CRC', async () => {
    expect(broken(await caught('crc', 60, ['rot', 'stop-machine', 'hang-server']))).toBe('never-committed')
  }, 60_000)
})

describe('a scenario that fails', () => {
  it('is made smaller, and tells a story that ends with what was broken', async () => {
    const failed = await caught('claim', 20)
    if (failed === undefined) throw new Error('nothing to shrink')
    const { outcome, runs } = await shrink(failed, (scenario) => runScenario(scenario), 40)
    expect(broken(outcome)).toBe('served-twice')
    expect(runs).toBeLessThanOrEqual(40)
    expect(outcome.scenario.faults.length).toBeLessThanOrEqual(2)
    expect(outcome.scenario.sessions).toBeLessThan(failed.scenario.sessions)
    expect(outcome.story.length).toBeLessThan(failed.story.length)
    expect(storyOf(outcome)).toMatch(/BROKEN served-twice: s\d+ is served by [^\n]* and neither is fenced\ntrace [0-9a-f]{64}$/)
  }, 60_000)
})
