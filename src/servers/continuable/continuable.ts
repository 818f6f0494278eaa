/**
 * Connections of a server that outlive its machine.
 *
 * ## Why it is exact
 *
 * Input is committed before the server is given it, and output before the kernel is: whatever the server did was a consequence of
 * committed input, and whatever the client got is committed output. When the machine has died, its kernel's memory says how many bytes it
 * had read and written. With the record this is enough:
 *
 * - read more than was committed: the rest is lost (`input-missing`); written more than was committed: cannot be (`output-unknown`).
 * - A response whose last write is kept literally is finished by sending what is missing of it. Its request is not run again.
 * - A response that was not finished is made anew, by giving the request again. What the client has of it is compared with what is made
 *   anew, to the last byte that was decided, and only what comes after is sent; the head that was decided stands, for what differs in
 *   the new one is in headers that are known to (`volatileHeaders`). A difference ends the connection before a wrong byte leaves.
 * - A request that was begun and whose response was not decided would run twice. That is what HTTP allows of safe and idempotent
 *   methods (RFC 9110, section 9.2.2), and of others, and of what is no request, only who says so (`replay`, `resume`); else the connection
 *   is reset (`not-repeatable`).
 */
import { randomBytes } from 'node:crypto'
import { Server as HttpServer, type IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { ResetReason } from '../../recovery/tcp/connection.js'
import { bytesCodec, type Codec } from '../codec.js'
import type { ConnectionOutcome, OnRestored, RestoredConnection } from '../restored-connection.js'
import type { SessionStore, SessionStoreOptions } from '../session-store.js'
import type { Common, GivenUp } from './common.js'
import { connectionOf, setConnection } from './connection-of.js'
import { Connection } from './connection.js'
import { nameOfSocket } from './names.js'
import { decodeRecord } from './record.js'
import { IdleConnections } from './idle-connections.js'
import { markRequest } from './requests.js'
import { Scratch } from './scratch.js'
import { isBetweenRequests, letFlow, setAsAccepted } from './restored-socket.js'
import { continueConnection, type UnfinishedRequest } from './take-over-connection.js'

/** What a continuable server needs of its node; `AttachedNode` has it. */
export interface ContinuationNode {
  /** Of its machine's region: another after each start. */
  readonly incarnation: bigint
  sessions<T>(name: string, options?: SessionStoreOptions<T>): SessionStore<T>
  /** Says that this server goes on with connections of this local port. @returns what takes that back */
  onRestored(port: number, handler: OnRestored): () => void
}

export interface ContinuableOptions {
  /** The same on every machine that runs this server, and another for each server of a process: 1 to 52 bytes. Default `server`. */
  readonly name?: string
  /** Of a client's input, most that is kept of one connection while it is not done with, in bytes. Default 1 MiB. */
  readonly maxInputBytes?: number
  /** A write of up to so many bytes is kept literally. Default 64 KiB. */
  readonly maxLiteralBytes?: number
  /** Whether an unfinished request may run again that HTTP does not define as safe or idempotent, or be given again what a `net` server was not done with. Default: none. */
  readonly replay?: (request: UnfinishedRequest) => boolean
  /** Headers whose values may be others when a response is made anew. Default: `date`, `x-request-id`, `x-response-time`, `server-timing`. */
  readonly volatileHeaders?: readonly string[]
  /**
   * How long a server that makes a response anew may say nothing until it has come to what the client does not have, in milliseconds; then
   * the connection is reset (`replay-silent`). After that, and of a response of which nothing had been sent, the server's own limits hold.
   * Default 30 s.
   */
  readonly replaySilenceMs?: number
  /** Of a server that is not HTTP: is given a connection that came over, instead of `connection`'s listeners; input that was not done with is given again. */
  readonly resume?: (socket: Socket, state: Uint8Array | undefined) => void
}

export interface ContinuableStatistics {
  /** Connections that came over and went on. */
  readonly continued: number
  /** Connections that came over and were reset, by reason. */
  readonly reset: Readonly<Partial<Record<ResetReason, number>>>
  /** Connections of this machine that would be reset, or that ended because this server is fenced, or its node was closed. */
  readonly givenUp: Readonly<Partial<Record<GivenUp, number>>>
}

const repeatable = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])
const volatileHeaders = ['date', 'x-request-id', 'x-response-time', 'server-timing']
/** As Node.js's parser reads it: a whole word of a list, behind which there may be spaces, and no tab. */
const asksForUpgrade = /\r\n(?:proxy-)?connection:(?:[^\r]*,)?[ \t]*upgrade *[,\r]/i
const requestEvents = new Set<unknown>(['request', 'checkContinue', 'checkExpectation', 'upgrade', 'connect'])
const defaultSilenceMs = 30_000
/** A record that came over without its connection is deleted after so long. */
const unclaimedMs = 120_000
/** Of what is given again, nothing is known beforehand: any bytes are taken, and checked when they are needed. */
const recordCodec: Codec<Uint8Array> = bytesCodec

