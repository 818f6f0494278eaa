/** Runs one scenario from beginning to end, and tells whether every invariant held. */
import { Cluster } from './cluster.js'
import type { Violation } from './ledger.js'
import type { Scenario } from './scenario.js'
import { SettledMoments, settlement, type Settlement } from './settled.js'
import { ms, timing } from './timing.js'

/** So often it is looked whether the cluster is settled, and whether an invariant has been broken; in microseconds. */
const sliceUs = 100 * ms
/** What is settled must stay so for as long. */
const calmUs = 300 * ms

export interface Outcome {
  readonly scenario: Scenario
  readonly ok: boolean
  readonly violations: readonly Violation[]
  /** SHA-256 over everything that happened: the same scenario gives the same. */
  readonly hash: string
  readonly virtualMs: number
  /** Faults that struck, recoveries that ended, commits that were acknowledged. */
  readonly faults: number
  readonly recoveries: number
  /** Nodes that joined, and that left in order. */
  readonly joined: number
  readonly left: number
  readonly commits: number
  readonly excused: number
  readonly story: readonly (readonly [atUs: number, what: string])[]
}

export async function runScenario(scenario: Scenario): Promise<Outcome> {
  const cluster = new Cluster(scenario)
  const { ledger } = cluster
  let excused = 0
  try {
    excused = await runToTheEnd(cluster, scenario)
  } catch (error) {
    // What no process may throw is a failure of this seed, and not the end of all others.
    ledger.violate('crashed', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  for (const { invariant, what } of ledger.violations) cluster.tell(`BROKEN ${invariant}: ${what}`)
  return outcomeOf(scenario, cluster, excused)
}

/** @returns how many sessions are excused in the end */
async function runToTheEnd(cluster: Cluster, scenario: Scenario): Promise<number> {
  const { simulation, ledger } = cluster
  const isBroken = (): boolean => ledger.violations.length > 0
  const settledMoments = new SettledMoments(cluster, scenario.watched)
  const advance = async (): Promise<void> => {
    await simulation.advance(sliceUs)
    if (!isBroken()) settledMoments.look()
  }
  while (!isBroken() && simulation.now() < timing.healedUs) await advance()
  cluster.faults.end()
  cluster.network.mendAll()
  cluster.members.mend()
  cluster.tell('no more faults')
  let last: Settlement = { debts: [], excused: 0 }
  let calmSinceUs: number | undefined
  while (!isBroken() && simulation.now() < timing.limitUs) {
    last = settlement(cluster, scenario.watched)
    if (last.debts.length > 0) calmSinceUs = undefined
    else if (simulation.now() - (calmSinceUs ??= simulation.now()) >= calmUs) break
    await advance()
  }
  for (const { invariant, what } of isBroken() ? [] : last.debts) ledger.violate(invariant, what)
  return last.excused
}

function outcomeOf(scenario: Scenario, { simulation, ledger, faults, recoveries, joined, left, story, hosts, clients }: Cluster, excused: number): Outcome {
  const commits = [...ledger.sessions.values()].reduce((sum, { acknowledged }) => sum + acknowledged, 0)
  for (const client of clients) client.stop()
  for (const host of hosts) host.die(Infinity)
  return {
    scenario, ok: ledger.violations.length === 0, violations: ledger.violations, hash: simulation.trace.hash,
    virtualMs: simulation.now() / ms, faults: faults.struck, recoveries, joined: joined.length, left, commits, excused, story,
  }
}
