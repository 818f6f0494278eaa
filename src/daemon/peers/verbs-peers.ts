/** Peers over RDMA: enrolled by mutual TLS, read through queue pairs that exist before anything fails. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import type { ControlConnection, Credentials, Hello, RequestHandlers, Welcome } from '../../fabric/enrollment/index.js'
import { toWire } from '../../fabric/enrollment/messages.js'
import type { RequestHandler } from '../../fabric/enrollment/requests.js'
import { VerbsDevice } from '../../fabric/verbs/device.js'
import { VerbsLender } from '../../fabric/verbs/lender.js'
import { defaultCacheFolder, DirectorySymbolCache } from '../../kernel/symbol-cache.js'
import { monotonicMs } from '../../native/clock.js'
import { control, layoutVersion } from '../../region/layout.js'
import type { Region } from '../../region/region.js'
import type { DaemonConfig, HostConfig, PeerConfig } from '../config.js'
import { lendWhileRecovered } from '../own-region.js'
import { HostKeeper } from './host-keeper.js'
import { HostLender } from './host-lender.js'
import { hostRegionAnswer, hostRegionMethod, hostRegionRequest, lendHostAnswer, lendHostMethod, lendHostRequest, parseMessage } from './host-messages.js'
import { Observers, opinionTimeoutMs } from '../watching/observers.js'
import { loadCredentials, PeerEnrollment } from './peer-enrollment.js'
import type { PeerFabric, PeerHandlers } from './peer-fabric.js'
import { samplerSettings } from '../watching/sampler-settings.js'
import { SharedKeepers, type KeeperUse } from './shared-keepers.js'
import { VerbsKeeper } from './verbs-keeper.js'

/** Lends this node's region to its peers, and keeps links to those that it watches. */
export class VerbsPeers implements PeerFabric {
  readonly #config: DaemonConfig
  readonly #region: Region
  readonly #log: Logger
  readonly #device: VerbsDevice
  readonly #lender: VerbsLender
  readonly #credentials: Credentials
  readonly #enrollment: PeerEnrollment
  readonly #keepers = new SharedKeepers<VerbsKeeper>()
  readonly #hostKeepers = new Set<HostKeeper>()
  readonly #hosts = new Map<string, HostLender>()
  /** What any peer may ask, whoever of the two made the connection. */
  readonly #methods: RequestHandlers
  readonly observers: Observers
  #members: readonly PeerConfig[]
  readonly #cache = new DirectorySymbolCache(defaultCacheFolder())

  /** @throws BackdoorsError VERBS_UNAVAILABLE, DEVICE_NOT_FOUND, NO_USABLE_GID, MEMLOCK_LIMIT, KEYS_MISSING, CERTIFICATE_INVALID */
  static async open(config: DaemonConfig, region: Region, log: Logger, methods: RequestHandlers = new Map()): Promise<VerbsPeers> {
    const credentials = await loadCredentials(config)
    const peers = new VerbsPeers(config, region, log, credentials, methods)
    try {
      for (const host of config.hosts) peers.#hosts.set(host.name, peers.#lenderFor(host))
      await peers.#enrollment.start()
    } catch (error) {
      await peers.close()
      throw error
    }
    return peers
  }

