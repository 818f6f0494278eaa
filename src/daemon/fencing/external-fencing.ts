/** Fencing of a whole node beyond its fence word, before it is claimed: by a command or by a fence agent. */
import type { Logger } from 'pino'
import { monotonicMs } from '../../native/clock.js'
import { fenceByAgent } from './fence-agent.js'
import { isAgentFence, type FenceConfig } from './fence-config.js'
import { runHook } from '../hooks.js'

/** @throws BackdoorsError FENCE_FAILED; who asks decides whether that ends the recovery (`required`) */
export async function fenceExternally(fence: FenceConfig, node: string, log: Logger): Promise<void> {
  const by = isAgentFence(fence) ? { agent: fence.agent, action: fence.action } : { command: fence.command[0] }
  const startedMs = monotonicMs()
  log.warn({ peer: node, ...by, timeoutMs: fence.timeoutMs }, 'fencing the node externally')
  const output = isAgentFence(fence)
    ? await fenceByAgent(fence, node)
    : await runHook('FENCE_FAILED', { ...fence, input: { action: 'fence', node }, env: { BACKDOORS_NODE: node } })
  log.warn({ peer: node, ...by, tookMs: Math.round(monotonicMs() - startedMs), output: output.trim() }, 'the node is fenced externally')
}
