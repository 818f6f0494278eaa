/** The side that lends: takes connections of the cluster's nodes, and of nobody else. */
import { constants } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:tls'
import type { Server, TLSSocket } from 'node:tls'
import type { Logger } from 'pino'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { nodeNameOf } from '../../keys/node-certificate.js'
import { assertName } from '../../keys/node-name.js'
import { systemClock } from './clock.js'
import type { Clock } from './clock.js'
import { ControlConnection } from './control-connection.js'
import { parseCertificate } from './credentials.js'
import type { Credentials } from './credentials.js'
import { FrameDecoder } from './framing.js'
import { HandshakeGate } from './handshake-gate.js'
import { defaultServerLimits } from './limits.js'
import type { ServerLimits } from './limits.js'
import { Loans } from './loans.js'
import type { Hello, Welcome } from './messages.js'
import { RefusalLog } from './refusal-log.js'
import type { RequestHandlers } from './requests.js'
import { welcomePeer } from './welcoming.js'

export interface EnrollmentServerOptions {
  /** Port 0 takes a free one; `start` says which. */
  readonly listen: { readonly host: string; readonly port: number }
  readonly credentials: Credentials
  readonly cluster: string
  /** The nodes that may enroll; asked anew for each connection. */
  readonly peers: () => ReadonlySet<string>
  /**
   * Lends memory to a peer: makes its queue pairs, connects them to the peer's (ready to receive and to send)
   * and says what is lent. `signal` is aborted when that is to be taken back: the handshake has failed, the
   * peer has said `bye`, has enrolled anew, was cut off, or this server closes. It is not when the connection
   * is merely lost, as the peer may be reading on. What `lend` throws is told to the peer.
   */
  readonly lend: (peer: string, hello: Hello, signal: AbortSignal) => Promise<Welcome>
  readonly logger: Pick<Logger, 'info' | 'warn'>
  /** Methods that peers may call over the control connection. */
  readonly handlers?: RequestHandlers
  readonly limits?: Partial<ServerLimits>
  readonly clock?: Clock
}

interface EnrollmentServerEvents {
  enrolled: [peer: string, connection: ControlConnection]
}

/** A connection that is being set up. */
interface Arrival {
  readonly from: string
  /** Aborted, with the error that says why, when the handshake fails; later, when the loan is over. */
  readonly lifetime: AbortController
  /** The handshake is over, well or badly. */
  readonly leave: () => void
}

export class EnrollmentServer extends EventEmitter<EnrollmentServerEvents> {
  readonly #options: EnrollmentServerOptions
  readonly #limits: ServerLimits
  readonly #clock: Clock
  readonly #gate: HandshakeGate
  readonly #log: RefusalLog
  readonly #server: Server
  /** By the address and port they come from, which is what a TLS socket shares with the socket below it. */
  readonly #arrivals = new Map<string, Arrival>()
  readonly #sockets = new Set<Socket>()
  readonly #enrolled = new Map<string, ControlConnection>()
  readonly #loans = new Loans()
  readonly #forgetCredentials: () => void
  #closing: Promise<void> | undefined

