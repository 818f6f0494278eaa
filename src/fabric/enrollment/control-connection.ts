/** What an enrollment leaves behind: a connection that shows that the peer lives, and carries requests. */
import type { TLSSocket } from 'node:tls'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import type { Clock, Timer } from './clock.js'
import { isSilence } from './closure.js'
import type { CloseReason, Closure } from './closure.js'
import type { Credentials } from './credentials.js'
import { encodeFrame, maxMessageBytes } from './framing.js'
import type { FrameDecoder } from './framing.js'
import type { ConnectionLimits } from './limits.js'
import { controlSchema, maxTextLength, readMessage, toWire } from './messages.js'
import type { ControlMessage } from './messages.js'
import { Requests } from './requests.js'
import type { RequestHandlers } from './requests.js'

export interface ControlConnectionOptions {
  readonly socket: TLSSocket
  /** Holds what the peer sent behind its last handshake message. */
  readonly decoder: FrameDecoder
  readonly peer: string
  readonly credentials: Credentials
  readonly handlers: RequestHandlers
  readonly limits: ConnectionLimits
  readonly clock: Clock
}

/** A peer that takes nothing is cut off when so much waits for it, in bytes. */
const maxUnsentBytes = 8 * maxMessageBytes

export class ControlConnection {
  readonly peer: string
  /** Resolves, never rejects, once the connection is over. */
  readonly closed: Promise<Closure>
  readonly #options: ControlConnectionOptions
  readonly #requests: Requests
  readonly #peerCertificate: Uint8Array
  readonly #forgetCredentials: () => void
  #resolveClosed!: (closure: Closure) => void
  #closure: Closure | undefined
  #heardMs: number
  #tickDueMs = 0
  #ticker: Timer | undefined
  #saidBye: { readonly reason: string } | undefined
  #pingId = 0
  /** When each unanswered ping was sent; as many as fit in the time after which the peer counts as silent. */
  readonly #unanswered = new Map<number, number>()
  #answeredMs = -Infinity
  #roundTripMs: number | undefined

  constructor(options: ControlConnectionOptions) {
    const { socket, peer, clock, handlers, limits, credentials } = options
    this.#options = options
    this.peer = peer
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    this.#requests = new Requests({ peer, clock, handlers, maxRequests: limits.maxRequests, send: (message) => this.#send(message) })
    this.#peerCertificate = socket.getPeerCertificate().raw
    this.#forgetCredentials = credentials.onReplaced(() => this.#recheck())
    this.#heardMs = clock.nowMs()
    this.#listen()
    this.#recheck()
    this.#scheduleTick()
  }

  /** Time from a ping to its pong, in milliseconds; undefined before the first one came. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs
  }

  /**
   * How long ago the latest ping was sent that the peer has answered, in milliseconds; Infinity before the first. The
   * peer ran at some time since then: an answer that was late, or lay unread here, makes it look no younger.
   */
  get answeredAgoMs(): number {
    return this.#options.clock.nowMs() - this.#answeredMs
  }

  /** Where the peer speaks from. */
  get remoteAddress(): string | undefined {
    return this.#options.socket.remoteAddress
  }

  /**
   * Asks the peer. `body` and the answer are JSON; the answer is not validated.
   * @throws BackdoorsError CLOSED, TIMEOUT, QUEUE_FULL, MESSAGE_TOO_LARGE, INVALID_ARGUMENT, or what the peer answered with.
   */
  async request(method: string, body: unknown, timeoutMs = this.#options.limits.requestTimeoutMs): Promise<unknown> {
    return await this.#requests.ask(method, body, timeoutMs)
  }

  /** Says `bye` and closes. Idempotent; resolves when the connection is over, within the close time-out. */
  async close(reason = 'closing'): Promise<void> {
    if (this.#closure === undefined && this.#saidBye === undefined) {
      this.#saidBye = { reason: reason.slice(0, maxTextLength) }
      this.#send({ type: 'bye', reason: this.#saidBye.reason })
      this.#options.socket.end()
      const timer = this.#options.clock.after(this.#options.limits.closeTimeoutMs, () => this.#sayByeIsDone())
      void this.closed.then(() => timer.cancel())
    }
    await this.closed
  }

  /** Cuts the connection: the peer is not to be spoken to any more. Idempotent. */
  dismiss(detail: string): void {
    this.#end('dismissed', 'us', detail)
  }

