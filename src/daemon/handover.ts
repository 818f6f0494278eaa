/**
 * Hands adopted sessions from the daemon's box to the local servers that serve their stores. A session leaves
 * the daemon's box only when it is in a server's: a failure in between finds it in one of the two, or in both
 * with the same origin.
 */
import type { BoxOwner } from '../region/box-owner.js'
import type { HeldStore } from '../region/session-writer.js'
import type { OfferedSession } from '../servers/local-protocol.js'

/** Sessions in one offer; keeps a message to some hundred kilobytes. */
const sessionsPerOffer = 1000

/** A server that is attached to this machine's region. */
export interface LocalServer {
  readonly name: string
  readonly stores: ReadonlySet<string>
  offer(offer: number, from: string, sessions: readonly OfferedSession[]): void
}

interface Offer {
  readonly server: LocalServer
  readonly sessions: readonly OfferedSession[]
}

export class Handover {
  readonly #box: BoxOwner
  readonly #onTaken: (server: string, count: number) => void
  readonly #servers = new Set<LocalServer>()
  readonly #offers = new Map<number, Offer>()
  /** In an offer that is not answered yet; by store and id. */
  readonly #offered = new Set<string>()
  /** What each server has refused: it had no room, or was fenced itself. Others are offered it, and its successor. */
  readonly #refused = new Map<LocalServer, Set<string>>()
  readonly #ready = new Map<string, HeldStore>()
  #nextOffer = 1

  constructor(box: BoxOwner, onTaken: (server: string, count: number) => void) {
    this.#box = box
    this.#onTaken = onTaken
  }

  /** Sessions that wait for a server, or for one to say that it has them. */
  get waiting(): number {
    let waiting = 0
    for (const store of this.#ready.values()) waiting += store.sessions.size
    return waiting
  }

  /** From now on the sessions in the daemon's box may be served: the claim says `adopted`. */
  release(): void {
    for (const store of this.#box.sessions.stores()) this.#ready.set(store.name, store)
    this.#offerAll()
  }

  join(server: LocalServer): void {
    this.#servers.add(server)
    this.#offerAll()
  }

  /** The server is gone: what it was offered and did not confirm is offered again. Origins keep that from doubling. */
  leave(server: LocalServer): void {
    this.#servers.delete(server)
    this.#refused.delete(server)
    for (const [id, offer] of this.#offers) {
      if (offer.server !== server) continue
      this.#offers.delete(id)
      for (const session of offer.sessions) this.#offered.delete(keyOf(session))
    }
    this.#offerAll()
  }

  /** @param refused keys of the sessions that found no room at the server */
  taken(offerId: number, server: LocalServer, refused: readonly { store: string; id: string }[]): void {
    const offer = this.#offers.get(offerId)
    if (offer?.server !== server) return
    this.#offers.delete(offerId)
    const kept = new Set(refused.map(keyOf))
    const everRefused = this.#refused.get(server) ?? new Set()
    this.#refused.set(server, everRefused)
    let count = 0
    for (const session of offer.sessions) {
      const key = keyOf(session)
      this.#offered.delete(key)
      if (kept.has(key)) {
        everRefused.add(key)
        continue
      }
      this.#box.sessions.delete(this.#box.sessions.store(session.store), session.id)
      count++
    }
    this.#onTaken(server.name, count)
    if (kept.size > 0) this.#offerAll()
  }

  #offerAll(): void {
    for (const server of this.#servers) {
      for (const [name, store] of this.#ready) if (server.stores.has(name)) this.#offerStore(server, store)
    }
  }

  #offerStore(server: LocalServer, store: HeldStore): void {
    const byNode = new Map<string, OfferedSession[]>()
    for (const id of store.sessions.keys()) {
      const key = keyOf({ store: store.name, id })
      if (this.#offered.has(key) || this.#refused.get(server)?.has(key)) continue
      const found = this.#box.sessions.locate(store, id)
      if (found === undefined) continue
      this.#offered.add(key)
      const sessions = byNode.get(found.from) ?? []
      sessions.push({ store: store.name, id, offset: found.offset, length: found.length })
      byNode.set(found.from, sessions)
    }
    for (const [from, sessions] of byNode) {
      for (let first = 0; first < sessions.length; first += sessionsPerOffer) this.#send(server, from, sessions.slice(first, first + sessionsPerOffer))
    }
  }

  #send(server: LocalServer, from: string, sessions: readonly OfferedSession[]): void {
    const offer = this.#nextOffer++
    this.#offers.set(offer, { server, sessions })
    server.offer(offer, from, sessions)
  }
}

const keyOf = ({ store, id }: { store: string; id: string }): string => `${store}\0${id}`
