/** The kernel of a host whose whole memory is lent: watched as soon as it is whole, and asked where the host's daemon says nothing. */
import type { Logger } from 'pino'
import { KernelWatch, type KernelWatchOptions } from '../../kernel/kernel-watch.js'
import type { NodeVerdict, ObservedKernel } from '../../monitor/verdict.js'

export interface HostKernelOptions extends Omit<KernelWatchOptions, 'onTrouble'> {
  /** The host's name, for logs. */
  readonly peer: string
  readonly onStarted: () => void
  /** Runs it after so long, unless this is no concern any more. */
  readonly later: (ms: number, run: () => void) => void
  readonly log: Pick<Logger, 'debug' | 'warn'>
}

/** A kernel that cannot be watched yet is tried again after so long, doubled each time up to the limit. In milliseconds. */
const firstRetryMs = 1000
const retryLimitMs = 30_000

export class HostKernel {
  readonly #options: HostKernelOptions
  readonly #watch: KernelWatch
  #started = false
  #closed = false

  constructor(options: HostKernelOptions) {
    const { peer, log } = options
    this.#options = options
    this.#watch = new KernelWatch({
      ...options,
      onTrouble: (error) => log.debug({ peer, err: error }, 'could not read the kernel\'s state'),
    })
    this.#start(firstRetryMs)
  }

  get verdict(): NodeVerdict {
    return this.#watch.verdict
  }

  /**
   * Does it move at this moment? Undefined where that cannot be told: it is not watched yet, or cannot be read. Never rejects.
   * That it has panicked it does not say here: that is a verdict of its own.
   */
  async ask(): Promise<ObservedKernel | undefined> {
    if (!this.#started) return undefined
    const seen = await this.#watch.look()
    if (seen?.moves === undefined) return seen?.stalled === undefined ? undefined : { stalled: seen.stalled }
    const { deadlineUs, refreshMs } = this.#options
    // A move is seen up to a refresh after it was made, and held to its credit for the deadline.
    return { moves: 'its kernel moves, or is idle and owes nothing', movedWithinUs: deadlineUs + refreshMs * 1000 }
  }

  /** Idempotent. No verdict is told afterwards. */
  close(): void {
    this.#closed = true
    this.#watch.close()
  }

  /** A kernel that is starting may not be whole yet. */
  #start(retryMs: number): void {
    const { peer, log, onStarted, later } = this.#options
    this.#watch.start().then(() => {
      if (this.#closed) return
      this.#started = true
      onStarted()
    }, (error: unknown) => {
      if (this.#closed) return
      log.warn({ peer, err: error }, 'the kernel of this host cannot be watched (yet)')
      later(retryMs, () => {
        if (!this.#closed) this.#start(Math.min(2 * retryMs, retryLimitMs))
      })
    })
  }
}
