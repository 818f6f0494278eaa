/** The per-machine process: lends a region, watches peers, and recovers the sessions of those that fail. */
import { EventEmitter } from 'node:events'
import { pino, type Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import { RelayServer, type RelayedSource } from '../fabric/relay/relay-server.js'
import { monotonicMs } from '../native/clock.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../monitor/verdict.js'
import { watchedBy } from '../monitor/watch-plan.js'
import type { RecoveryStep } from '../region/control.js'
import type { RecoveryReport, RecoveryTarget } from '../recovery/recover.js'
import { memorySocketPathOf, socketPathOf } from '../servers/local-protocol.js'
import { parseConfig, type DaemonConfig, type DaemonConfigInput } from './config.js'
import { Handover } from './handover.js'
import { LocalSocket } from './local-server.js'
import { Metrics } from './metrics.js'
import { lendUntilRecovered, OwnRegion } from './own-region.js'
import type { PeerFabric } from './peer-fabric.js'
import { PeerWatcher } from './peer-watcher.js'
import { RecoveryRunner } from './recovery-runner.js'
import { samplerSettings } from './sampler-settings.js'
import { ShmPeers } from './shm-peers.js'
import { describePeer, peerSensors, peerSessions, type DaemonStatus } from './status.js'

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
  step: [peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number]
  recovered: [report: RecoveryReport]
  failed: [peer: string, target: RecoveryTarget, error: unknown]
  /** Local servers took so many adopted sessions over. */
  taken: [server: string, count: number]
  /** This node has been fenced by a peer, and its memory is needed no more: the daemon must start anew. */
  fenced: []
}

export interface DaemonOptions {
  /** Default: pino to stderr at the configured level. */
  readonly logger?: Logger
}

