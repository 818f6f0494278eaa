/** Makes a scenario that breaks an invariant smaller, as long as it still breaks the same one: fewer faults, fewer nodes, fewer sessions. */
import type { Invariant } from './ledger.js'
import type { Outcome } from './run.js'
import type { Fault, Scenario } from './scenario.js'

export interface Shrunk {
  readonly outcome: Outcome
  readonly runs: number
}

/** @param run a scenario; gives the same outcome for the same one */
export async function shrink(failed: Outcome, run: (scenario: Scenario) => Promise<Outcome>, maxRuns = 100): Promise<Shrunk> {
  const broken = failed.violations[0]?.invariant
  if (broken === undefined) return { outcome: failed, runs: 0 }
  let best = failed
  let runs = 0
  for (let smaller: Outcome | undefined = failed; smaller !== undefined;) {
    smaller = undefined
    for (const candidate of candidates(best.scenario)) {
      if (runs >= maxRuns) break
      runs++
      const outcome = await run(candidate)
      if (!breaks(outcome, broken)) continue
      smaller = outcome
      best = outcome
      break
    }
  }
  return { outcome: best, runs }
}

const breaks = ({ violations }: Outcome, invariant: Invariant): boolean => violations[0]?.invariant === invariant

/** The largest steps first. */
function* candidates(scenario: Scenario): Generator<Scenario> {
  const { faults, nodes, sessions, fencing } = scenario
  if (faults.length > 3) {
    const half = Math.floor(faults.length / 2)
    yield { ...scenario, faults: faults.slice(0, half) }
    yield { ...scenario, faults: faults.slice(half) }
  }
  for (const dropped of faults.keys()) yield { ...scenario, faults: faults.filter((_, index) => index !== dropped) }
  for (const fewer of [1, Math.floor(sessions / 2), sessions - 1]) if (fewer > 0 && fewer < sessions) yield { ...scenario, sessions: fewer }
  for (let fewer = 2; fewer < nodes; fewer++) yield { ...scenario, nodes: fewer, watched: Math.min(scenario.watched, fewer - 1) }
  if (fencing !== null) yield { ...scenario, fencing: null }
  for (const [index, fault] of faults.entries()) for (const plainer of plainerThan(fault)) yield { ...scenario, faults: faults.with(index, plainer) }
}

function plainerThan(fault: Fault): Fault[] {
  const atOnce = fault.withinUs ? [{ ...fault, withinUs: 0 }] : []
  return fault.midCommit === null ? atOnce : [{ ...fault, midCommit: null }]
}
