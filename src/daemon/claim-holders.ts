/** The peers that hold claims on nodes that this one watches: whether they can be succeeded is written in their memory, so they are watched as well. */
import type { Predecessor, ReadableRegion } from '../recovery/succession.js'
import { nodeNumber, type PeerConfig } from './config.js'
import type { PeerWatcher } from './watching/peer-watcher.js'

export class ClaimHolders {
  readonly #names = new Set<string>()
  readonly #watchers: readonly Pick<PeerWatcher, 'peer' | 'isDown' | 'link'>[]
  readonly #members: () => readonly PeerConfig[]

  /** @param watchers all that there are at the time; @param members all other nodes of the cluster, as they are known then */
  constructor(watchers: readonly Pick<PeerWatcher, 'peer' | 'isDown' | 'link'>[], members: () => readonly PeerConfig[]) {
    this.#watchers = watchers
    this.#members = members
  }

  has(name: string): boolean {
    return this.#names.has(name)
  }

  /** A peer that holds a claim, by its number in it. One that is not watched yet comes to be. */
  predecessor(number: number): Predecessor | undefined {
    const watcher = this.#watchers.find(({ peer }) => nodeNumber(peer.name) === number)
    const member = watcher ? undefined : this.#members().find(({ name }) => nodeNumber(name) === number)
    if (member) this.#names.add(member.name)
    return watcher && { isDown: watcher.isDown, link: regionOf(watcher) }
  }

  /**
   * The regions that can be read at this moment.
   * @param all anybody may have read what this node cannot: all members come to be watched
   */
  readable(all: boolean): ReadableRegion[] {
    if (all) for (const { name } of this.#members()) this.#names.add(name)
    return this.#watchers.flatMap((watcher) => regionOf(watcher) ?? [])
  }
}

const regionOf = ({ link }: Pick<PeerWatcher, 'link'>): ReadableRegion | undefined => link && { memory: link.sampling, header: link.header }
