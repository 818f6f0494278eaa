/**
 * Hands adopted sessions from the daemon's box to the local servers that serve their stores. A session leaves
 * the daemon's box only when it is in a server's: a failure in between finds it in one of the two, or in both
 * with the same origin.
 */
import { isBackdoorsError, type BackdoorsError } from '../errors.js'
import { noteStore } from '../recovery/adoption-notes.js'
import type { BoxOwner } from '../region/box-owner.js'
import { fenceAll } from '../region/control.js'
import type { HeldStore } from '../region/session-writer.js'
import type { SessionOrigin, SessionVersion } from '../region/session-record.js'
import type { NotTaken, OfferedSession } from '../servers/local-protocol.js'
import { fatesOf, isFenced, isGone, lastOwners, type BoxGeneration } from './offered-sessions.js'

/** Sessions in one offer: what a server takes over in a millisecond or so, between two turns of its event loop. */
const sessionsPerOffer = 100
/** A session that a server refused is offered to it again after so long, in milliseconds: it may have room by then. */
export const refusalLastsMs = 1000

/** A server that is attached to this machine's region, in its box. */
export interface LocalServer extends BoxGeneration {
  readonly name: string
  readonly stores: ReadonlySet<string>
  offer(offer: number, from: string, sessions: readonly OfferedSession[]): void
}

export interface HandoverEvents {
  readonly onTaken: (server: string, count: number) => void
  /** A server has sessions of these ids of its own, and the adopted ones are dropped. */
  readonly onKept: (server: string, sessions: readonly SessionKey[]) => void
  /** A session in the daemon's box fails its CRC, so nobody can be offered it. Told once for each. */
  readonly onDamaged: (error: BackdoorsError) => void
}

/** A session in the daemon's box. */
interface Waiting {
  readonly store: string
  readonly id: string
  /** Of the state that this is about: another node's recovery may bring another one. */
  readonly sequence: number
}

/** Boxes whose recovery has run its course. */
export interface RecoveredBoxes {
  readonly node: string
  readonly incarnation: bigint
  readonly boxes: readonly number[]
}

interface Offer {
  readonly server: LocalServer
  readonly sessions: readonly Waiting[]
}

/** What the owner of a box did not say that it has: it may have written it all the same. */
interface Unsettled {
  readonly owner: BoxGeneration
  readonly sessions: readonly Waiting[]
  /** It said that it has not, and so writes it no more. */
  readonly refusedBy?: LocalServer
}

export type SessionKey = Pick<Waiting, 'store' | 'id'>

export class Handover {
  readonly #box: BoxOwner
  readonly #events: HandoverEvents
  readonly #nowMs: () => number
  readonly #servers = new Set<LocalServer>()
  readonly #offers = new Map<number, Offer>()
  /** By store and id: in how many offers that are not answered yet, or unsettled. */
  readonly #holds = new Map<string, number>()
  #unsettled: Unsettled[] = []
  /**
   * What each server has refused, and until when, the earliest first: it had no room, or was fenced itself. Others are
   * offered it, and its successor.
   */
  readonly #refused = new Map<LocalServer, Map<string, number>>()
  /** What may be served: by store, the ids, and the sequence of the state that may. */
  readonly #released = new Map<string, Map<string, number>>()
  /** The boxes that the sessions come from which an earlier life of this daemon left. */
  readonly #resumed = new Set<string>()
  readonly #damaged = new Set<string>()
  #dropped = 0
  #nextOffer = 1

  /** @param nowMs of any monotonic clock */
  constructor(box: BoxOwner, events: HandoverEvents, nowMs: () => number) {
    this.#box = box
    this.#events = events
    this.#nowMs = nowMs
  }

  /** Sessions that wait for a server, or for one to say that it has them, or for the end of their recovery. */
  get waiting(): number {
    return this.#adopted().reduce((count, { sessions }) => count + sessions.size, 0)
  }

