/** One watched peer: its link, its watch, its verdicts, and the recoveries they lead to. */
import type { Logger } from 'pino'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { RegionWatch } from '../../monitor/region-watch.js'
import type { Condition } from '../../monitor/conditions.js'
import type { Opinion, SecondOpinion } from '../../monitor/second-opinion.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../../monitor/verdict.js'
import type { RecoveryReport, RecoveryTarget } from '../../recovery/recover.js'
import type { Succession } from '../../recovery/succession.js'
import type { DaemonConfig, PeerConfig } from '../config.js'
import { conditionRule, flappingRule } from './detector-config.js'
import { systemTime, type DaemonTime } from '../daemon-time.js'
import { HostKernel } from './host-kernel.js'
import { isNotThereYet, type MachineLink, type PeerFabric, type PeerLink } from '../peers/peer-fabric.js'
import { UnreachableInquiry } from './unreachable-inquiry.js'
import { VerdictTeller } from './verdict-teller.js'

/** A peer that has not been connected to for so long is not up yet, in milliseconds; nodes of a cluster start at about one time. */
const joinPatienceMs = 10_000
/** A recovery that failed is tried again after so long, doubled each time up to the limit. In milliseconds. */
const firstRetryMs = 1000
const retryLimitMs = 30_000
/** How often a recovery that another node holds is looked at, in milliseconds. */
const lookOutEveryMs = 100
const lookOutLimitMs = 1000
/** What comes to no end does not keep a peer that has left from being given up for longer than this, in milliseconds. */
const pendingCountsMs = 120_000

export interface PeerWatcherEvents {
  /** @param memory of the peer, for looks that do not belong to its watching */
  readonly onWatching: (peer: string, incarnation: bigint, memory: RemoteMemory) => void
  /** The peer's kernel is watched, whether or not it has a region. */
  readonly onMachine: (peer: string) => void
  readonly onVerdict: (peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence) => void
  /** A level or pressure sensor has gone past its limit, or is well below it again. */
  readonly onCondition: (peer: string, condition: Condition, raised: boolean) => void
  readonly recover: (link: PeerLink, target: RecoveryTarget) => Promise<RecoveryReport | undefined>
  /** What has become of a recovery that another node holds. */
  readonly lookAtClaim: (link: PeerLink, target: RecoveryTarget) => Promise<Succession>
  /** All other nodes of the cluster; undefined where it is not known (yet) who they are. */
  readonly members: () => readonly PeerConfig[] | undefined
  /** What others see of a peer that is unreachable; undefined where nobody can be asked. */
  readonly observers: SecondOpinion | undefined
  /** Fences an unreachable peer from outside; undefined where that is not configured. */
  readonly fence: ((peer: string) => Promise<void>) | undefined
  readonly onFenced: (peer: string, opinions: readonly Opinion[], error: unknown) => void
  readonly log: Logger
}

export class PeerWatcher {
  readonly peer: PeerConfig
  readonly #config: DaemonConfig
  readonly #events: PeerWatcherEvents
  readonly #teller: VerdictTeller
  readonly #inquiry: UnreachableInquiry
  readonly #keeper: { close(): Promise<void> }
  readonly #recovering = new Set<Promise<unknown>>()
  /** Recoveries by this link that failed and are to be tried again, and since when that is so, in microseconds. */
  readonly #owed = new Map<string, number>()
  /** Recoveries by this link that another node holds, and since when that is looked at, in microseconds. */
  readonly #lookOuts = new Map<string, number>()
  readonly #retries = new Set<() => void>()
  readonly #time: DaemonTime
  #link: PeerLink | undefined
  #watch: RegionWatch | undefined
  #verdict: NodeVerdict = { kind: 'alive', seen: 'nothing yet' }
  #machine: MachineLink | undefined
  #kernel: HostKernel | undefined
  /** The link by which the whole node has been recovered, or is being. */
  #recoveredNode: PeerLink | undefined
  readonly #startedUs: number
  #closed = false

