/** Carries out recoveries, one at a time: a verdict comes in, a report goes out. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import { nodeGeneration, type RecoveryStep } from '../region/control.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { RegionHeader } from '../region/header.js'
import { adoptInto } from '../recovery/adopter.js'
import { recover, type RecoveryReport, type RecoveryTarget } from '../recovery/recover.js'
import { lookAtClaim, Successions, type Predecessor, type Succession } from '../recovery/succession.js'
import { safeguardsWithout } from '../safeguards.js'
import type { OwnRegion } from './own-region.js'
import type { Addresses } from './addresses.js'
import { nodeNumber, type DaemonConfig } from './config.js'
import { fenceExternally } from './external-fencing.js'
import { systemTime, type DaemonTime } from './daemon-time.js'
import { runHook } from './hooks.js'
import type { Handover } from './handover.js'
import type { PeerLink } from './peer-fabric.js'

export interface RecoveryEvents {
  readonly onStep: (peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number) => void
  readonly onReport: (report: RecoveryReport) => void
  /** A hook or the recovery itself failed; what had been adopted stands. */
  readonly onFailure: (peer: string, target: RecoveryTarget, error: unknown) => void
  readonly log: Logger
}

export interface RecoveryRunnerOptions {
  readonly config: DaemonConfig
  readonly own: Pick<OwnRegion, 'box' | 'fenced' | 'notes'>
  readonly handover: Handover
  readonly addresses: Pick<Addresses, 'takeOver'>
  readonly events: RecoveryEvents
  /** What this node knows of another that holds a claim, by its number in it. */
  readonly predecessor: (number: number) => Predecessor | undefined
  readonly time?: DaemonTime
}

export class RecoveryRunner {
  readonly #config: DaemonConfig
  readonly #own: RecoveryRunnerOptions['own']
  readonly #handover: Handover
  readonly #addresses: RecoveryRunnerOptions['addresses']
  readonly #events: RecoveryEvents
  readonly #time: DaemonTime
  readonly #successions: Successions
  #last: Promise<unknown> = Promise.resolve()

  constructor({ config, own, handover, addresses, events, predecessor, time = systemTime }: RecoveryRunnerOptions) {
    this.#config = config
    this.#own = own
    this.#handover = handover
    this.#addresses = addresses
    this.#events = events
    this.#time = time
    const { node, recovery: { takeOverAfterMs } } = config
    this.#successions = new Successions({ recoverer: nodeNumber(node), notes: own.notes, predecessor, takeOverAfterMs, nowMs: () => time.nowUs() / 1000 })
  }

  /** Queues a recovery. Never rejects. @returns its report, or undefined where it failed */
  recover(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const run = this.#last.then(() => this.#run(link, target))
    this.#last = run
    return run
  }

  /** What has become of a recovery that another node holds. Never rejects. */
  async lookAtClaim({ sampling, header: { node, incarnation } }: PeerLink, target: RecoveryTarget): Promise<Succession> {
    if (this.#own.fenced) return 'leave'
    const source = { node, incarnation, target: target.kind === 'node' ? 'node' as const : target.box }
    const generation = target.kind === 'node' ? nodeGeneration : target.generation
    // Memory that cannot be read now may be read again: the link tells when it is gone.
    return await lookAtClaim(sampling, source, generation, (...held) => this.#successions.judge(...held)).catch(() => 'wait')
  }

  /** Resolves when all that was queued has ended. */
  async settled(): Promise<void> {
    await this.#last
  }

  async #run(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const peer = link.header.node
    try {
      if (this.#own.fenced) throw new BackdoorsError('FENCED', `This node has itself been fenced, so it recovers nobody.`, { peer: this.#config.node })
      const memory = await link.forRecovery()
      const report = await recover({
        memory,
        header: link.header,
        target,
        recoverer: nodeNumber(this.#config.node),
        adopt: (sessions) => adoptInto(this.#own.box, sessions),
        fenceExternally: () => this.#fenceExternally(peer, target),
        announce: (partial) => this.#announce(memory, link.header, partial),
        onStep: (step, atMs) => this.#events.onStep(peer, target, step, atMs),
        notes: this.#own.notes,
        judgeClaim: (...held) => this.#successions.judge(...held),
        nowMs: () => this.#time.nowUs() / 1000,
        pause: (ms) => this.#time.pause(ms),
        safeguards: safeguardsWithout(this.#config.canary),
      })
      this.#events.onReport(report)
      return report
    } catch (error) {
      this.#events.onFailure(peer, target, error)
      return undefined
    }
  }

  /**
   * Fences a node whose memory cannot be reached, by the configured command alone. There is nothing to recover from it.
   * @throws BackdoorsError FENCE_FAILED; FENCED: this node has itself been fenced, and has no say
   */
  async fenceUnreachable(peer: string): Promise<void> {
    if (this.#own.fenced) throw new BackdoorsError('FENCED', 'This node has itself been fenced, so it fences nobody.', { peer: this.#config.node })
    await this.#runFence(peer)
  }

  async #runFence(peer: string): Promise<void> {
    const { fence } = this.#config.recovery
    if (fence) await fenceExternally(fence, peer, this.#events.log)
  }

  async #fenceExternally(peer: string, target: RecoveryTarget): Promise<void> {
    const { fence } = this.#config.recovery
    // A box is one process among healthy ones; a whole machine must not be fenced for it.
    if (fence === undefined || target.kind === 'box') return
    try {
      await this.#runFence(peer)
    } catch (error) {
      if (fence.required) throw error
      this.#events.onFailure(peer, target, error)
    }
  }

  async #announce(memory: RemoteMemory, header: RegionHeader, report: RecoveryReport): Promise<void> {
    const { node, incarnation } = header
    this.#handover.release({ node, incarnation, boxes: report.boxes })
    // The machine of a single failed server lives, and keeps its addresses for the others.
    if (report.target.kind === 'node') await this.#addresses.takeOver(memory, header)
    const { announce } = this.#config.recovery
    if (announce === undefined) return
    const env = { BACKDOORS_FAILED_NODE: report.peer, BACKDOORS_RECOVERER: this.#config.node }
    await runHook('ANNOUNCE_FAILED', { ...announce, input: { ...report, recoverer: this.#config.node }, env })
  }
}
