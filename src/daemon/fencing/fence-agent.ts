/**
 * Fence agents by the conventions of clusters (ClusterLabs' "Fence Agent API"): one `name=value` a line on standard input,
 * `action` and the node among them, and exit status 0 where the node is fenced. Debian's package `fence-agents` has many.
 *
 * What an option holds may be a secret: values go to standard input alone, and are blotted out of what the agent prints.
 */
import { BackdoorsError } from '../../errors.js'
import { runProgram, type ProgramEnd, type Tail } from '../child-program.js'
import type { AgentFence } from './fence-config.js'

/** `monitor` asks the fencing device whether it can be reached, and does nothing to anybody. */
export type FenceAction = AgentFence['action'] | 'monitor'

const keptCharacters = 4096
const blot = '***'
/** Shorter values stand in ordinary words and numbers; they are blotted out only where their option's name stands before. */
const shortestSecretCharacters = 4
const adminFolders = ['/usr/sbin', '/sbin']

/** The options for `node` as text, without those that the daemon sets by itself. */
function optionsFor({ options, nodes }: AgentFence, node: string): [name: string, value: string][] {
  return Object.entries({ ...options, ...nodes[node] }).map(([name, value]) => [name, typeof value === 'boolean' ? (value ? '1' : '0') : value])
}

/** What the agent reads. The last value of a name counts, so what decides who is fenced comes last. */
export function agentInput(fence: AgentFence, action: FenceAction, node: string): string {
  const own: [string, string][] = [['nodename', node], [fence.plugOption, fence.plugs[node] ?? node], ['action', action]]
  return [...optionsFor(fence, node), ...own].map(([name, value]) => `${name}=${value}\n`).join('')
}

/**
 * Runs the agent once.
 * @returns its exit status, and the last 4 KiB that it printed to each output, without the values of its options
 */
export async function callAgent(fence: AgentFence, action: FenceAction, node: string): Promise<{ end: ProgramEnd; output: string }> {
  const secrets = optionsFor(fence, node)
  const longest = Math.max(0, ...secrets.map(([, value]) => value.length))
  const path = [process.env['PATH'], ...adminFolders].filter((folder) => folder).join(':')
  const end = await runProgram({
    program: fence.agent, input: agentInput(fence, action, node), env: { ...process.env, PATH: path },
    timeoutMs: fence.timeoutMs, keptCharacters: keptCharacters + longest,
  })
  const output = [end.stdout, end.stderr].map((tail) => withoutSecrets(tail, secrets, longest).trim()).filter((text) => text !== '').join('\n')
  return { end, output }
}

/** A value that was cut in two at the beginning of what is kept lies in the first characters, which are dropped. */
function withoutSecrets({ text, isCut }: Tail, secrets: readonly (readonly [string, string])[], longest: number): string {
  const byLength = [...secrets].sort(([, a], [, b]) => b.length - a.length)
  const clean = byLength.reduce(
    (rest, [name, value]) => (value.length >= shortestSecretCharacters ? rest.replaceAll(value, blot) : value ? rest.replaceAll(`${name}=${value}`, `${name}=${blot}`) : rest),
    text,
  )
  return isCut ? clean.slice(longest) : clean
}

/**
 * Fences `node` and waits until that is done.
 * @returns what the agent printed
 * @throws BackdoorsError FENCE_FAILED: the agent is not there, exits with another status than 0, or takes too long (then it
 * is killed, with all that it has started). Time-outs are failures: nobody knows what has become of the node.
 */
export async function fenceByAgent(fence: AgentFence, node: string): Promise<string> {
  const { end, output } = await callAgent(fence, fence.action, node)
  if (end.status === 0) return output
  const isMissing = (end.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
  const why = isMissing ? 'there is no such agent on this machine (Debian: apt-get install fence-agents)' : end.how
  throw new BackdoorsError('FENCE_FAILED', `${fence.agent}, action ${fence.action}, node ${node}: ${why}${output ? `: ${output}` : ''}`, { peer: node, cause: end.cause })
}
