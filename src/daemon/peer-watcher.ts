/** One watched peer: its link, its watch, its verdicts, and the recoveries they lead to. */
import type { Logger } from 'pino'
import { memoryAddon } from '../native/load.js'
import { RegionWatch } from '../monitor/region-watch.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../monitor/verdict.js'
import type { RecoveryReport, RecoveryTarget } from '../recovery/recover.js'
import type { DaemonConfig, PeerConfig } from './config.js'
import { isNotThereYet, type PeerFabric, type PeerLink } from './peer-fabric.js'

/** A recovery that failed is tried again after so long, doubled each time up to the limit. In milliseconds. */
const firstRetryMs = 1000
const retryLimitMs = 30_000

export interface PeerWatcherEvents {
  readonly onWatching: (peer: string, incarnation: bigint) => void
  readonly onVerdict: (peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence) => void
  readonly recover: (link: PeerLink, target: RecoveryTarget) => Promise<RecoveryReport | undefined>
  readonly log: Logger
}

export class PeerWatcher {
  readonly peer: PeerConfig
  readonly #config: DaemonConfig
  readonly #events: PeerWatcherEvents
  readonly #keeper: { close(): Promise<void> }
  readonly #recovering = new Set<Promise<unknown>>()
  readonly #retries = new Set<NodeJS.Timeout>()
  #link: PeerLink | undefined
  #watch: RegionWatch | undefined
  #verdict: NodeVerdict = { kind: 'alive', seen: 'nothing yet' }

  constructor(config: DaemonConfig, peer: PeerConfig, fabric: PeerFabric, events: PeerWatcherEvents) {
    this.peer = peer
    this.#config = config
    this.#events = events
    this.#keeper = fabric.keep(peer, {
      onLink: (link) => this.#onLink(link),
      onTrouble: (error) => events.log[isNotThereYet(error) ? 'info' : 'warn']({ peer: peer.name, err: error }, 'the peer is not connected'),
    })
  }

  get link(): PeerLink | undefined {
    return this.#link
  }

  get watch(): RegionWatch | undefined {
    return this.#watch
  }

  get verdict(): NodeVerdict {
    return this.#verdict
  }

  async close(): Promise<void> {
    for (const retry of this.#retries) clearTimeout(retry)
    await this.#keeper.close()
    this.#watch?.close()
    await Promise.all(this.#recovering)
    await this.#link?.close()
  }

  #onLink(link: PeerLink): void {
    const { by, intervalUs, unreachableAfterMs, refreshMs } = { by: this.#config.node, ...this.#config.watch }
    const earlier = this.#link
    this.#watch?.close()
    this.#link = link
    if (this.#verdict.kind !== 'alive') this.#onVerdict(link, { kind: 'alive', seen: 'it is connected anew' }, { by, atUs: memoryAddon().monotonicUs(), seen: 'it is connected anew' })
    // A recovery that still reads by the earlier link keeps it until it has ended.
    if (earlier) void Promise.all(this.#recovering).then(() => earlier.close())
    this.#watch = new RegionWatch({
      by,
      header: link.header,
      memory: link.sampling,
      intervalUs,
      unreachableAfterUs: unreachableAfterMs * 1000,
      refreshMs,
      controlConnection: (knownForUs) => link.control(knownForUs),
      nowUs: () => memoryAddon().monotonicUs(),
      every: (ms, run) => {
        const timer = setInterval(run, ms).unref()
        return () => clearInterval(timer)
      },
      onVerdict: (verdict, evidence) => this.#onVerdict(link, verdict, evidence),
      onTrouble: (error) => this.#events.log.debug({ peer: this.peer.name, err: error }, 'could not read the directory'),
    })
    this.#events.log.info({ peer: this.peer.name, incarnation: link.header.incarnation.toString(16) }, 'watching')
    this.#events.onWatching(this.peer.name, link.header.incarnation)
  }

  #onVerdict(link: PeerLink, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    if (!('box' in verdict)) this.#verdict = verdict
    this.#events.onVerdict(this.peer.name, verdict, evidence)
    if (verdict.kind === 'daemon-lost') link.renew()
    if (verdict.kind === 'os-stalled') this.#recover(link, { kind: 'node' })
    if ('box' in verdict && (verdict.kind === 'app-stalled' || verdict.kind === 'app-exited')) this.#recover(link, { kind: 'box', box: verdict.box, generation: verdict.generation })
  }

  #recover(link: PeerLink, target: RecoveryTarget, retryMs = firstRetryMs): void {
    if (!this.#config.recovery.enabled) return
    const run = this.#events.recover(link, target).then((report) => {
      // The box was given back by a restart that saw the fence after all: if so, it is judged once more.
      if (report?.outcome === 'superseded' && target.kind === 'box') this.#watch?.forget(target.box, target.generation)
      if (report === undefined) this.#retry(link, target, retryMs)
    })
    this.#recovering.add(run)
    void run.finally(() => this.#recovering.delete(run))
  }

  /** Each step can be run again, and the claim stays this node's meanwhile: nobody else would do it. */
  #retry(link: PeerLink, target: RecoveryTarget, delayMs: number): void {
    const timer = setTimeout(() => {
      this.#retries.delete(timer)
      const isOver = target.kind === 'node' && this.#verdict.kind !== 'os-stalled'
      if (this.#link === link && !isOver) this.#recover(link, target, Math.min(2 * delayMs, retryLimitMs))
    }, delayMs).unref()
    this.#retries.add(timer)
  }
}