  #listen(): void {
    const { socket, decoder } = this.#options
    socket.on('data', (piece: Buffer) => {
      decoder.push(piece)
      this.#drain()
    })
    socket.on('end', () => this.#onStreamEnd())
    socket.on('error', (error: Error) => this.#onSocketError(error))
    socket.on('close', () => this.#onStreamEnd())
    // After the current turn, so that whoever gets this connection sees its first messages being handled.
    setImmediate(() => {
      this.#drain()
      socket.resume()
      if (socket.destroyed) this.#onStreamEnd()
    })
  }

  #drain(): void {
    try {
      while (this.#closure === undefined) {
        const frame = this.#options.decoder.next()
        if (frame === undefined) return
        const message = readMessage(controlSchema, frame)
        this.#heardMs = this.#options.clock.nowMs()
        this.#onMessage(message)
      }
    } catch (error) {
      const known = asBackdoorsError(error, 'PROTOCOL_ERROR', `a message of ${this.peer}`, { peer: this.peer })
      this.#end('misbehaved', 'us', known.message, known)
    }
  }

  #onMessage(message: ControlMessage): void {
    switch (message.type) {
      case 'ping':
        return this.#send({ type: 'pong', id: message.id })
      case 'pong':
        return this.#onPong(message.id)
      case 'bye':
        return this.#end('closed-orderly', 'peer', message.reason)
      case 'request':
        void this.#requests.onRequest(message)
        return
      case 'response':
        return this.#requests.onResponse(message)
    }
  }

  #onPong(id: number): void {
    const sentMs = this.#unanswered.get(id)
    if (sentMs === undefined) return
    this.#answeredMs = sentMs
    this.#roundTripMs = this.#options.clock.nowMs() - sentMs
    for (const [earlier, earlierMs] of this.#unanswered) if (earlierMs <= sentMs) this.#unanswered.delete(earlier)
  }

  #send(message: ControlMessage): void {
    const { socket } = this.#options
    if (this.#closure !== undefined) return
    const frame = encodeFrame(toWire(controlSchema, message))
    if (socket.writableEnded || !socket.writable) return
    socket.write(frame)
    if (socket.writableLength > maxUnsentBytes) this.#end('silent', 'us', `${this.peer} takes none of the ${socket.writableLength} bytes that wait for it`)
  }

  #scheduleTick(): void {
    const { clock, limits } = this.#options
    this.#tickDueMs = clock.nowMs() + limits.pingIntervalMs
    this.#ticker = clock.after(limits.pingIntervalMs, () => this.#tick())
  }

  #tick(): void {
    const { clock, limits } = this.#options
    const nowMs = clock.nowMs()
    // While this process itself did not run, the peer could not be heard: that time is not the peer's silence.
    const latenessMs = Math.max(0, nowMs - this.#tickDueMs)
    if (latenessMs > limits.pingIntervalMs) this.#heardMs = Math.min(nowMs, this.#heardMs + latenessMs)
    const silentMs = nowMs - this.#heardMs
    if (silentMs >= limits.silentAfterMs) return this.#end('silent', 'peer', `nothing was heard of ${this.peer} for ${Math.round(silentMs)} ms`)
    this.#pingId = (this.#pingId + 1) % 0x1_0000_0000
    this.#unanswered.set(this.#pingId, nowMs)
    this.#send({ type: 'ping', id: this.#pingId })
    if (this.#closure === undefined) this.#scheduleTick()
  }

  #onStreamEnd(): void {
    if (this.#saidBye !== undefined) return this.#sayByeIsDone()
    const cut = this.#options.decoder.heldBytes > 0 ? ', in the middle of a frame' : ''
    this.#end('reset', 'peer', `${this.peer} ended the connection without a word${cut}`)
  }

  #onSocketError(error: Error): void {
    if (this.#saidBye !== undefined) return this.#sayByeIsDone()
    const known = asBackdoorsError(error, 'PEER_UNREACHABLE', `the control connection to ${this.peer}`, { peer: this.peer })
    if (isSilence(error)) return this.#end('silent', 'peer', error.message, known)
    const { code = '' } = error as NodeJS.ErrnoException
    this.#end(code.startsWith('ERR_SSL') ? 'misbehaved' : 'reset', 'peer', error.message, known)
  }

  #sayByeIsDone(): void {
    this.#end('closed-orderly', 'us', this.#saidBye?.reason ?? '')
  }

  #recheck(): void {
    if (this.#options.credentials.isRevoked(this.#peerCertificate)) {
      const error = new BackdoorsError('CERTIFICATE_INVALID', `the certificate of ${this.peer} has been revoked`, { peer: this.peer })
      this.#end('dismissed', 'us', error.message, error)
    }
  }

  #end(reason: CloseReason, by: 'us' | 'peer', detail: string, error?: BackdoorsError): void {
    if (this.#closure !== undefined) return
    const lastHeardAgoMs = this.#options.clock.nowMs() - this.#heardMs
    this.#closure = { reason, by, detail, lastHeardAgoMs, ...(error === undefined ? {} : { error }) }
    this.#ticker?.cancel()
    this.#forgetCredentials()
    this.#requests.end()
    this.#options.socket.destroy()
    this.#resolveClosed(this.#closure)
  }
}