  /** Are sessions on their way to servers right now? What no server takes is not. */
  get isHandingOver(): boolean {
    return this.#offers.size > 0
  }

  /** Sessions that gave way to a server's own of the same id, in this daemon's life. */
  get dropped(): number {
    return this.#dropped
  }

  /** Sessions that wait and fail their CRC. */
  get damaged(): number {
    return this.#damaged.size
  }

  /**
   * Takes up what an earlier life of this daemon left in its box. Nobody knows to whom it was offered, so each box
   * has its say first; a server that lives may even find an offer yet that it has not read, until it is here anew.
   */
  resume(): void {
    const sessions = this.#findAll(() => true)
    for (const { origin } of sessions) if (origin) this.#resumed.add(boxKey(origin))
    this.#releaseAll(sessions, true)
  }

  /**
   * The sessions that were adopted from these boxes may be served from now on: the claim says `adopted`. Those of a
   * recovery under way, or of one that failed and will be run again, may not.
   */
  release({ node, incarnation, boxes }: RecoveredBoxes): void {
    const recovered = new Set(boxes.map((box) => boxKey({ node, incarnation, box })))
    const sessions = this.#findAll(({ origin }) => origin !== undefined && recovered.has(boxKey(origin)))
    // A recovery that a restart of this daemon cut short has adopted anew what servers have taken over since.
    this.#releaseAll(sessions, [...recovered].some((key) => this.#resumed.has(key)))
  }

