/** Keeps a connection to one peer, and the link to its region; lent hosts are reached over the same connection. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import { enroll, Enroller, probeMachine, type Closure, type Credentials, type EnrolledConnection, type RequestHandlers } from '../../fabric/enrollment/index.js'
import { VerbsConnector } from '../../fabric/verbs/connector.js'
import type { VerbsDevice } from '../../fabric/verbs/device.js'
import type { ControlConnection } from '../../monitor/verdict.js'
import type { RegionHeader } from '../../region/header.js'
import { readHeader } from '../../region/region-reader.js'
import type { DaemonConfig, PeerConfig } from '../config.js'
import type { PeerHandlers } from './peer-fabric.js'
import { VerbsLink } from './verbs-link.js'

/**
 * A machine is told apart from its memory by its answers to pings, so they come often; it is silent when it has
 * not answered for some times as long as its memory may take. In milliseconds.
 */
const pingIntervalMs = 250
const leastSilentAfterMs = 1500
const silencePerUnreachable = 3

/** Told of the connection's life by those who use it for more than the peer's own region. */
export interface ConnectionListener {
  readonly onConnection: (connection: EnrolledConnection) => void
  /** The connection is over, or more was learned since of the machine behind it. */
  readonly onLost: (control: ControlConnection) => void
  readonly onTrouble: (error: unknown) => void
}

export class VerbsKeeper {
  readonly #peer: PeerConfig
  readonly #cluster: string
  readonly #verbs: DaemonConfig['verbs']
  readonly #limits: { readonly pingIntervalMs: number; readonly silentAfterMs: number }
  readonly #device: VerbsDevice
  readonly #credentials: Credentials
  readonly #log: Logger
  /** What the peer may ask over this connection. */
  readonly #methods: RequestHandlers
  readonly #enroller: Enroller
  /** What the try under way, or the last one that succeeded, is to be connected with. */
  #connector: VerbsConnector | undefined
  #handlers: PeerHandlers | undefined
  readonly #listeners = new Set<ConnectionListener>()
  #link: VerbsLink | undefined
  /** The connection stands, and its link has been closed by a watcher that is gone. */
  #isLinkSpent = false
  #closed = false

  constructor(peer: PeerConfig, { cluster, watch, verbs }: DaemonConfig, device: VerbsDevice, credentials: Credentials, log: Logger, methods: RequestHandlers = new Map()) {
    this.#peer = peer
    this.#cluster = cluster
    this.#verbs = verbs
    this.#limits = { pingIntervalMs, silentAfterMs: Math.max(leastSilentAfterMs, silencePerUnreachable * watch.unreachableAfterMs) }
    this.#device = device
    this.#credentials = credentials
    this.#log = log
    this.#methods = methods
    this.#enroller = new Enroller({
      peer: peer.name,
      attempt: (signal) => this.#attempt(signal),
      onLink: (connection) => this.#onLink(connection),
      onLost: (closure) => this.#onLost(closure),
      onFailure: (error) => {
        this.#handlers?.onTrouble(error)
        for (const listener of this.#listeners) listener.onTrouble(error)
        void this.#askMachine()
      },
    })
    this.#enroller.start()
  }

  get connection(): EnrolledConnection | undefined {
    return this.#enroller.connection
  }

  /** The peer's own region is to be watched as well. */
  watch(handlers: PeerHandlers): void {
    this.#handlers = handlers
    if (this.#link) handlers.onLink(this.#link)
    // The link that stood went with its last watcher: the enroller makes another.
    else if (this.#isLinkSpent) void this.connection?.close('it is watched anew')
  }

  /** The peer's own region is not watched any more; its link, if there is one, is the watcher's to close. */
  unwatch(handlers: PeerHandlers): void {
    if (this.#handlers !== handlers) return
    this.#isLinkSpent = this.#link !== undefined
    this.#handlers = undefined
    this.#link = undefined
  }

  /** For those who use the connection for what else the peer lends. @returns what ends it */
  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener)
    if (this.connection) listener.onConnection(this.connection)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#enroller.stop()
    this.#connector?.close()
    if (this.#handlers === undefined) await this.#link?.close()
  }

  async #attempt(signal: AbortSignal): Promise<EnrolledConnection> {
    const { name, host, port } = this.#peer
    const { queuePairs, timeoutMs } = this.#verbs
    const connector = new VerbsConnector({ device: this.#device, peer: name, queuePairs, timeoutMs })
    try {
      const connection = await enroll({
        address: { host: host as string, port: port as number }, peer: name, credentials: this.#credentials,
        cluster: this.#cluster, hello: { fabric: 'verbs', endpoints: connector.endpoints }, handlers: this.#methods, signal, limits: this.#limits,
      })
      this.#connector = connector
      return connection
    } catch (error) {
      connector.close()
      throw error
    }
  }

  #onLink(connection: EnrolledConnection): void {
    const { welcome } = connection
    const connector = this.#connector
    if (welcome.fabric !== 'verbs' || connector === undefined) throw new BackdoorsError('PROTOCOL_ERROR', `${this.#peer.name} answered for another fabric.`, { peer: this.#peer.name })
    const { sampling, recovery } = connector.connect(welcome.endpoints, welcome.windows)
    const close = async (): Promise<void> => void (await Promise.all([sampling.close(), recovery.close()]))
    readHeader(sampling).then(
      (header) => {
        if (this.#closed || this.#enroller.connection !== connection) return close()
        this.#checkHeader(header)
        // A link that no watcher has taken over is nobody's but this keeper's.
        if (this.#handlers === undefined) void this.#link?.close()
        this.#isLinkSpent = false
        this.#link = new VerbsLink({ header, sampling, recovery, connection })
        this.#handlers?.onLink(this.#link)
        for (const listener of this.#listeners) listener.onConnection(connection)
        return undefined
      },
    ).catch(async (error: unknown) => {
      this.#handlers?.onTrouble(error)
      await close()
      await connection.close('its region cannot be read')
    }).catch((error: unknown) => this.#log.error({ peer: this.#peer.name, err: error }, 'could not end a link'))
  }

  #checkHeader({ node, cluster }: RegionHeader): void {
    if (node === this.#peer.name && cluster === this.#cluster) return
    throw new BackdoorsError('PEER_UNKNOWN', `${this.#peer.name} lends the region of node ${node} in cluster ${cluster}.`, { peer: this.#peer.name })
  }

  /** The queue pairs stay: what they still read is evidence, and a dead machine's memory may be read by them alone. */
  #onLost({ reason, detail }: Closure): void {
    this.#log.info({ peer: this.#peer.name, reason, detail }, 'the control connection is gone')
    this.#tell(reason === 'silent' ? 'silent' : 'reset')
  }

  /** What the end of a connection told of its machine may be over: the daemon went first, and then the power. */
  async #askMachine(): Promise<void> {
    const link = this.#link
    const { host, port } = this.#peer
    if (link === undefined || this.#closed) return
    const { outcome } = await probeMachine({ host: host as string, port: port as number }, this.#limits.silentAfterMs)
    if (outcome === 'unknown' || this.#link !== link) return
    this.#tell(outcome === 'answers' ? 'reset' : 'silent')
  }

  #tell(control: ControlConnection): void {
    if (this.connection) return
    this.#link?.lost(control)
    for (const listener of this.#listeners) listener.onLost(control)
  }
}
