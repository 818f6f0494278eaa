/** Ends the watching of peers that are members no more, or are to be reached in another way. */
import type { Logger } from 'pino'
import type { PeerConfig } from '../config.js'

/** What is needed of a `PeerWatcher`. */
export interface Retirable {
  readonly peer: PeerConfig
  /** It recovers its peer, or is to try again. */
  readonly isBusy: boolean
  close(): Promise<void>
}

/**
 * A watcher in the midst of a recovery is kept until that has ended: a membership that changes meanwhile, rightly or not, must not cost sessions.
 * One that is to be made anew, for another address, is made when the earlier one has been closed.
 */
export class Unwatching<Watcher extends Retirable> {
  readonly #watchers: Watcher[]
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>
  /** How the peer was to be reached when it came to be watched. */
  readonly #routes = new Map<Watcher, string>()
  readonly #held = new Set<Watcher>()
  readonly #onEnded: (peer: string) => void
  readonly #leaving = new Map<string, Promise<void>>()

  /** @param watchers all that there are; those that end are taken out of it */
  constructor(watchers: Watcher[], log: Pick<Logger, 'info' | 'warn' | 'error'>, onEnded: (peer: string) => void = () => undefined) {
    this.#onEnded = onEnded
    this.#watchers = watchers
    this.#log = log
  }

  /** To be called for each watcher that is made. */
  note(watcher: Watcher, members: readonly PeerConfig[]): void {
    this.#routes.set(watcher, routeTo(watcher.peer, members))
  }

  /** Its last watcher is being closed: no other can be made yet. */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name)
  }

  /** Ends all that have to end and can; to be called again, for those that cannot yet. */
  retire(members: readonly PeerConfig[]): void {
    const byName = new Map(members.map((peer) => [peer.name, peer]))
    for (const watcher of [...this.#watchers]) {
      const { name } = watcher.peer
      const member = byName.get(name)
      if (member !== undefined && routeTo(member, members) === this.#routes.get(watcher)) {
        this.#held.delete(watcher)
        continue
      }
      if (watcher.isBusy) this.#hold(watcher)
      else this.#end(watcher, member === undefined ? 'this peer is no member any more, and is not watched' : 'this peer is to be reached in another way, and is watched anew')
    }
  }

  /** Resolves when all that were ended are closed. */
  async settled(): Promise<void> {
    await Promise.all(this.#leaving.values())
  }

  #hold(watcher: Watcher): void {
    if (this.#held.has(watcher)) return
    this.#held.add(watcher)
    this.#log.warn({ peer: watcher.peer.name }, 'this peer is no member any more, or has another address; it is watched as it was until its recovery has ended')
  }

  #end(watcher: Watcher, why: string): void {
    const { name } = watcher.peer
    this.#watchers.splice(this.#watchers.indexOf(watcher), 1)
    this.#routes.delete(watcher)
    this.#held.delete(watcher)
    this.#log.info({ peer: name }, why)
    this.#onEnded(name)
    const closing = watcher.close().catch((error: unknown) => this.#log.error({ peer: name, err: error }, 'a watcher could not be closed')).finally(() => this.#leaving.delete(name))
    this.#leaving.set(name, closing)
  }
}

/** A machine that is lent is reached by its lender's address. */
function routeTo(peer: PeerConfig, members: readonly PeerConfig[]): string {
  const lender = peer.through === undefined ? undefined : members.find(({ name }) => name === peer.through)
  return JSON.stringify([peer, lender])
}
