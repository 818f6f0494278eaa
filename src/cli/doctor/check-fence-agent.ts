/** Does the fencing device answer? Better asked now than when a node is to be fenced. */
import type { DaemonConfig } from '../../daemon/config.js'
import { callAgent } from '../../daemon/fencing/fence-agent.js'
import { isAgentFence } from '../../daemon/fencing/fence-config.js'
import type { Finding } from './finding.js'

/** Exit status of `monitor` where the device answers, and its one outlet is off. */
const isOff = 2

/** One finding where a fence agent is configured, and none otherwise. */
export async function checkFenceAgent({ recovery: { fence }, peers }: Pick<DaemonConfig, 'recovery' | 'peers'>): Promise<Finding[]> {
  if (fence === undefined || !isAgentFence(fence)) return []
  const about = { check: 'fence-agent', why: 'A node that cannot be fenced is not recovered where fencing is required; where it is not, it may go on answering.' }
  const names = peers.map(({ name }) => name)
  // One device for all, or one for each.
  const asked = Object.keys(fence.nodes).length > 0 ? names : names.slice(0, 1)
  if (asked.length === 0) return [{ ...about, severity: 'warn', seen: `${fence.agent}: no peer is known from the configuration, so the device was not asked`, mend: 'Call the agent by hand (docs/fencing-and-addresses.md).' }]
  const answers = await Promise.all(asked.map(async (node) => ({ node, ...(await callAgent(fence, 'monitor', node)) })))
  const silent = answers.filter(({ end }) => end.status !== 0 && end.status !== isOff)
  if (silent.length === 0) return [{ ...about, severity: 'ok', seen: `${fence.agent}: the device answers${asked.length > 1 ? ` for ${asked.join(', ')}` : ''}` }]
  const seen = silent.map(({ node, end, output }) => `${fence.agent}, action monitor, node ${node}: ${end.how}${output ? `: ${output}` : ''}`).join('; ')
  return [{ ...about, severity: fence.required ? 'bad' : 'warn', seen, mend: 'Debian: apt-get install fence-agents; then see that address, name and password in recovery.fence are right, and call the agent by hand (docs/fencing-and-addresses.md).' }]
}
