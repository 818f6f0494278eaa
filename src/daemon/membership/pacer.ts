/** The pace of a loop that talks to a service: more patient after every failure, and never twice as patient as another by chance. */
import { backoffMs, type BackoffOptions } from '../../fabric/enrollment/enroller.js'
import type { Clock, Timer } from '../../fabric/enrollment/clock.js'

export interface PacerOptions {
  readonly clock: Clock
  /** As `Math.random`. */
  readonly random: () => number
  readonly backoff: BackoffOptions
  /** Ends every wait. */
  readonly signal: AbortSignal
}

export class Pacer {
  readonly #options: PacerOptions
  #failures = 0
  #startedMs = Infinity
  #isWoken = false
  #end: (() => void) | undefined

  constructor(options: PacerOptions) {
    this.#options = options
    options.signal.addEventListener('abort', () => this.#end?.(), { once: true })
  }

  /** What begins now has succeeded if it stands for long enough, however it ends. */
  started(): void {
    this.#startedMs = this.#options.clock.nowMs()
  }

  /** Waits for longer after each failure in a row. */
  async afterFailure(): Promise<void> {
    const { clock, random, backoff } = this.#options
    if (clock.nowMs() - this.#startedMs >= backoff.stableAfterMs) this.#failures = 0
    this.#startedMs = Infinity
    this.#failures += 1
    await this.pause(backoffMs(this.#failures, random(), backoff))
  }

  succeeded(): void {
    this.#failures = 0
  }

  /** Ends the pause under way, or the next one at once. */
  wake(): void {
    this.#isWoken = true
    this.#end?.()
  }

  /** Until so long has passed, `wake` is called, or the signal aborted. */
  async pause(ms: number): Promise<void> {
    const { clock, signal } = this.#options
    let timer: Timer | undefined
    await new Promise<void>((resolve) => {
      this.#end = resolve
      if (this.#isWoken || signal.aborted) resolve()
      else timer = clock.after(ms, resolve)
    })
    timer?.cancel()
    this.#end = undefined
    this.#isWoken = false
  }
}
