/** Keeps a daemon's watchers in step with the members of its cluster and with the plan. */
import type { PeerConfig } from '../config.js'
import { peersToWatch } from './peers-to-watch.js'
import type { Retirable, Unwatching } from './unwatching.js'

/** What is needed of a `PeerWatcher`. */
export interface Planned extends Retirable {
  /** Its peer watches nobody any more, as far as can be seen. */
  readonly isDown: boolean
}

export interface PlanFollowerOptions<Watcher extends Planned> {
  readonly node: string
  /** How many peers that are up each node watches. */
  readonly k: number
  /** All that there are; those that come are put into it. */
  readonly watchers: Watcher[]
  readonly unwatching: Unwatching<Watcher>
  /** All other nodes of the cluster, as they are known at the time. */
  readonly members: () => readonly PeerConfig[]
  /** Peers that are watched whatever the plan says. */
  readonly isHolder: (peer: string) => boolean
  readonly make: (peer: PeerConfig) => Watcher
}

export class PlanFollower<Watcher extends Planned> {
  readonly #options: PlanFollowerOptions<Watcher>

  constructor(options: PlanFollowerOptions<Watcher>) {
    this.#options = options
  }

  /**
   * Watches whom it falls to this node to watch, as it sees the others now. Who has come to be watched stays so: a node that is
   * back has to connect to its peers first, and one more watcher costs the watched nothing. Who is no member any more is not watched.
   * To be called whenever the members have changed, and from time to time: it changes with who is down, too.
   */
  follow(): void {
    const { node, k, watchers, unwatching, isHolder, make } = this.#options
    const members = this.#options.members()
    unwatching.retire(members)
    const byName = new Map(watchers.map((watcher) => [watcher.peer.name, watcher]))
    const due = peersToWatch({
      node, members, k, isHolder,
      isDown: (name) => byName.get(name)?.isDown ?? false,
      isTaken: (name) => byName.has(name) || unwatching.isLeaving(name),
    })
    for (const peer of due) {
      const watcher = make(peer)
      watchers.push(watcher)
      unwatching.note(watcher, members)
    }
  }
}
