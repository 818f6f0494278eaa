/** Peers over RDMA: enrolled by mutual TLS, read through queue pairs that exist before anything fails. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import { Credentials, enroll, EnrollmentServer, Enroller, probeMachine, type Closure, type EnrolledConnection, type Hello, type Welcome } from '../fabric/enrollment/index.js'
import { VerbsConnector } from '../fabric/verbs/connector.js'
import { VerbsDevice } from '../fabric/verbs/device.js'
import { VerbsLender } from '../fabric/verbs/lender.js'
import type { ControlConnection } from '../monitor/verdict.js'
import type { RegionHeader } from '../region/header.js'
import { control, layoutVersion } from '../region/layout.js'
import type { Region } from '../region/region.js'
import { readHeader } from '../region/region-reader.js'
import type { DaemonConfig, PeerConfig } from './config.js'
import type { PeerFabric, PeerHandlers, PeerLink } from './peer-fabric.js'

/**
 * A machine is told apart from its memory by its answers to pings, so they come often; it is silent when it has
 * not answered for some times as long as its memory may take. In milliseconds.
 */
const pingIntervalMs = 250
const leastSilentAfterMs = 1500
const silencePerUnreachable = 3

/** Lends this node's region to its peers, and keeps links to those that it watches. */
export class VerbsPeers implements PeerFabric {
  readonly #config: DaemonConfig
  readonly #region: Region
  readonly #log: Logger
  readonly #device: VerbsDevice
  readonly #lender: VerbsLender
  readonly #credentials: Credentials
  readonly #server: EnrollmentServer
  /** The connection that a peer's queue pairs were lent over; an older one that ends takes nothing back. */
  readonly #lentOver = new Map<string, AbortSignal>()
  readonly #keepers = new Set<VerbsKeeper>()

  /** @throws BackdoorsError VERBS_UNAVAILABLE, DEVICE_NOT_FOUND, NO_USABLE_GID, MEMLOCK_LIMIT, KEYS_MISSING, CERTIFICATE_INVALID */
  static async open(config: DaemonConfig, region: Region, log: Logger): Promise<VerbsPeers> {
    const credentials = await Credentials.load(config.keys as string)
    if (credentials.node !== config.node) {
      throw new BackdoorsError('CERTIFICATE_INVALID', `The keys in ${config.keys} are those of node ${credentials.node}, not of ${config.node}.`, { peer: config.node, path: config.keys as string })
    }
    const peers = new VerbsPeers(config, region, log, credentials)
    await peers.#server.start()
    return peers
  }

  private constructor(config: DaemonConfig, region: Region, log: Logger, credentials: Credentials) {
    this.#config = config
    this.#region = region
    this.#log = log
    this.#credentials = credentials
    const { device, port, gidIndex } = config.verbs
    this.#device = VerbsDevice.open({
      ...(device === undefined ? {} : { device }),
      ...(port === undefined ? {} : { port }),
      ...(gidIndex === undefined ? {} : { gidIndex }),
      onEvent: (event) => log.warn({ event }, 'asynchronous event of the RDMA device'),
    })
    log.info({ device: this.#device.name, gid: this.#device.gid }, 'RDMA device opened')
    this.#lender = new VerbsLender({ device: this.#device, memory: region.memory, control: { offset: control.offset, length: control.bytes } })
    const names = new Set(config.peers.map(({ name }) => name))
    this.#server = new EnrollmentServer({
      listen: config.listen as { host: string; port: number },
      credentials,
      cluster: config.cluster,
      peers: () => names,
      lend: async (peer, hello, signal) => this.#lend(peer, hello, signal),
      logger: log,
    })
  }

  keep(peer: PeerConfig, handlers: PeerHandlers): { close(): Promise<void> } {
    const keeper = new VerbsKeeper(peer, this.#config, this.#device, this.#credentials, handlers, this.#log)
    this.#keepers.add(keeper)
    return keeper
  }

  async reloadKeys(): Promise<void> {
    await this.#credentials.reload(this.#config.keys as string)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#keepers].map((keeper) => keeper.close()))
    await this.#server.close()
    this.#lender.close()
    this.#device.close()
  }

  #lend(peer: string, hello: Hello, signal: AbortSignal): Welcome {
    if (hello.fabric !== 'verbs') throw new BackdoorsError('HANDSHAKE_REFUSED', `Node ${this.#config.node} lends over verbs only.`, { peer })
    const { endpoints, windows } = this.#lender.accept(peer, hello.endpoints)
    this.#lentOver.set(peer, signal)
    signal.addEventListener('abort', () => {
      if (this.#lentOver.get(peer) !== signal) return
      this.#lentOver.delete(peer)
      this.#lender.release(peer)
    }, { once: true })
    const { incarnation, plan } = this.#region.header
    return { fabric: 'verbs', incarnation, layoutVersion, regionLength: plan.regionBytes, endpoints, windows }
  }
}