  constructor(config: DaemonConfig, peer: PeerConfig, fabric: PeerFabric, events: PeerWatcherEvents, time: DaemonTime = systemTime) {
    this.#time = time
    this.#startedUs = time.nowUs()
    this.peer = peer
    this.#config = config
    this.#events = events
    this.#teller = this.#makeTeller()
    this.#inquiry = this.#makeInquiry()
    this.#keeper = fabric.keep(peer, {
      onMachine: (machine) => this.#onMachine(machine),
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

  /** Names of what flaps: its own, and those of its servers. */
  get flapping(): string[] {
    return this.#teller.flapping
  }

  /** Can its memory be read at this moment? Undefined where nothing is lent by it (yet). */
  look(): Promise<boolean> | undefined {
    if (this.#watch) return this.#watch.look()
    const span = this.#machine?.image.physical.spans[0]
    return span && this.#machine?.memory.read(span.offset, 8).then(() => true, () => false)
  }

  /** It watches nobody any more, as far as can be seen: others have to be watched in its stead. */
  get isDown(): boolean {
    // Behind a cut link it watches on, unless who reaches it says that it has stopped; and whether that is so is asked first.
    if (this.#verdict.kind === 'link-cut') return this.#inquiry.isSeenStopped
    if (this.#verdict.kind !== 'alive') return this.#verdict.kind !== 'daemon-stalled' && !this.#inquiry.isAsking
    const { unreachableAfterMs } = this.#config.watch
    const waitedMs = (this.#time.nowUs() - this.#startedUs) / 1000
    return this.#watch?.hasLeft ?? (this.#machine === undefined && waitedMs > Math.max(joinPatienceMs, unreachableAfterMs))
  }

  /** It recovers its peer, or is to try again, or sees to it that another one does: not the time to end it. */
  get isBusy(): boolean {
    if (this.#recovering.size > 0) return true
    // Its daemon has ended, and lends its memory no more; the next one takes the region up: by a link that is made anew all is judged anew.
    if (this.#verdict.kind === 'daemon-lost') return false
    const nowUs = this.#time.nowUs()
    return [...this.#lookOuts.values(), ...this.#owed.values()].some((sinceUs) => nowUs - sinceUs < pendingCountsMs * 1000)
  }

  /** Where the peer's whole memory can be read. */
  get machine(): MachineLink | undefined {
    return this.#machine
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#teller.close()
    for (const cancel of this.#retries) cancel()
    this.#watch?.close()
    this.#kernel?.close()
    await this.#inquiry.close()
    await this.#keeper.close()
    // A keeper that was about to deliver a link may have done so meanwhile.
    this.#watch?.close()
    this.#kernel?.close()
    await Promise.all(this.#recovering)
    await this.#link?.close()
  }

  #onLink(link: PeerLink): void {
    const earlier = this.#link
    this.#watch?.close()
    this.#setLink(link)
    if (this.#verdict.kind !== 'alive') this.#onVerdict(link, { kind: 'alive', seen: 'it is connected anew' }, { by: this.#config.node, atUs: this.#time.nowUs(), seen: 'it is connected anew' })
    // A recovery that still reads by the earlier link keeps it until it has ended.
    if (earlier) void Promise.all(this.#recovering).then(() => earlier.close())
    this.#watch = new RegionWatch({
      ...this.#howToWatch(),
      header: link.header,
      memory: link.sampling,
      controlConnection: (knownForUs) => link.control(knownForUs),
      kernel: async () => await this.#kernel?.ask(),
      onVerdict: (verdict, evidence) => this.#onVerdict(link, verdict, evidence),
      conditions: {
        rule: conditionRule(this.#config.watch.conditions),
        onChange: (condition, raised) => this.#events.onCondition(this.peer.name, condition, raised),
      },
      onTrouble: (error) => this.#events.log.debug({ peer: this.peer.name, err: error }, 'could not read the directory'),
    })
    this.#events.log.info({ peer: this.peer.name, incarnation: link.header.incarnation.toString(16) }, 'watching')
    this.#events.onWatching(this.peer.name, link.header.incarnation, link.sampling)
  }

  #makeTeller(): VerdictTeller {
    const { name } = this.peer
    return new VerdictTeller({
      node: name,
      rule: flappingRule(this.#config.watch.flapping),
      tell: (verdict, evidence) => this.#events.onVerdict(name, verdict, evidence),
      nowUs: () => this.#time.nowUs(),
      after: (us, run) => this.#time.later(us / 1000, run),
    })
  }

  #makeInquiry(): UnreachableInquiry {
    const { name } = this.peer
    const { observers, fence, onFenced, members } = this.#events
    return new UnreachableInquiry({
      peer: name,
      observers,
      others: () => members()?.filter((member) => member.name !== name).length,
      conclude: (verdict, evidence) => {
        this.#verdict = verdict
        this.#teller.onVerdict(verdict, evidence)
      },
      fence: fence && (() => fence(name)),
      onFenced: (opinions, error) => onFenced(name, opinions, error),
      after: (us, run) => this.#time.later(us / 1000, run),
    })
  }

  #howToWatch() {
    const { unreachableAfterMs, refreshMs } = this.#config.watch
    const { intervalUs = this.#config.watch.intervalUs } = this.peer
    return {
      by: this.#config.node, intervalUs, unreachableAfterUs: unreachableAfterMs * 1000, refreshMs,
      nowUs: () => this.#time.nowUs(),
      every: (ms: number, run: () => void) => this.#time.every(ms, run),
    }
  }

  #onMachine(machine: MachineLink): void {
    this.#kernel?.close()
    this.#machine = machine
    if (!machine.hasRegion) this.#dropLink()
    this.#kernel = new HostKernel({
      ...this.#howToWatch(),
      peer: this.peer.name,
      image: machine.image,
      memory: machine.memory,
      deadlineUs: this.#config.watch.osDeadlineMs * 1000,
      controlConnection: (knownForUs) => machine.control(knownForUs),
      onVerdict: (verdict, evidence) => this.#onKernelVerdict(verdict, evidence),
      onStarted: () => this.#events.onMachine(this.peer.name),
      later: (ms, run) => this.#later(ms, run),
      log: this.#events.log,
    })
  }

  /** The host has been started anew, and has no region yet. */
  #dropLink(): void {
    const link = this.#link
    this.#watch?.close()
    this.#watch = undefined
    this.#setLink(undefined)
    if (link) void Promise.all(this.#recovering).then(() => link.close())
  }

  /** What was owed by an earlier link is not owed by this one: by it all is judged anew. */
  #setLink(link: PeerLink | undefined): void {
    this.#link = link
    this.#owed.clear()
    this.#lookOuts.clear()
  }

  #later(ms: number, run: () => void): void {
    if (this.#closed) return
    const cancel = this.#time.later(ms, () => {
      this.#retries.delete(cancel)
      run()
    })
    this.#retries.add(cancel)
  }

  /** Of a host with a region this is said with its sensors in view (`RegionWatch`, which asks the kernel); but that it has panicked its kernel alone can say. */
  #onKernelVerdict(verdict: NodeVerdict, evidence: Evidence): void {
    if (this.#closed) return
    if (this.#link && verdict.kind !== 'os-panicked') return
    this.#verdict = verdict
    this.#inquiry.follow(verdict, evidence)
    if (verdict.kind === 'os-panicked' && this.#link) this.#recover(this.#link, { kind: 'node' })
  }

  #onVerdict(link: PeerLink, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    if (this.#closed) return
    // Nothing of a machine that has panicked will move again: to say that it has stopped would say less. The way to its memory
    // may have to be made anew all the same.
    if (this.#kernel?.verdict.kind === 'os-panicked' && verdict.kind !== 'daemon-lost' && verdict.kind !== 'unreachable') return
    if (!('box' in verdict)) this.#verdict = verdict
    if (verdict.kind === 'alive' && !('box' in verdict)) this.#recoveredNode = undefined
    if ('box' in verdict) this.#teller.onVerdict(verdict, evidence)
    else this.#inquiry.follow(verdict, evidence)
    if (verdict.kind === 'daemon-lost') link.renew()
    if (verdict.kind === 'os-stalled') this.#recover(link, { kind: 'node' })
    if ('box' in verdict && (verdict.kind === 'app-stalled' || verdict.kind === 'app-exited')) this.#recover(link, { kind: 'box', box: verdict.box, generation: verdict.generation })
  }

  #recover(link: PeerLink, target: RecoveryTarget, retryMs = firstRetryMs): void {
    if (!this.#config.recovery.enabled || this.#closed) return
    if (target.kind === 'node') {
      if (this.#recoveredNode === link) return
      this.#recoveredNode = link
    }
    const run = this.#events.recover(link, target).then((report) => {
      // The box was given back by a restart that saw the fence after all: if so, it is judged once more.
      if (report?.outcome === 'superseded' && target.kind === 'box') this.#watch?.forget(target.box, target.generation)
      if (report === undefined && target.kind === 'node') this.#recoveredNode = undefined
      if (report === undefined) this.#retry(link, target, retryMs)
      else if (this.#link === link) this.#owed.delete(JSON.stringify(target))
      for (const unsettled of report?.unsettled ?? []) this.#lookOut(link, unsettled)
    })
    this.#recovering.add(run)
    void run.finally(() => this.#recovering.delete(run))
  }

  /** Another recovers it. Should that one fail, too, somebody has to see it. */
  #lookOut(link: PeerLink, target: RecoveryTarget, everyMs = lookOutEveryMs): void {
    if (this.#link !== link) return
    const key = JSON.stringify(target)
    if (everyMs === lookOutEveryMs) this.#lookOuts.set(key, this.#time.nowUs())
    this.#later(everyMs, () => void this.#events.lookAtClaim(link, target).then((succession) => {
      if (this.#link !== link || this.#closed) return
      if (succession === 'wait') return this.#lookOut(link, target, Math.min(2 * everyMs, lookOutLimitMs))
      this.#lookOuts.delete(key)
      if (succession === 'leave') return
      this.#events.log.warn({ peer: this.peer.name, target }, 'the recoverer of this peer has failed: its recovery is taken over')
      if (target.kind === 'node') this.#recoveredNode = undefined
      this.#recover(link, target)
    }))
  }

  /** Each step can be run again, and the claim stays this node's meanwhile: nobody else would do it. */
  #retry(link: PeerLink, target: RecoveryTarget, delayMs: number): void {
    if (this.#link !== link) return
    const key = JSON.stringify(target)
    if (!this.#owed.has(key)) this.#owed.set(key, this.#time.nowUs())
    this.#later(delayMs, () => {
      if (this.#link !== link) return
      const isOver = target.kind === 'node' && this.#verdict.kind !== 'os-stalled' && this.#verdict.kind !== 'os-panicked'
      if (isOver) this.#owed.delete(key)
      else this.#recover(link, target, Math.min(2 * delayMs, retryLimitMs))
    })
  }
}
