/** What a watcher concludes of a node and of the servers on it, and from what. */
import type { Opinion } from './second-opinion.js'

export const nodeVerdicts = ['alive', 'os-panicked', 'os-stalled', 'daemon-stalled', 'daemon-lost', 'unreachable', 'link-cut'] as const
export type NodeVerdictKind = (typeof nodeVerdicts)[number]

export const boxVerdicts = ['alive', 'app-stalled', 'app-exited'] as const
export type BoxVerdictKind = (typeof boxVerdicts)[number]

/** The enrollment's connection: the only thing heard of a machine other than its memory. */
export type ControlConnection =
  /** Heard from, and that after its memory stopped answering (if it has). */
  | 'answers'
  /** It stands, but nothing has come by it since the memory stopped answering. */
  | 'unheard'
  /** The machine ended or refused it: its kernel answers. */
  | 'reset'
  /** Nothing came back for the connection's deadline. */
  | 'silent'
  /** This fabric has none. */
  | 'none'

/** One progress sensor, as last sampled. */
export interface ObservedSensor {
  readonly name: string
  readonly counter: number
  readonly pending: number
  /** Since the counter last moved, less the time in which the watcher itself was late, in microseconds. */
  readonly ageUs: number
  readonly deadlineUs: number
  readonly stalled: boolean
}

/** A server's box, as last read. */
export interface ObservedBox {
  readonly box: number
  readonly name: string
  readonly generation: number
  /** The daemon says that this generation's process is gone. */
  readonly exited: boolean
  readonly sensors: readonly ObservedSensor[]
}

/** What a kernel's own variables say, where its whole memory can be read. In words, for the evidence. */
export interface ObservedKernel {
  /** `panic_cpu` is set, and the other CPUs have been seen stopped. */
  readonly panicked?: string
  /** It has to move, and has not for its deadline. */
  readonly stalled?: string
  /** It moves, or is idle and owes nothing. */
  readonly moves?: string
  /** With `moves`: so long ago it may have done so last, in microseconds. */
  readonly movedWithinUs?: number
}

/** All that a verdict on one node may rest on. Boxes that are free or closed are left out. */
export interface Observation {
  readonly reachable: boolean
  /** Code of the failing reads, where not reachable. */
  readonly status?: string
  readonly control: ControlConnection
  /** Beaten by the daemon's real-time thread. Undefined where the node has none (yet). */
  readonly osSensor: ObservedSensor | undefined
  readonly boxes: readonly ObservedBox[]
  readonly kernel?: ObservedKernel
}

/** Why: what was seen, in words and figures, for people and for logs. */
export interface Evidence {
  /** The watcher that saw it, and when, by its own monotonic clock in microseconds. */
  readonly by: string
  readonly atUs: number
  readonly seen: string
  readonly sensor?: ObservedSensor
  /** What other nodes see of it, where they were asked. */
  readonly opinions?: readonly Opinion[]
  /** How many verdicts on the same subject were not told before this one, because it flaps. */
  readonly held?: number
}

export interface NodeVerdict {
  readonly kind: NodeVerdictKind
  readonly seen: string
  readonly sensor?: ObservedSensor
}

export interface BoxVerdict {
  readonly kind: BoxVerdictKind
  readonly box: number
  readonly name: string
  readonly generation: number
  readonly seen: string
  readonly sensor?: ObservedSensor
}

export interface Judgement {
  readonly node: NodeVerdict
  readonly boxes: readonly BoxVerdict[]
}