  /** @throws BackdoorsError INVALID_ARGUMENT if the cluster's name cannot be one. */
  constructor(options: EnrollmentServerOptions) {
    super()
    assertName(options.cluster, 'cluster')
    this.#options = options
    this.#limits = { ...defaultServerLimits, ...options.limits }
    this.#clock = options.clock ?? systemClock
    this.#gate = new HandshakeGate(this.#limits.maxHandshakes)
    this.#log = new RefusalLog(options.logger, this.#clock, this.#limits.refusalLinesPerSecond)
    this.#server = this.#createServer()
    const { credentials } = options
    this.#forgetCredentials = credentials.onReplaced(() =>
      this.#loans.endWhere((_, { certificate }) => credentials.isRevoked(certificate), 'its certificate has been revoked'),
    )
  }

  /**
   * Starts to listen; resolves to where.
   * @throws BackdoorsError SYSTEM_CALL_FAILED, e.g. if the port is taken; CLOSED.
   */
  async start(): Promise<{ host: string; port: number }> {
    const { host, port } = this.#options.listen
    if (this.#closing !== undefined) throw new BackdoorsError('CLOSED', 'this enrollment server is closed')
    const details = { call: 'listen', path: `${host}:${port}` }
    try {
      this.#server.listen({ host, port })
      await once(this.#server, 'listening')
    } catch (error) {
      const { errno, code } = error as NodeJS.ErrnoException
      throw asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `listening for peers at ${host}:${port}`, {
        ...details,
        ...(errno === undefined ? {} : { errno: Math.abs(errno) }),
        ...(code === undefined ? {} : { errnoName: code }),
      })
    }
    // A single failed accept (no descriptors left, say) is no reason to stop serving.
    this.#server.on('error', (error) => this.#log.write(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', 'accepting a connection'), 'listener'))
    const { address, port: bound } = this.#server.address() as AddressInfo
    return { host: address, port: bound }
  }

  /** The control connections that stand, by the peer's name. */
  get connections(): ReadonlyMap<string, ControlConnection> {
    return this.#enrolled
  }

  /** Connections that are being set up. */
  get handshakesUnderWay(): number {
    return this.#gate.size
  }

  /** Ends the connections and loans of peers that are no longer in the peer list; to be called when it has changed. */
  recheckPeers(): void {
    const peers = this.#options.peers()
    for (const [peer, connection] of this.#enrolled) {
      if (!peers.has(peer)) connection.dismiss(`${peer} is no longer a peer of this node`)
    }
    this.#loans.endWhere((peer) => !peers.has(peer), 'it is no longer a peer of this node')
  }

  /** Stops listening, says `bye` to every peer, and cuts what is in its handshake. Idempotent. */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    const stopped = this.#server.listening ? once(this.#server, 'close') : Promise.resolve()
    this.#server.close()
    for (const arrival of this.#arrivals.values()) arrival.lifetime.abort(new BackdoorsError('CLOSED', 'this node is shutting down'))
    await Promise.all([...this.#enrolled.values()].map((connection) => connection.close('shutting down')))
    for (const socket of this.#sockets) socket.destroy()
    this.#forgetCredentials()
    this.#loans.endWhere(() => true, 'this node is shutting down')
    await stopped
  }

  #createServer(): Server {
    const { credentials } = this.#options
    const server = createServer({
      // No certificate by default: it is shown only to a client that asks for this node in the way that a
      // member of the cluster does (`knockFor`).
      SNICallback: (name, answer) => answer(null, credentials.knocks.includes(name) ? credentials.context : undefined),
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      requestCert: true,
      // `#identify` rejects, first of all: TLS by itself would do it without saying who came and why.
      rejectUnauthorized: false,
      // A resumed session is not checked against the revocation list, so there are none.
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: 2 * this.#limits.handshakeTimeoutMs,
    })
    server.prependListener('connection', (socket: Socket) => this.#arrive(socket))
    server.on('secureConnection', (socket) => void this.#enroll(socket))
    server.on('tlsClientError', (error, socket) => this.#onTlsError(error, socket))
    return server
  }

  #arrive(socket: Socket): void {
    const key = keyOf(socket)
    const lifetime = new AbortController()
    const { handshakeTimeoutMs, maxHandshakes } = this.#limits
    const abort = (code: 'HANDSHAKE_TIMEOUT' | 'HANDSHAKE_REFUSED', message: string): void => lifetime.abort(new BackdoorsError(code, message))
    const timer = this.#clock.after(handshakeTimeoutMs, () => abort('HANDSHAKE_TIMEOUT', `the handshake was not over after ${handshakeTimeoutMs} ms`))
    const leaveGate = this.#gate.admit(socket.remoteAddress ?? '', () => abort('HANDSHAKE_REFUSED', `more than ${maxHandshakes} connections were in their handshake`))
    const leave = (): void => {
      timer.cancel()
      leaveGate()
      this.#arrivals.delete(key)
    }
    this.#arrivals.set(key, { from: key, lifetime, leave })
    this.#sockets.add(socket)
    lifetime.signal.addEventListener('abort', () => {
      // Still in its handshake: it was cut off from here, and that is worth its line.
      if (this.#arrivals.has(key)) this.#log.write(lifetime.signal.reason as BackdoorsError, key)
      leave()
      socket.destroy()
    })
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (this.#arrivals.has(key)) abort('HANDSHAKE_REFUSED', 'the peer ended the connection before the handshake was over')
    })
    socket.on('error', () => undefined)
    if (this.#closing !== undefined) lifetime.abort(new BackdoorsError('CLOSED', 'this node is shutting down'))
  }

  #onTlsError(error: Error, socket: TLSSocket): void {
    const refusal = new BackdoorsError('HANDSHAKE_REFUSED', `no TLS 1.3 as this cluster speaks it: ${error.message}`, { cause: error })
    this.#arrivals.get(keyOf(socket))?.lifetime.abort(refusal)
    socket.destroy()
  }

  async #enroll(socket: TLSSocket): Promise<void> {
    const arrival = this.#arrivals.get(keyOf(socket))
    socket.on('error', () => undefined)
    if (arrival === undefined) return void socket.destroy()
    try {
      const peer = this.#identify(socket)
      const decoder = new FrameDecoder()
      const { credentials, cluster, lend } = this.#options
      await welcomePeer({ socket, decoder, peer, node: credentials.node, cluster, signal: arrival.lifetime.signal, lend: (hello) => this.#lend(lend, peer, hello, arrival) })
      arrival.leave()
      this.#keep(peer, socket, decoder, arrival)
    } catch (error) {
      arrival.lifetime.abort(asBackdoorsError(error, 'PROTOCOL_ERROR', 'the handshake'))
    }
  }

  /** Who speaks is what the certificate says, and nothing else. */
  #identify(socket: TLSSocket): string {
    if (!socket.authorized) {
      throw new BackdoorsError('CERTIFICATE_INVALID', `the peer showed no certificate that holds: ${String(socket.authorizationError)}`)
    }
    const certificate = parseCertificate(socket.getPeerCertificate().raw)
    const peer = certificate === undefined ? undefined : nodeNameOf(certificate)
    if (peer === undefined || socket.isSessionReused()) {
      throw new BackdoorsError('CERTIFICATE_INVALID', 'the certificate that the peer showed names no node')
    }
    if (!this.#options.peers().has(peer)) {
      throw new BackdoorsError('PEER_UNKNOWN', `${peer} is not in this node's peer list: add it there if it belongs to it`, { peer })
    }
    return peer
  }

  async #lend(lend: EnrollmentServerOptions['lend'], peer: string, hello: Hello, arrival: Arrival): Promise<Welcome> {
    // A peer that comes again has left its old connection, whether it knows it or not. That one goes first, so
    // that what was lent over it is free.
    this.#enrolled.get(peer)?.dismiss(`${peer} has enrolled anew`)
    this.#loans.end(peer, `${peer} has enrolled anew`)
    return await lend(peer, hello, arrival.lifetime.signal)
  }

  #keep(peer: string, socket: TLSSocket, decoder: FrameDecoder, arrival: Arrival): void {
    const { credentials, handlers = new Map(), logger } = this.#options
    this.#enrolled.get(peer)?.dismiss(`${peer} has enrolled anew`)
    const connection = new ControlConnection({ socket, decoder, peer, credentials, handlers, limits: this.#limits, clock: this.#clock })
    this.#enrolled.set(peer, connection)
    const { lifetime } = arrival
    this.#loans.grant(peer, { lifetime, certificate: socket.getPeerCertificate().raw })
    void connection.closed.then((closure) => {
      if (this.#enrolled.get(peer) === connection) this.#enrolled.delete(peer)
      logger.info({ peer, reason: closure.reason, by: closure.by }, `control connection over: ${closure.detail}`)
      this.#loans.onClosed(peer, lifetime, closure)
    })
    logger.info({ peer, from: arrival.from }, 'peer enrolled')
    this.emit('enrolled', peer, connection)
  }
}

function keyOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ''}:${socket.remotePort ?? 0}`
}