class VerbsKeeper {
  readonly #peer: PeerConfig
  readonly #cluster: string
  readonly #limits: { readonly pingIntervalMs: number; readonly silentAfterMs: number }
  readonly #device: VerbsDevice
  readonly #credentials: Credentials
  readonly #handlers: PeerHandlers
  readonly #log: Logger
  readonly #enroller: Enroller
  /** What the try under way, or the last one that succeeded, is to be connected with. */
  #connector: VerbsConnector | undefined
  #link: VerbsLink | undefined
  #closed = false

  constructor(peer: PeerConfig, { cluster, watch }: DaemonConfig, device: VerbsDevice, credentials: Credentials, handlers: PeerHandlers, log: Logger) {
    this.#peer = peer
    this.#cluster = cluster
    this.#limits = { pingIntervalMs, silentAfterMs: Math.max(leastSilentAfterMs, silencePerUnreachable * watch.unreachableAfterMs) }
    this.#device = device
    this.#credentials = credentials
    this.#handlers = handlers
    this.#log = log
    this.#enroller = new Enroller({
      peer: peer.name,
      attempt: (signal) => this.#attempt(signal),
      onLink: (connection) => this.#onLink(connection),
      onLost: (closure) => this.#onLost(closure),
      onFailure: (error) => {
        handlers.onTrouble(error)
        void this.#askMachine()
      },
    })
    this.#enroller.start()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#enroller.stop()
    this.#connector?.close()
  }

  async #attempt(signal: AbortSignal): Promise<EnrolledConnection> {
    const { name, host, port } = this.#peer
    const connector = new VerbsConnector({ device: this.#device, peer: name })
    try {
      const connection = await enroll({
        address: { host: host as string, port: port as number }, peer: name, credentials: this.#credentials,
        cluster: this.#cluster, hello: { fabric: 'verbs', endpoints: connector.endpoints }, signal, limits: this.#limits,
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
        this.#link = new VerbsLink(header, sampling, recovery, connection)
        this.#handlers.onLink(this.#link)
        return undefined
      },
    ).catch(async (error: unknown) => {
      this.#handlers.onTrouble(error)
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
    this.#link?.lost(reason === 'silent' ? 'silent' : 'reset')
  }

  /** What the end of a connection told of its machine may be over: the daemon went first, and then the power. */
  async #askMachine(): Promise<void> {
    const link = this.#link
    const { host, port } = this.#peer
    if (link === undefined || this.#closed) return
    const { outcome } = await probeMachine({ host: host as string, port: port as number }, this.#limits.silentAfterMs)
    if (outcome === 'unknown' || this.#link !== link) return
    link.heard(outcome === 'answers' ? 'reset' : 'silent')
  }
}

class VerbsLink implements PeerLink {
  #lost: ControlConnection | undefined

  constructor(
    readonly header: RegionHeader,
    readonly sampling: PeerLink['sampling'],
    readonly recovery: PeerLink['recovery'],
    private readonly connection: EnrolledConnection,
  ) {}

  /** Only the answer to a ping that was sent after the reads were known to fail says that the machine outlives them. */
  control(knownForUs: number | undefined): ControlConnection {
    if (this.#lost) return this.#lost
    return knownForUs === undefined || this.connection.answeredAgoMs * 1000 < knownForUs ? 'answers' : 'unheard'
  }

  lost(control: ControlConnection): void {
    this.#lost = control
  }

  /** What was learned of the machine since the connection was lost. */
  heard(control: ControlConnection): void {
    if (this.#lost) this.#lost = control
  }

  /** The enroller makes a new link as soon as this one's connection has ended. */
  renew(): void {
    void this.connection.close('the memory does not answer')
  }

  async close(): Promise<void> {
    await Promise.all([this.sampling.close(), this.recovery.close()])
  }
}
