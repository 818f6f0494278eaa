/**
 * Hands adopted sessions from the daemon's box to the local servers that serve their stores. A session leaves
 * the daemon's box only when it is in a server's: a failure in between finds it in one of the two, or in both
 * with the same origin.
 */
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { HeldStore } from '../region/session-writer.js'
import type { SessionVersion } from '../region/session-record.js'
import type { OfferedSession } from '../servers/local-protocol.js'
import { fatesOf, isGone, type BoxGeneration } from './offered-sessions.js'

/** Sessions in one offer: what a server takes over in a millisecond or so, between two turns of its event loop. */
const sessionsPerOffer = 100

/** A server that is attached to this machine's region, in its box. */
export interface LocalServer extends BoxGeneration {
  readonly name: string
  readonly stores: ReadonlySet<string>
  offer(offer: number, from: string, sessions: readonly OfferedSession[]): void
}

interface Offer {
  readonly server: LocalServer
  readonly sessions: readonly OfferedSession[]
}

/** What a server did not say that it has: it may have written it all the same. */
interface Unsettled extends Offer {
  /** It said that it has not, and so writes it no more. */
  readonly refused: boolean
}

export class Handover {
  readonly #box: BoxOwner
  readonly #onTaken: (server: string, count: number) => void
  readonly #servers = new Set<LocalServer>()
  readonly #offers = new Map<number, Offer>()
  /** In an offer that is not answered yet, or unsettled; by store and id. */
  readonly #offered = new Set<string>()
  #unsettled: Unsettled[] = []
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

  /** The server is gone, or has lost its connection: `settle` decides what becomes of what it was offered. */
  leave(server: LocalServer): void {
    this.#servers.delete(server)
    this.#refused.delete(server)
    for (const [id, offer] of this.#offers) {
      if (offer.server !== server) continue
      this.#offers.delete(id)
      this.#unsettled.push({ ...offer, refused: false })
    }
  }

  /** @param refused keys of the sessions that the server says it has not: it had no room, or was fenced */
  taken(offerId: number, server: LocalServer, refused: readonly { store: string; id: string }[]): void {
    const offer = this.#offers.get(offerId)
    if (offer?.server !== server || this.#box.fenced) return
    this.#offers.delete(offerId)
    const kept = new Set(refused.map(keyOf))
    const taken = offer.sessions.filter((session) => !kept.has(keyOf(session)))
    for (const session of taken) this.#letGo(session)
    this.#onTaken(server.name, taken.length)
    if (kept.size > 0) {
      this.#unsettled.push({ server, sessions: offer.sessions.filter((session) => kept.has(keyOf(session))), refused: true })
      this.settle()
    }
    this.#offerAll()
  }

  /**
   * Decides what became of sessions whose server was fenced or died in the middle of taking them over: they are
   * offered anew unless its box has them. To be called from time to time, for a recoverer has a say in it.
   */
  settle(): void {
    if (this.#unsettled.length === 0 || this.#box.fenced) return
    const before = this.#unsettled
    this.#unsettled = []
    for (const unsettled of before) this.#settle(unsettled)
    this.#offerAll()
  }

  #settle({ server, sessions, refused }: Unsettled): void {
    if (!refused && !this.#isDone(server)) {
      this.#unsettled.push({ server, sessions, refused })
      return
    }
    const fates = fatesOf(this.#box.region, server, sessions.map((session) => this.#versionOf(session)))
    const undecided = sessions.filter((_, i) => fates[i] === 'undecided')
    for (const [i, session] of sessions.entries()) {
      if (fates[i] === 'in-box') this.#letGo(session)
      if (fates[i] !== 'not-taken') continue
      this.#offered.delete(keyOf(session))
      if (refused && this.#servers.has(server)) this.#refuse(server, keyOf(session))
    }
    if (undecided.length > 0) this.#unsettled.push({ server, sessions: undecided, refused: true })
  }

  /** Has it dealt with all that it was offered? One that is connected anew has read what came by its last connection. */
  #isDone(server: LocalServer): boolean {
    const isSame = ({ box, generation }: LocalServer): boolean => box === server.box && generation === server.generation
    return isGone(this.#box.region, server) || [...this.#servers].some(isSame)
  }

  #versionOf({ store, id }: OfferedSession): SessionVersion | undefined {
    return this.#box.sessions.get(this.#box.sessions.store(store), id)
  }

  /** A server has it now. */
  #letGo(session: OfferedSession): void {
    try {
      this.#box.sessions.delete(this.#box.sessions.store(session.store), session.id)
      this.#offered.delete(keyOf(session))
    } catch (error) {
      // Then the whole node is fenced, and what is in either box is its recoverer's.
      if (!isBackdoorsError(error, 'FENCED')) throw error
    }
  }

  #refuse(server: LocalServer, key: string): void {
    const keys = this.#refused.get(server)
    if (keys) keys.add(key)
    else this.#refused.set(server, new Set([key]))
  }

  /** A server has one offer at a time: it must not stall, and be taken for dead, because it takes so many over. */
  #offerAll(): void {
    const busy = new Set([...this.#offers.values()].map(({ server }) => server))
    for (const server of this.#servers) if (!busy.has(server)) this.#offerNext(server)
  }

  #offerNext(server: LocalServer): void {
    for (const [name, store] of this.#ready) {
      if (server.stores.has(name) && this.#offerSome(server, store)) return
    }
  }

  /** Offers the next sessions, all of one node. @returns whether there were any */
  #offerSome(server: LocalServer, store: HeldStore): boolean {
    const sessions: OfferedSession[] = []
    let from: string | undefined
    for (const id of store.sessions.keys()) {
      const key = keyOf({ store: store.name, id })
      if (this.#offered.has(key) || this.#refused.get(server)?.has(key)) continue
      const found = this.#box.sessions.locate(store, id)
      if (found === undefined || found.from !== (from ?? found.from)) continue
      from = found.from
      this.#offered.add(key)
      sessions.push({ store: store.name, id, offset: found.offset, length: found.length })
      if (sessions.length === sessionsPerOffer) break
    }
    if (from !== undefined) this.#send(server, from, sessions)
    return from !== undefined
  }

  #send(server: LocalServer, from: string, sessions: readonly OfferedSession[]): void {
    const offer = this.#nextOffer++
    this.#offers.set(offer, { server, sessions })
    server.offer(offer, from, sessions)
  }
}

const keyOf = ({ store, id }: { store: string; id: string }): string => `${store}\0${id}`
