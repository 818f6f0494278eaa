/** What people read of a simulation that failed. */
import type { FencingPlan } from './fencing.js'
import type { Outcome } from './run.js'
import { describeFault } from './scenario.js'

const describeFencing = ({ required, takesUs, failures }: FencingPlan): string =>
  `fencing from outside, ${required ? 'required' : 'if it can be done'}, takes ${takesUs} µs, and fails ${failures} times at first`

export function storyOf({ scenario, story, violations, hash }: Outcome): string {
  const { seed, nodes, sessions, faults, fencing, canary } = scenario
  return [
    `seed ${seed}: ${violations.length} times an invariant was broken, with ${nodes} nodes, ${sessions} sessions${canary === undefined ? '' : `, without the safeguard "${canary}"`} and these faults:`,
    ...faults.map((fault) => `    ${describeFault(fault, nodes)}`),
    ...(fencing === null ? [] : [describeFencing(fencing)]),
    'what happened, in microseconds:',
    ...story.map(([atUs, what]) => `${String(atUs).padStart(12)}  ${what}`),
    `trace ${hash}`,
  ].join('\n')
}
