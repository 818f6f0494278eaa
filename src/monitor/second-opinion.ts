/** What others see of a node that does not answer: a cut link between two is told from a dead node. Pure. */
import type { NodeVerdict, NodeVerdictKind } from './verdict.js'

/** What another node answers: */
export const sights = [
  /** It reads the node's memory just now, or hears the machine otherwise. */
  'sees-alive',
  /** It cannot read it, and hears nothing of the machine. */
  'sees-unreachable',
  /** A read has just failed, and what that means is not known yet. */
  'undecided',
  'does-not-watch',
] as const
export type Sight = (typeof sights)[number]

export interface Opinion {
  /** The node that was asked. */
  readonly by: string
  readonly sees: Sight | 'no-answer'
  /** Its own verdict on the node, where it has one. */
  readonly verdict?: NodeVerdictKind
}

/** Asks the other nodes of the cluster that can be reached. */
export interface SecondOpinion {
  /** Resolves within a deadline; never rejects: who does not answer in time, or answers nonsense, gave no answer. */
  ask(peer: string): Promise<readonly Opinion[]>
}

/**
 * What `unreachable` comes to when others have been asked. One that sees the node suffices for `link-cut`, as it is the verdict
 * for which nothing is done.
 */
export function refineUnreachable(verdict: NodeVerdict, opinions: readonly Opinion[]): NodeVerdict {
  const seeing = opinions.filter(({ sees }) => sees === 'sees-alive')
  if (seeing.length > 0) {
    const who = seeing.map(({ by, verdict: theirs }) => (theirs === undefined || theirs === 'alive' ? by : `${by} (${theirs})`)).join(', ')
    return { ...verdict, kind: 'link-cut', seen: `${verdict.seen} from here, but ${who} still ${seeing.length === 1 ? 'reaches' : 'reach'} it` }
  }
  const agreeing = agreed(opinions)
  if (agreeing.length > 0) return { ...verdict, seen: `${verdict.seen}; ${agreeing.join(', ')} cannot reach it either` }
  return { ...verdict, seen: `${verdict.seen}; that is from here alone: ${opinions.length === 0 ? 'there was nobody to ask' : 'nobody else could say'}` }
}

/** Verdicts on a node that runs no watcher of its own any more. */
const stopped: readonly (NodeVerdictKind | undefined)[] = ['os-stalled', 'os-panicked']

/** Does one that reads its memory say that the node has stopped? A link to it that is cut hides that from here. */
export function isSeenStopped(opinions: readonly Opinion[]): boolean {
  return opinions.some(({ sees, verdict }) => sees === 'sees-alive' && stopped.includes(verdict))
}

/** Names of those that do not reach the node either. */
export function agreed(opinions: readonly Opinion[]): string[] {
  return opinions.filter(({ sees }) => sees === 'sees-unreachable').map(({ by }) => by)
}

/**
 * May a node that nobody reaches be fenced from outside? Only when another agrees; or where there is no other that could.
 * @param others how many nodes the cluster has beside this one and the node in question; undefined where that is not known (yet)
 */
export function mayFenceUnreachable(opinions: readonly Opinion[], others: number | undefined): boolean {
  // Who cannot reach it may know of one that can, and that cannot be asked from here.
  if (opinions.some(({ sees, verdict }) => sees === 'sees-alive' || verdict === 'link-cut')) return false
  return others === 0 || agreed(opinions).length > 0
}
