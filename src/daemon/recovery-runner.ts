/** Carries out recoveries, one at a time: a verdict comes in, a report goes out. */
import { BackdoorsError } from '../errors.js'
import type { RecoveryStep } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { adoptInto } from '../recovery/adopter.js'
import { recover, type RecoveryReport, type RecoveryTarget } from '../recovery/recover.js'
import { safeguardsWithout } from '../safeguards.js'
import type { OwnRegion } from './own-region.js'
import { nodeNumber, type DaemonConfig } from './config.js'
import { systemTime, type DaemonTime } from './daemon-time.js'
import { runHook } from './hooks.js'
import type { Handover } from './handover.js'
import type { PeerLink } from './peer-fabric.js'

export interface RecoveryEvents {
  readonly onStep: (peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number) => void
  readonly onReport: (report: RecoveryReport) => void
  /** A hook or the recovery itself failed; what had been adopted stands. */
  readonly onFailure: (peer: string, target: RecoveryTarget, error: unknown) => void
}

export class RecoveryRunner {
  readonly #config: DaemonConfig
  readonly #own: Pick<OwnRegion, 'box' | 'fenced'>
  readonly #handover: Handover
  readonly #events: RecoveryEvents
  readonly #time: DaemonTime
  #last: Promise<unknown> = Promise.resolve()

  constructor(config: DaemonConfig, own: Pick<OwnRegion, 'box' | 'fenced'>, handover: Handover, events: RecoveryEvents, time: DaemonTime = systemTime) {
    this.#time = time
    this.#config = config
    this.#own = own
    this.#handover = handover
    this.#events = events
  }

  /** Queues a recovery. Never rejects. @returns its report, or undefined where it failed */
  recover(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const run = this.#last.then(() => this.#run(link, target))
    this.#last = run
    return run
  }

  /** Resolves when all that was queued has ended. */
  async settled(): Promise<void> {
    await this.#last
  }

  async #run(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const peer = link.header.node
    try {
      if (this.#own.fenced) throw new BackdoorsError('FENCED', `This node has itself been fenced, so it recovers nobody.`, { peer: this.#config.node })
      const report = await recover({
        memory: await link.forRecovery(),
        header: link.header,
        target,
        recoverer: nodeNumber(this.#config.node),
        adopt: (sessions) => adoptInto(this.#own.box, sessions),
        fenceExternally: () => this.#fenceExternally(peer, target),
        announce: (partial) => this.#announce(link.header, partial),
        onStep: (step, atMs) => this.#events.onStep(peer, target, step, atMs),
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

  async #fenceExternally(peer: string, target: RecoveryTarget): Promise<void> {
    const { fence } = this.#config.recovery
    // A box is one process among healthy ones; a whole machine must not be fenced for it.
    if (fence === undefined || target.kind === 'box') return
    try {
      await runHook('FENCE_FAILED', { ...fence, input: { action: 'fence', node: peer }, env: { BACKDOORS_NODE: peer } })
    } catch (error) {
      if (fence.required) throw error
      this.#events.onFailure(peer, target, error)
    }
  }

  async #announce({ node, incarnation }: RegionHeader, report: RecoveryReport): Promise<void> {
    this.#handover.release({ node, incarnation, boxes: report.boxes })
    const { announce } = this.#config.recovery
    if (announce === undefined) return
    const env = { BACKDOORS_FAILED_NODE: report.peer, BACKDOORS_RECOVERER: this.#config.node }
    await runHook('ANNOUNCE_FAILED', { ...announce, input: { ...report, recoverer: this.#config.node }, env })
  }
}
