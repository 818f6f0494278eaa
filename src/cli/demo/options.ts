/** What `backdoors demo` can be asked for. */
import { BackdoorsError } from '../../errors.js'
import { canaries, type Canary } from '../../safeguards.js'

export const failures = ['kill', 'stop'] as const
/** `kill`: the node's processes are killed. `stop`: they are frozen, and woken again when others have their sessions. */
export type Failure = (typeof failures)[number]

export interface DemoOptions {
  readonly failure: Failure
  readonly nodes: number
  readonly sessions: number
  readonly seed: number
  readonly json: boolean
  readonly canary: Canary | undefined
}

/** As the command line gives them. */
export interface DemoFlags {
  readonly failure?: string
  readonly nodes: string
  readonly sessions: string
  readonly seed?: string
  readonly json?: boolean
  readonly canary?: string
}

const invalid = (field: string, message: string): BackdoorsError => new BackdoorsError('INVALID_ARGUMENT', `--${field} ${message}`, { field })

function wholeNumber(field: string, text: string, low: number, high: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= low && value <= high) return value
  throw invalid(field, `takes a whole number from ${low} to ${high}, not ${JSON.stringify(text)}.`)
}

function oneOf<T extends string>(field: string, text: string, values: readonly T[]): T {
  const found = values.find((value) => value === text)
  if (found !== undefined) return found
  throw invalid(field, `takes ${values.join(', ')}, not ${JSON.stringify(text)}.`)
}

/** @throws BackdoorsError INVALID_ARGUMENT */
export function parseFlags(flags: DemoFlags, randomSeed: () => number): DemoOptions {
  const canary = flags.canary === undefined ? undefined : oneOf('canary', flags.canary, canaries)
  // Without the fence a node that comes back serves on; one that was killed does not come back.
  const failure = oneOf('failure', flags.failure ?? (canary === 'fence' ? 'stop' : 'kill'), failures)
  if (canary === 'fence' && failure === 'kill') throw invalid('canary', 'fence needs --failure stop: a killed node serves nobody, fenced or not.')
  const nodes = wholeNumber('nodes', flags.nodes, 2, 8)
  if (canary === 'claim' && nodes < 3) throw invalid('canary', 'claim needs --nodes 3 or more: two have to claim the same node.')
  const sessions = wholeNumber('sessions', flags.sessions, nodes, 10_000)
  const seed = flags.seed === undefined ? randomSeed() : wholeNumber('seed', flags.seed, 0, Number.MAX_SAFE_INTEGER)
  return { failure, nodes, sessions, seed, json: flags.json === true, canary }
}