/**
 * Makes the connections of a `net` or `http` server outlive its machine. Call it before the server listens.
 * @throws BackdoorsError INVALID_ARGUMENT for a TLS or HTTP/2 server: end TLS in front of it, see docs/continuable.md
 *
 * @example
 * const server = http.createServer(handler)
 * continuable(server, await attach({ region }), { name: 'shop' })
 * server.listen(8080)
 */
export function continuable(server: Server, node: ContinuationNode, options: ContinuableOptions = {}): Continuable {
  return new Continuable(server, node, options)
}

export class Continuable {
  readonly #server: Server
  readonly #node: ContinuationNode
  readonly #options: ContinuableOptions
  readonly #common: Common
  readonly #isHttp: boolean
  readonly #idle: IdleConnections | undefined
  readonly #statistics: { continued: number; reset: Partial<Record<ResetReason, number>>; givenUp: Partial<Record<GivenUp, number>> } = { continued: 0, reset: {}, givenUp: {} }
  readonly #unclaimed = new Set<NodeJS.Timeout>()
  #unregister: (() => void) | undefined

  /** Use `continuable`. */
  constructor(server: Server, node: ContinuationNode, options: ContinuableOptions) {
    checkServer(server)
    const { name = 'server', maxInputBytes = 1 << 20, maxLiteralBytes = 64 << 10 } = options
    for (const [field, value] of Object.entries({ maxInputBytes, maxLiteralBytes })) {
      if (!Number.isSafeInteger(value) || value < 0 || value > 2 ** 30) throw new BackdoorsError('INVALID_ARGUMENT', `${field} must be a whole number of bytes up to 2^30, not ${value}.`, { field })
    }
    const { replaySilenceMs = defaultSilenceMs } = options
    if (!Number.isSafeInteger(replaySilenceMs) || replaySilenceMs < 1 || replaySilenceMs > 2 ** 31 - 1) throw new BackdoorsError('INVALID_ARGUMENT', `replaySilenceMs must be a whole number of milliseconds from 1 to 2^31 - 1, not ${replaySilenceMs}.`, { field: 'replaySilenceMs' })
    this.#server = server
    this.#node = node
    this.#options = options
    this.#isHttp = server instanceof HttpServer
    this.#idle = server instanceof HttpServer ? new IdleConnections(server) : undefined
    const store = node.sessions<Uint8Array>(`connections:${name}`, { codec: recordCodec })
    this.#common = {
      store, live: new Set(), life: node.incarnation, scratch: new Scratch(), maxInputBytes, maxLiteralBytes,
      volatile: new Set((options.volatileHeaders ?? volatileHeaders).map((header) => header.toLowerCase())),
      mayUpgrade: (method, head) => (method === 'CONNECT' ? true : server.listenerCount('upgrade') > 0 && asksForUpgrade.test(head)),
      gaveUp: (reason) => count(this.#statistics.givenUp, reason),
    }
    // Connections of an earlier life of this process ended with it.
    for (const id of [...store.ids()]) store.delete(id)
    store.on('adopted', ({ ids }) => this.#expect(ids))
    this.#tap()
    server.on('listening', () => this.#register())
    server.on('close', () => this.#close())
    if (server.listening) this.#register()
  }

  get statistics(): ContinuableStatistics {
    return this.#statistics
  }

  /** For `node.onRestored`: goes on with a connection, or resets it and says why. */
  async restored(restored: RestoredConnection): Promise<ConnectionOutcome> {
    const { name, socket } = restored
    const reset = await this.#continue(restored).catch((error: unknown): ResetReason => {
      if (isBackdoorsError(error)) return 'not-continuable'
      throw error
    })
    if (reset === undefined) {
      this.#statistics.continued++
      return { name }
    }
    connectionOf(socket)?.end()
    socket.resetAndDestroy()
    this.#forget(name)
    count(this.#statistics.reset, reset)
    return { name, reset }
  }

  async #continue(restored: RestoredConnection): Promise<ResetReason | undefined> {
    const bytes = this.#common.store.get(restored.name)
    if (bytes === undefined) return 'no-record'
    const record = decodeRecord(bytes)
    if (record === undefined) return 'garbage'
    if (record.broken === undefined && (record.protocol === 'raw') === this.#isHttp) return 'not-continuable'
    const { replay, resume, replaySilenceMs = defaultSilenceMs } = this.#options
    return continueConnection(record, restored, {
      common: this.#common, silenceMs: replaySilenceMs,
      mayRepeat: (request) => repeatable.has(request.method) || replay?.(request) === true || (resume !== undefined && !this.#isHttp),
      serve: (socket, connection) => this.#serve(socket, connection),
    })
  }

  #serve(socket: Socket, connection: Connection): void {
    setConnection(socket, connection)
    setAsAccepted(socket, this.#server)
    const { resume } = this.#options
    if (resume !== undefined && !this.#isHttp) resume(socket, connection.continuation?.state)
    else this.#server.emit('connection', socket)
    if (isBetweenRequests(connection)) this.#idle?.add(socket)
    letFlow(socket)
  }

  /** Sees connections and requests on their way to the server's listeners, and is none of them, for their number says what a server can do. */
  #tap(): void {
    const server = this.#server
    const emit = server.emit.bind(server) as (event: string | symbol, ...values: unknown[]) => boolean
    server.emit = (event: string | symbol, ...values: unknown[]): boolean => {
      if (event === 'connection') return this.#accept(values[0] as Socket, () => emit(event, ...values))
      if (requestEvents.has(event)) {
        const request = values[0] as IncomingMessage
        const connection = connectionOf(request.socket)
        if (connection !== undefined) markRequest(request, connection, event === 'upgrade' || event === 'connect')
      }
      return emit(event, ...values)
    }
  }

  #accept(socket: Socket, emit: () => boolean): boolean {
    if (connectionOf(socket) === undefined) {
      const id = nameOfSocket(socket)
      if (id === undefined) return emit()
      const connection = new Connection(this.#common, socket, {
        protocol: this.#isHttp ? 'http' : 'raw', id, nonce: randomBytes(8).readBigUInt64LE(),
        base: { read: 0, written: 0 }, inputAt: 0, outputAt: 0, nextRequest: 0,
      })
      setConnection(socket, connection)
      if (!connection.commit()) return true
      connection.install()
    }
    const emitted = emit()
    // A listener for data makes Node.js give input to the socket's own stream, and no longer past it to its parser.
    const nothing = (): void => undefined
    if (this.#isHttp) socket.on('data', nothing).removeListener('data', nothing)
    return emitted
  }

  #register(): void {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') return
    this.#unregister?.()
    this.#unregister = this.#node.onRestored(address.port, (restored) => this.restored(restored))
  }

  #close(): void {
    this.#unregister?.()
    this.#unregister = undefined
    for (const timer of this.#unclaimed) clearTimeout(timer)
    this.#unclaimed.clear()
  }

  #expect(ids: readonly string[]): void {
    const timer = setTimeout(() => {
      this.#unclaimed.delete(timer)
      for (const id of ids) if (!this.#common.live.has(id)) this.#forget(id)
    }, unclaimedMs).unref()
    this.#unclaimed.add(timer)
  }

  #forget(id: string): void {
    try {
      this.#common.store.delete(id)
    } catch (error) {
      if (!isBackdoorsError(error, 'FENCED', 'CLOSED')) throw error
    }
  }
}

function count<T extends string>(counts: Partial<Record<T, number>>, what: T): void {
  counts[what] = (counts[what] ?? 0) + 1
}

function checkServer(server: Server): void {
  const isHttp2 = server.constructor.name === 'Http2Server'
  if (!(server instanceof TlsServer) && !isHttp2) return
  throw new BackdoorsError('INVALID_ARGUMENT', `A connection of ${isHttp2 ? 'HTTP/2' : 'TLS'} cannot be continued: what it needs is in the process that died. End ${isHttp2 ? 'HTTP/2' : 'TLS'} in a proxy in front, as docs/continuable.md shows, and make the plain server behind it continuable.`, { field: 'server' })
}
