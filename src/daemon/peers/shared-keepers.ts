/** One keeper for each peer's address, for as long as anybody uses it: its watcher, and those of the machines that it lends. */
import type { PeerConfig } from '../config.js'

/** What is shared; `VerbsKeeper`, but for tests. */
interface Closable {
  close(): Promise<void>
}

export interface KeeperUse<Keeper extends Closable = Closable> {
  readonly keeper: Keeper
  /** @param before ends the use; where it was the last one, the keeper is closed after it. Idempotent */
  release(before: () => void | Promise<void>): Promise<void>
}

interface Shared<Keeper> {
  readonly keeper: Keeper
  readonly address: string
  users: number
}

export class SharedKeepers<Keeper extends Closable> {
  /** The keeper that the next user of this name gets. One of an earlier address lives on beside it until its last user is gone. */
  readonly #latest = new Map<string, Shared<Keeper>>()
  readonly #all = new Set<Shared<Keeper>>()

  /** @param make is called where there is no keeper of this name and address yet */
  use(peer: PeerConfig, make: () => Keeper): KeeperUse<Keeper> {
    const address = JSON.stringify([peer.host, peer.port])
    const known = this.#latest.get(peer.name)
    const shared = known?.address === address ? known : { keeper: make(), address, users: 0 }
    this.#latest.set(peer.name, shared)
    this.#all.add(shared)
    shared.users++
    let released: Promise<void> | undefined
    return { keeper: shared.keeper, release: (before) => (released ??= this.#release(peer.name, shared, before)) }
  }

  /** The keepers that a next user would get, by the peers' names. */
  *entries(): IterableIterator<[name: string, keeper: Keeper]> {
    for (const [name, { keeper }] of this.#latest) yield [name, keeper]
  }

  /** Closes every keeper, whoever uses it. */
  async close(): Promise<void> {
    await Promise.all([...this.#all].map(({ keeper }) => keeper.close()))
  }

  async #release(name: string, shared: Shared<Keeper>, before: () => void | Promise<void>): Promise<void> {
    await before()
    shared.users--
    if (shared.users > 0) return
    if (this.#latest.get(name) === shared) this.#latest.delete(name)
    await shared.keeper.close()
    this.#all.delete(shared)
  }
}
