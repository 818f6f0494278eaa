/** A server's connection to the daemon of its machine, by which adopted sessions come over. */
import { connect, type Socket } from 'node:net'
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { boxSeed } from '../region/seed.js'
import { decodeRecord, originKey, type SessionVersion } from '../region/session-record.js'
import { fromDaemon, readMessages, socketPathOf, writeMessage, type FromDaemon, type OfferedSession } from './local-protocol.js'
import type { Adopted } from './session-store.js'

const firstRetryMs = 50
const lastRetryMs = 2000

export class DaemonLink {
  readonly #region: Region
  readonly #owner: BoxOwner
  readonly #onAdopted: (store: string, adopted: Adopted) => void
  #stores: readonly string[] = []
  #socket: Socket | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = firstRetryMs
  #closed = false

  constructor(region: Region, owner: BoxOwner, onAdopted: (store: string, adopted: Adopted) => void) {
    this.#region = region
    this.#owner = owner
    this.#onAdopted = onAdopted
    this.#connect()
  }

  /** Tells the daemon which stores this server serves. */
  serve(stores: readonly string[]): void {
    this.#stores = stores
    this.#announce()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    const socket = this.#socket
    if (socket === undefined || socket.destroyed) return
    await new Promise<void>((resolve) => {
      socket.once('close', () => resolve())
      socket.destroy()
    })
  }

  #connect(): void {
    const socket = connect(socketPathOf(this.#region.memory.path))
    this.#socket = socket
    socket.unref()
    socket.once('connect', () => {
      this.#retryMs = firstRetryMs
      this.#announce()
    })
    // A daemon that is not there, or says nonsense, costs the server nothing: it is tried again, later.
    socket.on('error', () => undefined)
    socket.once('close', () => this.#reconnect())
    readMessages(socket, fromDaemon, (message) => this.#onMessage(socket, message), () => undefined)
  }

  #reconnect(): void {
    if (this.#closed) return
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs).unref()
    this.#retryMs = Math.min(this.#retryMs * 2, lastRetryMs)
  }

  #announce(): void {
    if (!this.#socket || this.#socket.connecting || this.#socket.destroyed) return
    const { box, generation, name } = this.#owner
    writeMessage(this.#socket, { type: 'attached', box, generation, name, stores: [...this.#stores] })
  }

  #onMessage(socket: Socket, message: FromDaemon): void {
    if (message.type !== 'offered' || this.#closed) return
    const refused: { store: string; id: string }[] = []
    const taken = new Map<string, string[]>()
    for (const offered of message.sessions) {
      const { store, id } = offered
      if (!this.#take(offered)) refused.push({ store, id })
      else if (taken.has(store)) taken.get(store)?.push(id)
      else taken.set(store, [id])
    }
    writeMessage(socket, { type: 'taken', offer: message.offer, refused })
    for (const [store, ids] of taken) this.#onAdopted(store, { from: message.from, ids })
  }

  /** Commits an offered session into this server's own box, with its origin. @returns whether it is there now */
  #take(offered: OfferedSession): boolean {
    const version = this.#readOffered(offered)
    if (version === undefined) return false
    const { sessions } = this.#owner
    const store = sessions.store(version.store)
    try {
      const here = sessions.get(store, version.id)
      // An earlier offer of this very session may have been cut short; another session of the same id is kept.
      if (here) return here.origin !== undefined && version.origin !== undefined && originKey(here.origin, '', '') === originKey(version.origin, '', '')
      const origin = version.origin === undefined ? {} : { origin: version.origin }
      sessions.commit(store, version.id, version.payload, { ttlMs: version.ttlMs, schemaVersion: version.schemaVersion, ...origin })
      return true
    } catch (error) {
      if (isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE', 'RECORD_CORRUPT', 'FENCED')) return false
      throw error
    }
  }

  #readOffered({ store, id, offset, length }: OfferedSession): SessionVersion | undefined {
    if (offset + length > this.#region.bytes.length) return undefined
    const version = decodeRecord(this.#region.bytes.subarray(offset, offset + length), boxSeed(this.#region.header.incarnation, 0))
    return version?.store === store && version.id === id ? version : undefined
  }
}
