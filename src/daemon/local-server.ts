/** The daemon's unix socket beside its region: servers take adopted sessions over, the command line asks. */
import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from 'pino'
import { asBackdoorsError, BackdoorsError } from '../errors.js'
import { readMessages, toDaemon, writeMessage, type ToDaemon } from '../servers/local-protocol.js'
import type { ConnectionOutcome } from '../servers/restored-connection.js'
import type { Handover, LocalServer } from './handover.js'
import type { BoxGeneration } from './offered-sessions.js'

export type LocalMethod = (params: Record<string, unknown>) => unknown

interface AttachedServer extends LocalServer {
  stores: ReadonlySet<string>
  continues: ReadonlySet<number>
}

/** What became of connections that a server was given. */
export type OnContinued = (server: BoxGeneration, outcomes: readonly ConnectionOutcome[]) => void

export class LocalSocket {
  readonly #server: Server
  readonly #path: string
  readonly #handover: Handover
  readonly #methods: Readonly<Record<string, LocalMethod>>
  readonly #log: Logger
  readonly #onContinued: OnContinued
  readonly #sockets = new Set<Socket>()
  readonly #attached = new Map<Socket, AttachedServer>()

  constructor(path: string, handover: Handover, methods: Readonly<Record<string, LocalMethod>>, log: Logger, onContinued: OnContinued = () => undefined) {
    this.#path = path
    this.#handover = handover
    this.#methods = methods
    this.#log = log
    this.#onContinued = onContinued
    this.#server = createServer((socket) => this.#serve(socket))
  }

  /** Names of the servers that are connected. */
  get attached(): string[] {
    return [...this.#attached.values()].map(({ name }) => name)
  }

  /** The server that continues connections to this local port; of several, the one that has been here longest. */
  continuing(port: number): BoxGeneration | undefined {
    return [...this.#attached.values()].find(({ continues }) => continues.has(port))
  }

  /** The daemon holds its region's lock by now, so a socket file that is there belongs to a dead one. */
  async listen(): Promise<void> {
    rmSync(this.#path, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `Cannot listen on ${this.#path}`, { path: this.#path })))
      this.#server.listen(this.#path, resolve)
    })
    chmodSync(this.#path, 0o600)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', (error) => this.#log.debug({ err: error }, 'a local connection failed'))
    socket.once('close', () => {
      this.#sockets.delete(socket)
      this.#detach(socket)
    })
    readMessages(socket, toDaemon, (message) => this.#onMessage(socket, message), (error) => this.#log.warn({ err: error }, 'a local message was refused'))
  }

  #detach(socket: Socket): void {
    const server = this.#attached.get(socket)
    this.#attached.delete(socket)
    if (server) this.#handover.leave(server)
  }

  #onMessage(socket: Socket, message: ToDaemon): void {
    if (message.type === 'request') return void this.#answer(socket, message)
    if (message.type === 'taken') {
      const server = this.#attached.get(socket)
      if (server) this.#handover.taken(message.offer, server, message)
      return
    }
    if (message.type === 'continued') {
      const server = this.#attached.get(socket)
      if (server) this.#onContinued(server, message.outcomes)
      return
    }
    this.#attach(socket, message)
  }

  #attach(socket: Socket, { name, box, generation, stores, continues }: Extract<ToDaemon, { type: 'attached' }>): void {
    const known = this.#attached.get(socket)
    if (known?.box === box && known.generation === generation) {
      // It only serves more stores by now: what it has been offered is under way all the same.
      known.stores = new Set(stores)
      known.continues = new Set(continues)
      this.#handover.join(known)
      return
    }
    this.#detach(socket)
    const server: AttachedServer = {
      name, box, generation,
      stores: new Set(stores),
      continues: new Set(continues),
      offer: (offer, from, sessions) => void writeMessage(socket, { type: 'offered', offer, from, sessions: [...sessions] }),
    }
    this.#attached.set(socket, server)
    this.#handover.join(server)
  }

  async #answer(socket: Socket, { id, method, params }: Extract<ToDaemon, { type: 'request' }>): Promise<void> {
    try {
      const run = Object.hasOwn(this.#methods, method) ? this.#methods[method] : undefined
      if (run === undefined) throw new BackdoorsError('PROTOCOL_ERROR', `This daemon knows no request "${method.slice(0, 40)}".`)
      writeMessage(socket, { type: 'response', id, result: await run(params) })
    } catch (error) {
      const { code, message } = asBackdoorsError(error, 'PROTOCOL_ERROR', `Request ${method} failed`)
      writeMessage(socket, { type: 'response', id, error: { code, message } })
    }
  }
}
