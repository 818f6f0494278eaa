/** The per-machine process: lends a region, watches peers, and recovers the sessions of those that fail. */
import { EventEmitter } from 'node:events'
import { pino, type Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import type { RequestHandlers } from '../fabric/enrollment/requests.js'
import { memorySocketPathOf } from '../fabric/relay/relay-path.js'
import { RelayServer, type RelayedSource } from '../fabric/relay/relay-server.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { monotonicMs } from '../native/clock.js'
import type { Condition } from '../monitor/conditions.js'
import type { Opinion } from '../monitor/second-opinion.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../monitor/verdict.js'
import type { RecoveryStep } from '../region/control.js'
import type { Region } from '../region/region.js'
import type { RecoveryReport, RecoveryTarget } from '../recovery/recover.js'
import { socketPathOf } from '../servers/local-protocol.js'
import { Addresses } from './addresses/addresses.js'
import { ClaimHolders } from './claim-holders.js'
import { openConnections, type ContinuedConnections } from './connections/open-connections.js'
import type { ConnectionsReport } from './connections/report.js'
import { parseConfig, type DaemonConfig, type DaemonConfigInput, type PeerConfig } from './config.js'
import { Handover } from './handover.js'
import { LocalSocket } from './local-server.js'
import { openMembership, type Membership } from './membership/membership.js'
import { Metrics } from './metrics.js'
import { lendUntilRecovered, OwnRegion } from './own-region.js'
import { lookWithinMs, observeHandler, observeMethod } from './watching/observers.js'
import { IncidentLog } from './incidents.js'
import { StatusPage } from './page/status-page.js'
import type { PeerFabric } from './peers/peer-fabric.js'
import { PeerWatcher } from './watching/peer-watcher.js'
import { PlanFollower } from './watching/plan-follower.js'
import { RecoveryRunner } from './recovery-runner.js'
import { samplerSettings } from './watching/sampler-settings.js'
import { SensorSampler } from './sensors/sensor-sampler.js'
import { ShmPeers } from './peers/shm-peers.js'
import { describeMembership, describePeer, peerSensors, peerSessions, type DaemonStatus } from './status.js'
import { Unwatching } from './watching/unwatching.js'
import { watchPicture } from './watching/watch-picture.js'

/** How often the daemon looks after its own boxes and its own fence, in milliseconds. */
const lookAfterEveryMs = 10
/** How often it looks whom to watch: that changes with who is down. In milliseconds. */
const planEveryMs = 200
/** Sessions in an answer to the command line that asked for no number. */
const defaultListed = 1000

export interface DaemonEvents {
  /** A peer is connected, for the first time or anew, and watched from now on. */
  watching: [peer: string, incarnation: bigint]
  /** The whole memory of a peer can be read, and its kernel is watched from now on. */
  machine: [peer: string]
  verdict: [peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence]
  /** A level or pressure sensor of a peer is past its limit, or (raised: false) well below it again. Nobody is condemned for it. */
  condition: [peer: string, condition: Condition, raised: boolean]
  /** A peer that nobody reaches was fenced from outside; with an error where that failed. */
  fencedUnreachable: [peer: string, opinions: readonly Opinion[], error: unknown]
  step: [peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number]
  recovered: [report: RecoveryReport]
  /** Clients' connections of a failed host go on here, or do not. */
  connections: [report: ConnectionsReport]
  failed: [peer: string, target: RecoveryTarget, error: unknown]
  /** Local servers took so many adopted sessions over. */
  taken: [server: string, count: number]
  /** Who the other nodes of the cluster are has changed. */
  members: [names: readonly string[]]
  /** This node has been fenced by a peer, and its memory is needed no more: the daemon must start anew. */
  fenced: []
}

export interface DaemonOptions {
  /** Default: pino to stderr at the configured level. */
  readonly logger?: Logger
}

/**
 * Starts a daemon in this process.
 * @throws BackdoorsError CONFIG_INVALID, BOX_IN_USE (another daemon lends this region), CAPABILITY_MISSING, SYSTEM_CALL_FAILED
 *
 * @example
 * const daemon = await startDaemon({ node: 'a', peers: [{ name: 'b', region: '/dev/shm/backdoors-b' }] })
 * daemon.on('recovered', (report) => console.log(report.adopted, 'sessions came over'))
 */
export async function startDaemon(config: DaemonConfigInput, options: DaemonOptions = {}): Promise<Daemon> {
  const checked = parseConfig(config)
  const logger = options.logger ?? pino({ level: checked.log, base: { node: checked.node } }, pino.destination(2))
  const daemon = new Daemon(checked, logger)
  try {
    await daemon.start()
  } catch (error) {
    // Otherwise the region would stay locked, and its sensor go on beating for a daemon that is none.
    await daemon.close()
    throw error
  }
  return daemon
}

/** How a daemon reaches its peers; the last argument is what they may call, where the fabric has connections for that. */
export type OpenFabric = (config: DaemonConfig, region: Region, log: Logger, methods: RequestHandlers) => Promise<PeerFabric>

/** As the configuration has it. */
const openConfigured: OpenFabric = async (config, region, log, methods) => {
  if (config.fabric === 'shm') return new ShmPeers(config.cluster, samplerSettings(config, log))
  // Loaded only where it is used: a machine without libibverbs runs everything else.
  const { VerbsPeers } = await import('./peers/verbs-peers.js')
  return await VerbsPeers.open(config, region, log, methods)
}

export class Daemon extends EventEmitter<DaemonEvents> {
  readonly config: DaemonConfig
  readonly #log: Logger
  readonly #openFabric: OpenFabric
  readonly #own: OwnRegion
  readonly #handover: Handover
  readonly #addresses: Addresses
  readonly #connections: ContinuedConnections | undefined
  readonly #runner: RecoveryRunner
  readonly #local: LocalSocket
  readonly #relay: RelayServer
  readonly #metrics: Metrics
  readonly #sampler: SensorSampler
  readonly #membership: Membership
  readonly #incidents = new IncidentLog()
  #page: StatusPage | undefined
  readonly #watchers: PeerWatcher[] = []
  readonly #claimHolders = new ClaimHolders(this.#watchers, () => this.#membership.current)
  readonly #unwatching: Unwatching<PeerWatcher>
  readonly #planFollower: PlanFollower<PeerWatcher>
  #plan: NodeJS.Timeout | undefined
  #fabric: PeerFabric | undefined
  #lookAfter: NodeJS.Timeout | undefined
  #fenced = false
  #started = false
  #closing: Promise<void> | undefined

  /** Use `startDaemon`. */
  constructor(config: DaemonConfig, log: Logger, openFabric = openConfigured) {
    super()
    this.config = config
    this.#log = log
    this.#openFabric = openFabric
    this.#membership = openMembership(config, {
      onChange: () => this.#onMembers(),
      onTrouble: (error) => log.error({ err: error }, `membership: ${error.message}`),
      onWell: () => log.info('membership is followed again'),
      onNote: (message, about) => log.info(about, message),
    })
    this.#unwatching = new Unwatching(this.#watchers, log, (peer) => this.#incidents.unwatched(peer, monotonicMs()))
    this.#planFollower = new PlanFollower({
      node: config.node, k: config.watch.peers, watchers: this.#watchers, unwatching: this.#unwatching,
      members: () => this.#membership.current,
      isHolder: (name) => this.#claimHolders.has(name) || this.#addresses.owedTo.has(name),
      make: (peer) => this.#watcherFor(peer, this.#fabric as PeerFabric),
    })
    this.#own = new OwnRegion(config, log)
    this.#handover = new Handover(this.#own.box, {
      onTaken: (server, count) => {
        log.info({ server, count }, 'adopted sessions were taken over')
        this.emit('taken', server, count)
      },
      onKept: (server, sessions) => log.warn({ server, sessions: sessions.map(({ store, id }) => ({ store, id })) }, 'adopted sessions were dropped: the server has sessions of their ids of its own'),
      onDamaged: (error) => log.error({ err: error }, 'an adopted session is damaged, and no server is offered it'),
    }, monotonicMs)
    this.#addresses = new Addresses(config, this.#own.box, log)
    const events = {
      log,
      onStep: (...step: DaemonEvents['step']) => this.#onStep(...step),
      onReport: (report: RecoveryReport) => this.#onReport(report),
      onFailure: (...failure: DaemonEvents['failed']) => this.#onFailure(...failure),
    }
    this.#connections = openConnections({ config, handover: this.#handover, continuing: (port) => this.#local.continuing(port), onReport: (report) => this.#onConnections(report), log })
    this.#runner = new RecoveryRunner({ config, own: this.#own, handover: this.#handover, addresses: this.#addresses, connections: this.#connections?.connections, events, claimHolders: this.#claimHolders })
    this.#sampler = new SensorSampler({ region: this.#own.region, box: this.#own.box, config: config.sensors, log })
    this.#metrics = new Metrics(config.node, () => ({ status: this.status(), damagedSessions: this.#handover.damaged, droppedSessions: this.#handover.dropped, incidents: this.#incidents, beats: this.#own.beats }))
    this.#local = new LocalSocket(socketPathOf(config.region.path), this.#handover, {
      status: () => this.status(),
      sessions: ({ node, limit }) => peerSessions(this.#watcherOf(node), typeof limit === 'number' ? limit : defaultListed),
      sensors: ({ node }) => peerSensors(this.#watcherOf(node)),
    }, log, (server, outcomes) => this.#connections?.connections.onContinued(server, outcomes))
    this.#relay = new RelayServer({ path: memorySocketPathOf(config.region.path), find: (name) => this.#memoryOf(name), log })
  }

  get node(): string {
    return this.config.node
  }

  async start(): Promise<void> {
    const { config } = this
    this.#addresses.check()
    await this.#local.listen()
    await this.#relay.listen()
    this.#connections?.listen()
    if (config.metrics) await this.#metrics.listen(config.metrics.host, config.metrics.port)
    const abandoned = this.#own.notes.giveUpAll()
    if (abandoned > 0) this.#log.warn({ abandoned }, 'an earlier life of this daemon had not come to the end of a recovery: its drafts were deleted')
    if (config.status.http) this.#page = await StatusPage.open(config.status.http, { status: () => this.status(), revision: () => this.#incidents.revision })
    // What an earlier life of this daemon had adopted, and no server has taken yet, is still here.
    this.#handover.resume()
    this.#lookAfter = setInterval(() => this.#lookAfterOwn(), lookAfterEveryMs)
    this.#addresses.reserve()
    this.#sampler.start()
    const observe = observeHandler((name) => this.#watchers.find(({ peer }) => peer.name === name), lookWithinMs(config.watch.unreachableAfterMs))
    const fabric = await this.#openFabric(config, this.#own.region, this.#log, new Map([[observeMethod, observe]]))
    this.#fabric = fabric
    fabric.setMembers(this.#membership.current)
    this.#planFollower.follow()
    this.#membership.start()
    this.#plan = setInterval(() => this.#planFollower.follow(), planEveryMs)
    this.#addresses.start()
    this.#started = true
    this.#log.info({ region: config.region.path, watched: this.#watchers.map(({ peer }) => peer.name) }, 'the daemon lends and watches')
  }

  #watcherFor(peer: PeerConfig, fabric: PeerFabric): PeerWatcher {
    const { config } = this
    if (this.#started) this.#log.info({ peer: peer.name }, 'this peer is watched as well')
    return new PeerWatcher(config, peer, fabric, {
      onWatching: (...watching) => this.#onWatching(...watching),
      onMachine: (name) => this.#onMachine(name),
      onVerdict: (...verdict) => this.#onVerdict(...verdict),
      onCondition: (...change) => this.#onCondition(...change),
      recover: (link, target) => this.#runner.recover(link, target),
      lookAtClaim: (link, target) => this.#runner.lookAtClaim(link, target),
      members: () => (this.#membership.isKnown ? this.#membership.current : undefined),
      observers: fabric.observers,
      fence: config.recovery.fenceUnreachable ? (name) => this.#runner.fenceUnreachable(name) : undefined,
      onFenced: (...fenced) => this.#onFenced(...fenced),
      log: this.#log,
    })
  }

  #onWatching(peer: string, incarnation: bigint, memory: RemoteMemory): void {
    void this.#addresses.peerConnected(peer, memory)
    this.emit('watching', peer, incarnation)
  }

  #onMachine(peer: string): void {
    const image = this.#watchers.find((watcher) => watcher.peer.name === peer)?.machine?.image
    if (image) void this.#connections?.connections.prepare(image)
    this.emit('machine', peer)
  }

  #onMembers(): void {
    const names = this.#membership.current.map(({ name }) => name)
    this.#log.info({ members: names, source: this.#membership.source }, 'the members of the cluster have changed')
    if (this.#fabric && !this.#closing) {
      this.#fabric.setMembers(this.#membership.current)
      this.#planFollower.follow()
    }
    this.emit('members', names)
  }

  status(): DaemonStatus {
    const { header } = this.#own.region
    return {
      node: header.node,
      cluster: header.cluster,
      incarnation: header.incarnation.toString(16),
      region: this.config.region.path,
      fabric: this.config.fabric,
      fenced: this.#own.fenced,
      servers: this.#local.attached,
      waitingSessions: this.#handover.waiting,
      membership: describeMembership(this.#membership),
      peers: this.#watchers.map(describePeer),
      plan: this.#picture(),
      incidents: this.#incidents.incidents,
      history: this.#incidents.history,
      nowMs: monotonicMs(),
      ...(this.#page ? { page: this.#page.url } : {}),
    }
  }

  /**
   * Takes up this node's keys and revocation list anew, without a stop; connections of revoked peers are ended.
   * @throws BackdoorsError KEYS_MISSING, CERTIFICATE_INVALID; the old ones then stay in use
   */
  async reloadKeys(): Promise<void> {
    await this.#fabric?.reloadKeys()
    this.#log.info('keys and revocation list were taken up anew')
  }

  /** An orderly end: watchers see that this node left. Servers serve on, unwatched. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#lookAfter)
    clearInterval(this.#plan)
    await this.#unwatching.settled()
    await Promise.all(this.#watchers.map((watcher) => watcher.close()))
    await this.#runner.settled()
    await this.#connections?.close()
    // Peers that are told that this node leaves end what they lend to it: a recovery needs that.
    await this.#membership.close()
    this.#addresses.close()
    await this.#sampler.close()
    await this.#relay.close()
    await this.#fabric?.close()
    await this.#local.close()
    await this.#metrics.close()
    await this.#page?.close()
    if (this.#started) this.#own.close()
    else this.#own.discard()
  }

  #picture(): DaemonStatus['plan'] {
    const { node, watch } = this.config
    const down = new Set(this.#watchers.filter(({ isDown }) => isDown).map(({ peer }) => peer.name))
    return watchPicture(node, this.#membership.current, this.#watchers.map(({ peer }) => peer.name), watch.peers, (peer) => down.has(peer))
  }

  #watcherOf(node: unknown): PeerWatcher {
    const watcher = this.#watchers.find(({ peer }) => peer.name === node)
    if (watcher) return watcher
    throw new BackdoorsError('PEER_UNKNOWN', `Node ${this.node} does not watch ${String(node)}; it watches ${this.#watchers.map(({ peer }) => peer.name).join(', ') || 'nobody'}.`, { peer: String(node) })
  }

  #memoryOf(node: string): RelayedSource {
    const { machine } = this.#watcherOf(node)
    if (machine) return { memory: machine.memory, map: [...machine.image.physical.spans], notes: [machine.image.notePhysical] }
    throw new BackdoorsError('PEER_UNKNOWN', `The whole memory of ${node} is not lent to ${this.node} (yet): "through" in its configuration names who lends it.`, { peer: node })
  }

  #lookAfterOwn(): void {
    for (const server of this.#own.markAbandoned()) this.#log.warn({ server }, 'a server is gone without having closed its box')
    this.#handover.settle()
    if (this.#fenced || !this.#own.fenced) return
    this.#fenced = true
    this.#addresses.giveAllUp()
    this.#log.error('this node has been fenced by a peer; its memory stays lent until its recovery has ended')
    void lendUntilRecovered(this.#own, () => this.#closing !== undefined).then(() => this.emit('fenced'))
  }

  #onVerdict(peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    const server = 'box' in verdict ? { server: verdict.name, box: verdict.box, generation: verdict.generation } : {}
    this.#log[verdict.kind === 'alive' ? 'info' : 'warn']({ peer, ...server, verdict: verdict.kind, evidence }, `${peer}: ${verdict.kind}: ${verdict.seen}`)
    this.#metrics.verdict(peer, verdict.kind)
    this.#incidents.verdict(peer, verdict, evidence)
    this.#page?.refresh()
    this.emit('verdict', peer, verdict, evidence)
  }

  #onCondition(peer: string, condition: Condition, raised: boolean): void {
    const { server, sensor, value, limit } = condition
    this.#log[raised ? 'warn' : 'info']({ peer, condition }, `${peer}${server === undefined ? '' : `/${server}`}: ${sensor} is ${value}, ${raised ? 'past' : 'below'} its limit of ${limit}`)
    this.emit('condition', peer, condition, raised)
  }

  #onFenced(peer: string, opinions: readonly Opinion[], error: unknown): void {
    if (error === undefined) this.#log.warn({ peer, opinions }, 'a node that nobody reaches was fenced from outside')
    else this.#log.error({ peer, opinions, err: error }, 'a node that nobody reaches could not be fenced')
    this.emit('fencedUnreachable', peer, opinions, error)
  }

  #onStep(...[peer, target, step, atMs]: DaemonEvents['step']): void {
    this.#incidents.step(peer, target, step, atMs)
    this.#page?.refresh()
    this.emit('step', peer, target, step, atMs)
  }

  #onReport(report: RecoveryReport): void {
    const lost = report.refused + report.corrupt + report.stale
    this.#log[lost > 0 ? 'error' : 'warn']({ report }, `recovery of ${report.peer}: ${report.outcome}, ${report.adopted} sessions adopted`)
    this.#metrics.recovery(report)
    this.#incidents.report(report)
    this.#page?.refresh()
    this.emit('recovered', report)
  }

  #onConnections(report: ConnectionsReport): void {
    this.#log.warn({ report }, `${report.continued} of ${report.found} connections of ${report.peer} go on here`)
    this.#metrics.connections(report)
    this.emit('connections', report)
  }

  #onFailure(peer: string, target: RecoveryTarget, error: unknown): void {
    this.#log.error({ peer, target, err: error }, 'a recovery failed')
    this.#metrics.recoveryFailed(peer)
    this.#incidents.failure(peer, target, error)
    this.#page?.refresh()
    this.emit('failed', peer, target, error)
  }
}