/**
 * Starts a daemon in this process.
 * @throws BackdoorsError CONFIG_INVALID, BOX_IN_USE (another daemon lends this region), SYSTEM_CALL_FAILED
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

export class Daemon extends EventEmitter<DaemonEvents> {
  readonly config: DaemonConfig
  readonly #log: Logger
  readonly #own: OwnRegion
  readonly #handover: Handover
  readonly #runner: RecoveryRunner
  readonly #local: LocalSocket
  readonly #relay: RelayServer
  readonly #metrics: Metrics
  readonly #watchers: PeerWatcher[] = []
  #plan: NodeJS.Timeout | undefined
  #fabric: PeerFabric | undefined
  #lookAfter: NodeJS.Timeout | undefined
  #fenced = false
  #started = false
  #closing: Promise<void> | undefined

  /** Use `startDaemon`. */
  constructor(config: DaemonConfig, log: Logger) {
    super()
    this.config = config
    this.#log = log
    this.#own = new OwnRegion(config, log)
    this.#handover = new Handover(this.#own.box, {
      onTaken: (server, count) => {
        log.info({ server, count }, 'adopted sessions were taken over')
        this.emit('taken', server, count)
      },
      onDamaged: (error) => log.error({ err: error }, 'an adopted session is damaged, and no server is offered it'),
    }, monotonicMs)
    this.#runner = new RecoveryRunner(config, this.#own, this.#handover, {
      onStep: (...step) => this.emit('step', ...step),
      onReport: (report) => this.#onReport(report),
      onFailure: (...failure) => this.#onFailure(...failure),
    })
    this.#metrics = new Metrics(config.node, (metrics) => this.#collect(metrics))
    this.#local = new LocalSocket(socketPathOf(config.region.path), this.#handover, {
      status: () => this.status(),
      sessions: ({ node, limit }) => peerSessions(this.#watcherOf(node), typeof limit === 'number' ? limit : defaultListed),
      sensors: ({ node }) => peerSensors(this.#watcherOf(node)),
    }, log)
    this.#relay = new RelayServer({ path: memorySocketPathOf(config.region.path), find: (name) => this.#memoryOf(name), log })
  }

  get node(): string {
    return this.config.node
  }

  async start(): Promise<void> {
    const { config } = this
    await this.#local.listen()
    await this.#relay.listen()
    if (config.metrics) await this.#metrics.listen(config.metrics.host, config.metrics.port)
    // What an earlier life of this daemon had adopted, and no server has taken yet, is still here.
    this.#handover.resume()
    this.#lookAfter = setInterval(() => this.#lookAfterOwn(), lookAfterEveryMs)
    const fabric = await this.#openFabric()
    this.#fabric = fabric
    this.#followPlan(fabric)
    this.#plan = setInterval(() => this.#followPlan(fabric), planEveryMs)
    this.#started = true
    this.#log.info({ region: config.region.path, watched: this.#watchers.map(({ peer }) => peer.name) }, 'the daemon lends and watches')
  }

  /**
   * Watches whom it falls to this node to watch, as it sees the others now. Who has come to be watched stays so: a node that is
   * back has to connect to its peers first, and one more watcher costs the watched nothing.
   */
  #followPlan(fabric: PeerFabric): void {
    const { config } = this
    // A machine that is watched through another runs no watcher of its own.
    const through = new Set(config.peers.filter((peer) => peer.through !== undefined).map(({ name }) => name))
    const isDown = (name: string): boolean => through.has(name) || this.#watchers.some((watcher) => watcher.peer.name === name && watcher.isDown)
    const planned = new Set(watchedBy(config.node, [config.node, ...config.peers.map(({ name }) => name)], config.watch.peers, isDown))
    const watched = new Set(this.#watchers.map(({ peer }) => peer.name))
    for (const peer of config.peers) {
      if (!planned.has(peer.name) || watched.has(peer.name)) continue
      if (this.#started) this.#log.warn({ peer: peer.name }, 'this peer is watched as well, as one that is nearer is down')
      this.#watchers.push(new PeerWatcher(config, peer, fabric, {
        onWatching: (name, incarnation) => this.emit('watching', name, incarnation),
        onMachine: (name) => this.emit('machine', name),
        onVerdict: (...verdict) => this.#onVerdict(...verdict),
        recover: (link, target) => this.#runner.recover(link, target),
        log: this.#log,
      }))
    }
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
      peers: this.#watchers.map(describePeer),
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
    await Promise.all(this.#watchers.map((watcher) => watcher.close()))
    await this.#runner.settled()
    await this.#relay.close()
    await this.#fabric?.close()
    await this.#local.close()
    await this.#metrics.close()
    if (this.#started) this.#own.close()
    else this.#own.discard()
  }

  async #openFabric(): Promise<PeerFabric> {
    if (this.config.fabric === 'shm') return new ShmPeers(this.config.cluster, samplerSettings(this.config, this.#log))
    // Loaded only where it is used: a machine without libibverbs runs everything else.
    const { VerbsPeers } = await import('./verbs-peers.js')
    return VerbsPeers.open(this.config, this.#own.region, this.#log)
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
    this.#log.error('this node has been fenced by a peer; its memory stays lent until its recovery has ended')
    void lendUntilRecovered(this.#own).then(() => this.emit('fenced'))
  }

  #onVerdict(peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    const server = 'box' in verdict ? { server: verdict.name, box: verdict.box, generation: verdict.generation } : {}
    this.#log[verdict.kind === 'alive' ? 'info' : 'warn']({ peer, ...server, verdict: verdict.kind, evidence }, `${peer}: ${verdict.kind}: ${verdict.seen}`)
    this.#metrics.verdict(peer, verdict.kind)
    this.emit('verdict', peer, verdict, evidence)
  }

  #onReport(report: RecoveryReport): void {
    const lost = report.refused + report.corrupt + report.stale
    this.#log[lost > 0 ? 'error' : 'warn']({ report }, `recovery of ${report.peer}: ${report.outcome}, ${report.adopted} sessions adopted`)
    this.#metrics.recovery(report)
    this.emit('recovered', report)
  }

  #onFailure(peer: string, target: RecoveryTarget, error: unknown): void {
    this.#log.error({ peer, target, err: error }, 'a recovery failed')
    this.#metrics.recoveryFailed(peer)
    this.emit('failed', peer, target, error)
  }

  #collect(metrics: Metrics): void {
    const { waitingSessions, servers, fenced } = this.status()
    metrics.gauge('backdoors_waiting_sessions', 'Adopted sessions that no local server has taken over yet.', waitingSessions)
    metrics.gauge('backdoors_damaged_sessions', 'Adopted sessions that fail their CRC in the daemon\'s box, so that no server is offered them.', this.#handover.damaged)
    metrics.gauge('backdoors_attached_servers', 'Local servers that are connected to the daemon.', servers.length)
    metrics.gauge('backdoors_fenced', '1 where this node has been fenced.', fenced ? 1 : 0)
    for (const { peer, verdict, watch } of this.#watchers) {
      metrics.peerVerdict(peer.name, verdict.kind)
      if (watch) metrics.gauge('backdoors_sampling_round_trip_seconds', 'Mean round trip of sampling a peer.', watch.state.meanRoundTripUs / 1e6, { peer: peer.name })
    }
  }
}
