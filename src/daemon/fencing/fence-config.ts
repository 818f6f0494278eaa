/** The configuration of fencing beyond the fence word: a command of the operator's, or an agent as clusters have them. */
import { z } from 'zod'

/** A program and its arguments; no shell is involved. */
export const command = z.array(z.string().min(1)).min(1).describe('A program and its arguments; no shell is involved.')
export const timeoutMs = z.number().positive().max(3_600_000)

const common = {
  required: z.boolean().default(true),
  /** Once it has succeeded, nothing that the node's kernel sends reaches a client: it stops the machine, or cuts it off their network. */
  silences: z.boolean().default(false),
  timeoutMs: timeoutMs.default(30_000),
}

/** A kernel that may run on must not go on with connections that this machine goes on with. */
const isRequiredIfItSilences = ({ required, silences }: { readonly required: boolean; readonly silences: boolean }): boolean => required || !silences
const butIsNot = { path: ['silences'], error: 'needs required: true, or nobody knows whether the node is silent' }

const commandFence = z.strictObject({ command, ...common }).refine(isRequiredIfItSilences, butIsNot)

/** Set by the daemon itself, for each call. */
const ownOptions = ['action', 'option', 'nodename', 'plug', 'port', 'agent']

const optionName = z.string()
  .regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, 'must be the name of an option as it stands on an agent\'s standard input: letters, digits, _ and -')
  .refine((name) => !ownOptions.includes(name), 'is set by the daemon (see action, plugs, plugOption)')

/** Numbers are refused, for YAML would take the leading zeros off a password. */
const optionValue = z.union([z.string().regex(/^[^\r\n\0]*$/, 'must be one line'), z.boolean()], 'must be text of one line (numbers in quotes) or true or false')

const options = z.record(optionName, optionValue).default({})

const agentFence = z.strictObject({
  /** A program by its name, as in /usr/sbin, or by its path. */
  agent: z.string().regex(/^(fence_[A-Za-z0-9_.-]+|\/[^\0]*[^/\0])$/, 'must be the name of a fence agent (fence_…) or an absolute path'),
  action: z.enum(['off', 'reboot']).default('off'),
  /** For all nodes. */
  options,
  /** For one node, beside or in the stead of those for all: each has a management board of its own, for example. */
  nodes: z.record(z.string(), options).default({}),
  /** What the agent calls each node: an outlet, a virtual machine. Default: the node's own name. */
  plugs: z.record(z.string(), z.string().regex(/^[^\r\n\0]+$/, 'must be text of one line')).default({}),
  /** The option that takes it; some older agents know only `port`. */
  plugOption: z.enum(['plug', 'port']).default('plug'),
  ...common,
}).refine(isRequiredIfItSilences, butIsNot)

export type CommandFence = z.output<typeof commandFence>
export type AgentFence = z.output<typeof agentFence>
export type FenceConfig = CommandFence | AgentFence

export const isAgentFence = (fence: FenceConfig): fence is AgentFence => 'agent' in fence

/** Which of the two is meant shows in the key `agent`, so that a fault is told of that one, by its path. */
export const fenceSchema = z.unknown().transform((input, context) => {
  const isAgent = typeof input === 'object' && input !== null && 'agent' in input
  const parsed = (isAgent ? agentFence : commandFence).safeParse(input)
  if (parsed.success) return parsed.data
  context.issues.push(...(parsed.error.issues as unknown as typeof context.issues))
  return z.NEVER
}) as unknown as z.ZodType<FenceConfig, z.input<typeof commandFence> | z.input<typeof agentFence>>

/** @returns the key that names no peer, where there is one: a mistyped name would leave a node unfenced */
export function strangerIn(fence: FenceConfig, isPeer: (name: string) => boolean): string | undefined {
  if (!isAgentFence(fence)) return undefined
  for (const key of ['plugs', 'nodes'] as const) {
    const stranger = Object.keys(fence[key]).find((name) => !isPeer(name))
    if (stranger !== undefined) return `recovery.fence.${key}.${stranger}`
  }
  return undefined
}
