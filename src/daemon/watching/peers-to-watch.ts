/** Whom a daemon is to watch, by the plan and beyond it. Pure. */
import { watchedBy } from '../../monitor/watch-plan.js'
import type { PeerConfig } from '../config.js'

export interface WatchSituation {
  readonly node: string
  /** All other nodes of the cluster. */
  readonly members: readonly PeerConfig[]
  /** How many peers that are up each node watches. */
  readonly k: number
  /** What this node has seen of those that it watches. */
  readonly isDown: (peer: string) => boolean
  /** Peers that are watched whatever the plan says: they hold claims. */
  readonly isHolder: (peer: string) => boolean
  /** Peers that are watched already, or cannot be at this moment. */
  readonly isTaken: (peer: string) => boolean
}

/** @returns the peers that are to be watched from now on */
export function peersToWatch({ node, members, k, isDown, isHolder, isTaken }: WatchSituation): PeerConfig[] {
  // A machine that is watched through another runs no watcher of its own.
  const through = new Set(members.filter((peer) => peer.through !== undefined).map(({ name }) => name))
  const planned = new Set(watchedBy(node, [node, ...members.map(({ name }) => name)], k, (name) => through.has(name) || isDown(name)))
  return members.filter(({ name }) => (planned.has(name) || isHolder(name)) && !isTaken(name))
}
