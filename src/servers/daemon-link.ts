/** A server's connection to the daemon of its machine, by which adopted sessions come over. */
import { connect, type Socket } from 'node:net'
import type { BoxOwner } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { fromDaemon, readMessages, socketPathOf, writeMessage, type FromDaemon, type NotTaken } from './local-protocol.js'
import type { ConnectionOutcome } from './restored-connection.js'
import type { Adopted } from './session-store.js'
import { takeOver } from './take-over.js'

const firstRetryMs = 50
const lastRetryMs = 2000

export class DaemonLink {
  readonly #region: Region
  readonly #owner: BoxOwner
  readonly #onAdopted: (store: string, adopted: Adopted) => void
  readonly #onConnected: () => void
  #stores: readonly string[] = []
  #continues: readonly number[] = []
  #socket: Socket | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = firstRetryMs
  #closed = false

  /** @param onConnected the daemon is there, for the first time or again */
  constructor(region: Region, owner: BoxOwner, onAdopted: (store: string, adopted: Adopted) => void, onConnected: () => void) {
    this.#region = region
    this.#owner = owner
    this.#onAdopted = onAdopted
    this.#onConnected = onConnected
    this.#connect()
  }

  /** Tells the daemon which stores this server serves, and which local ports it continues connections of. */
  serve(stores: readonly string[], continues: readonly number[]): void {
    this.#stores = stores
    this.#continues = continues
    this.#announce()
  }

  /** Tells the daemon what became of connections that it gave to this server. */
  continued(outcomes: readonly ConnectionOutcome[]): void {
    if (this.#isConnected(this.#socket)) writeMessage(this.#socket, { type: 'continued', outcomes: [...outcomes] })
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
      this.#onConnected()
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
    if (!this.#isConnected(this.#socket)) return
    const { box, generation, name } = this.#owner
    writeMessage(this.#socket, { type: 'attached', box, generation, name, stores: [...this.#stores], continues: [...this.#continues] })
  }

  #isConnected(socket: Socket | undefined): socket is Socket {
    return socket !== undefined && !socket.connecting && !socket.destroyed
  }

  #onMessage(socket: Socket, message: FromDaemon): void {
    if (message.type !== 'offered' || this.#closed) return
    const notTaken: NotTaken = { refused: [], kept: [] }
    const taken = new Map<string, string[]>()
    for (const offered of message.sessions) {
      const { store, id } = offered
      const taking = takeOver(this.#owner, offered)
      if (taking !== 'taken') notTaken[taking].push({ store, id })
      else if (taken.has(store)) taken.get(store)?.push(id)
      else taken.set(store, [id])
    }
    writeMessage(socket, { type: 'taken', offer: message.offer, ...notTaken })
    for (const [store, ids] of taken) this.#onAdopted(store, { from: message.from, ids })
  }
}