  private constructor(config: DaemonConfig, region: Region, log: Logger, credentials: Credentials, methods: RequestHandlers) {
    this.#config = config
    this.#region = region
    this.#log = log
    this.#credentials = credentials
    this.#methods = methods
    this.observers = new Observers(() => this.#connections(), opinionTimeoutMs(config.watch.unreachableAfterMs))
    const { device, port, gidIndex, queuePairs } = config.verbs
    this.#device = VerbsDevice.open({
      ...(device === undefined ? {} : { device }),
      ...(port === undefined ? {} : { port }),
      ...(gidIndex === undefined ? {} : { gidIndex }),
      sampler: samplerSettings(config, log),
      onEvent: (event) => log.warn({ event }, 'asynchronous event of the RDMA device'),
    })
    log.info({ device: this.#device.name, gid: this.#device.gid }, 'RDMA device opened')
    this.#lender = new VerbsLender({ device: this.#device, memory: region.memory, control: { offset: control.offset, length: control.bytes }, queuePairs })
    this.#members = config.peers
    this.#enrollment = new PeerEnrollment({
      config,
      credentials,
      lend: (peer, hello) => this.#lend(peer, hello),
      release: (peer) => this.#release(peer),
      handlers: new Map<string, RequestHandler>([
        ...methods,
        [lendHostMethod, async (body, { peer, signal }) => {
          const { host, endpoints } = parseMessage(lendHostRequest, body, peer)
          return toWire(lendHostAnswer, await this.#hostOf(host).lend(peer, endpoints, signal))
        }],
        [hostRegionMethod, async (body, { peer }) => toWire(hostRegionAnswer, await this.#hostOf(parseMessage(hostRegionRequest, body, peer).host).look())],
      ]),
      log,
    })
  }

  setMembers(members: readonly PeerConfig[]): void {
    this.#members = members
    this.#enrollment.setMembers(members)
  }

  /** @throws BackdoorsError PEER_UNKNOWN where the peer is to be reached through one that is no member */
  keep(peer: PeerConfig, handlers: PeerHandlers): { close(): Promise<void> } {
    const { through } = peer
    const shared = this.#use(through === undefined ? peer : this.#memberNamed(through))
    if (through === undefined) {
      shared.keeper.watch(handlers)
      return { close: () => shared.release(() => shared.keeper.unwatch(handlers)) }
    }
    const keeper = new HostKeeper({ peer: peer.name, owner: peer.owner, via: shared.keeper, device: this.#device, verbs: this.#config.verbs, cache: this.#cache, handlers, log: this.#log })
    this.#hostKeepers.add(keeper)
    return {
      close: () => shared.release(async () => {
        await keeper.close()
        this.#hostKeepers.delete(keeper)
      }),
    }
  }

  /** One connection to each peer, whether it is watched itself or only lends the hosts that are. */
  #use(peer: PeerConfig): KeeperUse<VerbsKeeper> {
    return this.#keepers.use(peer, () => new VerbsKeeper(peer, this.#config, this.#device, this.#credentials, this.#log, this.#methods))
  }

  #memberNamed(name: string): PeerConfig {
    const peer = this.#members.find((each) => each.name === name)
    if (peer) return peer
    throw new BackdoorsError('PEER_UNKNOWN', `Node ${name} is no member of this cluster (any more).`, { peer: name })
  }

  #lenderFor(host: HostConfig): HostLender {
    return new HostLender(host, this.#device, { nowMs: monotonicMs, queuePairs: this.#config.verbs.queuePairs, cache: this.#cache, log: this.#log })
  }

  #hostOf(name: string): HostLender {
    const host = this.#hosts.get(name)
    if (host) return host
    throw new BackdoorsError('PEER_UNKNOWN', `Node ${this.#config.node} lends no host ${name}.`, { peer: name })
  }

  /** Those that stand: to peers that are watched, and from those that watch. Of two to one peer the one that answered last. */
  #connections(): ReadonlyMap<string, ControlConnection> {
    const connections = new Map(this.#enrollment.connections)
    for (const [name, { connection }] of this.#keepers.entries()) {
      if (connection && connection.answeredAgoMs <= (connections.get(name)?.answeredAgoMs ?? Infinity)) connections.set(name, connection)
    }
    return connections
  }

  async reloadKeys(): Promise<void> {
    await this.#credentials.reload(this.#config.keys as string)
  }

  /** Queue pairs end with it, so recoveries of this node are waited for. */
  async close(): Promise<void> {
    await lendWhileRecovered(this.#region)
    await Promise.all([...this.#hostKeepers].map((keeper) => keeper.close()))
    await this.#keepers.close()
    await this.#enrollment.close()
    for (const host of this.#hosts.values()) host.close()
    this.#lender.close()
    this.#device.close()
  }

  #lend(peer: string, hello: Hello): Welcome {
    if (hello.fabric !== 'verbs') throw new BackdoorsError('HANDSHAKE_REFUSED', `Node ${this.#config.node} lends over verbs only.`, { peer })
    const { endpoints, windows } = this.#lender.accept(peer, hello.endpoints)
    const { incarnation, plan } = this.#region.header
    return { fabric: 'verbs', incarnation, layoutVersion, regionLength: plan.regionBytes, endpoints, windows }
  }

  #release(peer: string): void {
    this.#lender.release(peer)
    for (const host of this.#hosts.values()) host.release(peer)
  }
}
