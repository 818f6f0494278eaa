/** What people read of a simulation that failed. */
import type { Outcome } from './run.js'
import { describeFault } from './scenario.js'

export function storyOf({ scenario, story, violations, hash }: Outcome): string {
  const { seed, nodes, sessions, faults, canary } = scenario
  return [
    `seed ${seed}: ${violations.length} times an invariant was broken, with ${nodes} nodes, ${sessions} sessions${canary === undefined ? '' : `, without the safeguard "${canary}"`} and these faults:`,
    ...faults.map((fault) => `    ${describeFault(fault, nodes)}`),
    'what happened, in microseconds:',
    ...story.map(([atUs, what]) => `${String(atUs).padStart(12)}  ${what}`),
    `trace ${hash}`,
  ].join('\n')
}