  #findAll(isWanted: (version: SessionVersion) => boolean): SessionVersion[] {
    const versions = this.#adopted().flatMap(({ name, sessions }) => [...sessions.keys()].flatMap((id) => this.#versionOf({ store: name, id }) ?? []))
    return versions.filter(isWanted)
  }

  #adopted(): HeldStore[] {
    return [...this.#box.sessions.stores()].filter(({ name }) => name !== noteStore)
  }

  /** @param haveBoxesSay might any of them be in a server's box already? */
  #releaseAll(sessions: readonly Waiting[], haveBoxesSay: boolean): void {
    for (const { store, id, sequence } of sessions) {
      const ids = this.#released.get(store) ?? new Map<string, number>()
      this.#released.set(store, ids.set(id, sequence))
    }
    if (haveBoxesSay && sessions.length > 0) {
      const waiting = sessions.map(({ store, id, sequence }) => ({ store, id, sequence }))
      for (const owner of lastOwners(this.#box.region)) this.#unsettle({ owner, sessions: waiting })
      this.settle()
    }
    this.#offerAll()
  }

  /** To be called again when the server serves further stores. */
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
      this.#endOffer(id, offer)
      this.#unsettle({ owner: server, sessions: offer.sessions })
    }
  }

  /** @param notTaken keys of the sessions that the server says it has not */
  taken(offerId: number, server: LocalServer, notTaken: NotTaken): void {
    const offer = this.#offers.get(offerId)
    if (offer?.server !== server || this.#box.fenced) return
    this.#endOffer(offerId, offer)
    // What a fenced server has of its own may have come too late for its recoverer, so it is no reason to drop anything.
    const kept = isFenced(this.#box.region, server) ? [] : among(offer, notTaken.kept)
    const refused = among(offer, notTaken.refused.concat(notTaken.kept)).filter((session) => !kept.includes(session))
    const taken = offer.sessions.filter((session) => !kept.includes(session) && !refused.includes(session))
    for (const session of taken) if (this.#isSameState(session)) this.#letGo(session)
    this.#events.onTaken(server.name, taken.length)
    this.#drop(server, kept.filter((session) => this.#isSameState(session)))
    if (refused.length > 0) {
      this.#unsettle({ owner: server, sessions: refused, refusedBy: server })
      this.settle()
    }
    this.#offerAll()
  }

  #drop(server: LocalServer, sessions: readonly Waiting[]): void {
    if (sessions.length === 0) return
    for (const session of sessions) this.#letGo(session)
    this.#dropped += sessions.length
    this.#events.onKept(server.name, sessions)
  }

  /**
   * Decides what became of sessions whose server was fenced or died in the middle of taking them over: they are
   * offered anew unless its box has them; and so are those whose refusal is over. To be called from time to time, for
   * a recoverer has a say in it.
   */
  settle(): void {
    if (this.#box.fenced) return
    this.#withdrawOffers()
    const hasForgiven = this.#forgetRefusals()
    const before = this.#unsettled
    if (before.length === 0 && !hasForgiven) return
    this.#unsettled = []
    for (const unsettled of before) this.#settle(unsettled)
    this.#offerAll()
  }

  /** A server that hangs stays connected and answers nothing. Once it is fenced it takes nothing over any more, so others may have it. */
  #withdrawOffers(): void {
    for (const [id, offer] of this.#offers) {
      if (!isFenced(this.#box.region, offer.server)) continue
      this.#endOffer(id, offer)
      this.#unsettle({ owner: offer.server, sessions: offer.sessions })
    }
  }

  #settle(unsettled: Unsettled): void {
    const { owner, sessions, refusedBy } = unsettled
    const isDecidable = refusedBy !== undefined || this.#isDone(owner)
    const fates = isDecidable ? fatesOf(this.#box.region, owner, () => sessions.map((session) => this.#versionOf(session))) : undefined
    if (fates === undefined) {
      this.#unsettled.push(unsettled)
      return
    }
    this.#unhold(sessions)
    for (const [i, session] of sessions.entries()) {
      if (fates[i] === 'in-box') this.#letGo(session)
      else if (refusedBy && this.#servers.has(refusedBy)) this.#refuse(refusedBy, session)
    }
  }

  /**
   * Has it dealt with all that it was offered? One that is connected anew has read what came by its last connection;
   * one that is fenced takes nothing over any more.
   */
  #isDone(owner: BoxGeneration): boolean {
    const { region } = this.#box
    const isSame = ({ box, generation }: LocalServer): boolean => box === owner.box && (generation === owner.generation || owner.generation === fenceAll)
    return isGone(region, owner) || isFenced(region, owner) || [...this.#servers].some(isSame)
  }

  #versionOf({ store, id }: SessionKey): SessionVersion | undefined {
    const { sessions } = this.#box
    return this.#unlessDamaged(store, id, () => sessions.get(sessions.store(store), id))
  }

  /** Is what stands in the box still what was offered, if anything does? */
  #isSameState(session: Waiting): boolean {
    return (this.#versionOf(session)?.sequence ?? session.sequence) === session.sequence
  }

  /** A session as it stands in the box, and where; undefined where it is over, or damaged. */
  #find(store: HeldStore, id: string): (OfferedSession & Waiting & { from: string }) | undefined {
    const { sessions } = this.#box
    return this.#unlessDamaged(store.name, id, () => {
      const version = sessions.get(store, id)
      const found = version && sessions.locate(store, id)
      return version && found && { ...found, store: store.name, id, sequence: version.sequence }
    })
  }

  /** A stray write into the box costs the sessions that it hit, and nothing else. */
  #unlessDamaged<T>(store: string, id: string, read: () => T): T | undefined {
    const key = keyOf({ store, id })
    try {
      const found = read()
      this.#damaged.delete(key)
      return found
    } catch (error) {
      if (!isBackdoorsError(error, 'RECORD_CORRUPT')) throw error
      if (!this.#damaged.has(key)) this.#events.onDamaged(error)
      this.#damaged.add(key)
      return undefined
    }
  }

  /** A server has it now, or another of its id that stays in its place. */
  #letGo({ store, id }: SessionKey): void {
    try {
      this.#box.sessions.delete(this.#box.sessions.store(store), id)
      this.#released.get(store)?.delete(id)
      this.#damaged.delete(keyOf({ store, id }))
    } catch (error) {
      // Then the whole node is fenced, and what is in either box is its recoverer's.
      if (!isBackdoorsError(error, 'FENCED')) throw error
    }
  }

  #unsettle(unsettled: Unsettled): void {
    this.#hold(unsettled.sessions)
    this.#unsettled.push(unsettled)
  }

  #hold(sessions: readonly SessionKey[]): void {
    for (const key of sessions.map(keyOf)) this.#holds.set(key, (this.#holds.get(key) ?? 0) + 1)
  }

  #unhold(sessions: readonly SessionKey[]): void {
    for (const key of sessions.map(keyOf)) {
      const left = (this.#holds.get(key) ?? 0) - 1
      if (left > 0) this.#holds.set(key, left)
      else this.#holds.delete(key)
    }
  }

  #endOffer(id: number, { sessions }: Offer): void {
    this.#offers.delete(id)
    this.#unhold(sessions)
  }

  #refuse(server: LocalServer, session: SessionKey): void {
    const keys = this.#refused.get(server) ?? new Map<string, number>()
    this.#refused.set(server, keys)
    keys.set(keyOf(session), this.#nowMs() + refusalLastsMs)
  }

  /** @returns whether any refusal was over */
  #forgetRefusals(): boolean {
    const nowMs = this.#nowMs()
    let forgotten = false
    for (const keys of this.#refused.values()) {
      for (const [key, untilMs] of keys) {
        if (untilMs > nowMs) break
        keys.delete(key)
        forgotten = true
      }
    }
    return forgotten
  }

  /** A server has one offer at a time: it must not stall, and be taken for dead, because it takes so many over. */
  #offerAll(): void {
    const busy = new Set([...this.#offers.values()].map(({ server }) => server))
    for (const server of this.#servers) if (!busy.has(server) && !isFenced(this.#box.region, server)) this.#offerNext(server)
  }

  #offerNext(server: LocalServer): void {
    for (const [name, released] of this.#released) {
      if (server.stores.has(name) && this.#offerSome(server, this.#box.sessions.store(name), released)) return
    }
  }

  /** Offers the next sessions, all of one node. @returns whether there were any */
  #offerSome(server: LocalServer, store: HeldStore, released: Map<string, number>): boolean {
    const sessions: (OfferedSession & Waiting)[] = []
    const refused = this.#refused.get(server)
    let from: string | undefined
    for (const [id, sequence] of released) {
      const key = keyOf({ store: store.name, id })
      if (this.#holds.has(key) || refused?.has(key)) continue
      const found = this.#find(store, id)
      // It has outlived its time to live, and has been swept.
      if (!store.sessions.has(id)) released.delete(id)
      // One that a recovery under way has written over waits for the end of that recovery.
      if (found?.sequence !== sequence || found.from !== (from ?? found.from)) continue
      from = found.from
      sessions.push(found)
      if (sessions.length === sessionsPerOffer) break
    }
    if (from !== undefined) this.#send(server, from, sessions)
    return from !== undefined
  }

  #send(server: LocalServer, from: string, sessions: readonly (OfferedSession & Waiting)[]): void {
    const id = this.#nextOffer++
    this.#hold(sessions)
    this.#offers.set(id, { server, sessions: sessions.map(({ store, id, sequence }) => ({ store, id, sequence })) })
    server.offer(id, from, sessions.map(({ store, id, offset, length }) => ({ store, id, offset, length })))
  }
}

/** Those sessions of an offer that have one of these keys. */
function among({ sessions }: Offer, keys: readonly SessionKey[]): Waiting[] {
  const wanted = new Set(keys.map(keyOf))
  return sessions.filter((session) => wanted.has(keyOf(session)))
}

const keyOf = ({ store, id }: SessionKey): string => `${store}\0${id}`
const boxKey = ({ node, incarnation, box }: Pick<SessionOrigin, 'node' | 'incarnation' | 'box'>): string => [node, incarnation.toString(16), box].join('\0')
