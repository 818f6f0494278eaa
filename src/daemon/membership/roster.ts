/** The members that etcd's records make up, kept free of clashes whatever the records say. Pure: records in, peers out. */
import { BackdoorsError } from '../../errors.js'
import { nodeNumber, type PeerConfig } from '../config.js'

/** As many as a configuration may list. */
const maxMembers = 1024

/**
 * A node's entry is replaced or removed as a whole. An entry that clashes with what is in force (its name, or its number in claim words, which a
 * recoverer is known by) is refused, and what was in force stays: who was here first is watched on.
 */
export class Roster {
  readonly #entries = new Map<string, readonly PeerConfig[]>()
  /** The names in force, this node's among them, by their numbers. */
  readonly #taken = new Map<number, string>()

  /** @param seeds members by this node's own configuration, checked; in force until etcd says otherwise of the same name */
  constructor(node: string, seeds: readonly PeerConfig[]) {
    this.#taken.set(nodeNumber(node), node)
    for (const peer of seeds) this.#set(peer.name, [peer])
  }

  /** Machines that are lent come with their lender only. */
  get peers(): readonly PeerConfig[] {
    return [...this.#entries.values()].flat().filter(({ through }) => through === undefined || this.#entries.has(through))
  }

  has(name: string): boolean {
    return this.#entries.has(name)
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()]
  }

  /**
   * @param peers the node itself, first, and the machines that it lends
   * @returns whether anything has changed
   * @throws BackdoorsError MEMBER_INVALID; the node's earlier entry, if it had one, stays
   */
  put(name: string, peers: readonly PeerConfig[]): boolean {
    const known = this.#entries.get(name) ?? []
    if (JSON.stringify(known) === JSON.stringify(peers)) return false
    this.delete(name)
    try {
      this.#check(name, peers)
    } catch (error) {
      if (known.length > 0) this.#set(name, known)
      throw error
    }
    this.#set(name, peers)
    return true
  }

  /** @returns whether it was there */
  delete(name: string): boolean {
    for (const peer of this.#entries.get(name) ?? []) this.#taken.delete(nodeNumber(peer.name))
    return this.#entries.delete(name)
  }

  #set(name: string, peers: readonly PeerConfig[]): void {
    for (const peer of peers) this.#taken.set(nodeNumber(peer.name), peer.name)
    this.#entries.set(name, peers)
  }

  #check(name: string, peers: readonly PeerConfig[]): void {
    const refuse = (peer: string, why: string): BackdoorsError => new BackdoorsError('MEMBER_INVALID', `What node ${name} says in etcd is not taken: ${why}`, { peer })
    // This node itself is no member of its own list.
    if (this.#taken.size - 1 + peers.length > maxMembers) throw refuse(name, `there are ${maxMembers} members already.`)
    const own = new Map<number, string>()
    for (const { name: each } of peers) {
      const number = nodeNumber(each)
      const other = this.#taken.get(number) ?? own.get(number)
      if (other === each) throw refuse(each, `${each} is a member already, or is lent twice.`)
      if (other !== undefined) throw refuse(each, `${each} and ${other} have the same number in claim words; rename one.`)
      own.set(number, each)
    }
  }
}
