/** Keeps a peer enrolled: again after every loss, and more patiently after every failure. */
import { asBackdoorsError } from '../../errors.js'
import type { BackdoorsError } from '../../errors.js'
import type { EnrolledConnection } from './client.js'
import { systemClock } from './clock.js'
import type { Clock, Timer } from './clock.js'
import type { Closure } from './closure.js'

export interface BackoffOptions {
  /** Before the second try, in milliseconds. */
  readonly minMs: number
  /** Never longer than this, in milliseconds. */
  readonly maxMs: number
  /** How much longer each wait is than the one before. */
  readonly factor: number
  /** A link that stood for so long starts the waits over, in milliseconds; one that falls at once does not. */
  readonly stableAfterMs: number
}

export const defaultBackoff: BackoffOptions = { minMs: 200, maxMs: 10_000, factor: 2, stableAfterMs: 10_000 }

/**
 * How long to wait after `failures` failures in a row (1 or more), in milliseconds: exponential, the upper half
 * of it random, so that the peers of a node that restarts do not all come at once.
 * @param random At least 0 and less than 1.
 */
export function backoffMs(failures: number, random: number, { minMs, maxMs, factor }: BackoffOptions): number {
  const fullMs = Math.min(maxMs, minMs * factor ** Math.max(0, failures - 1))
  return fullMs * (0.5 + random / 2)
}

export interface EnrollerOptions {
  readonly peer: string
  /**
   * Makes one try: queue pairs, then `enroll`. `signal` is aborted when the try is given up; what was made for
   * a try that fails is for this function to free.
   */
  readonly attempt: (signal: AbortSignal) => Promise<EnrolledConnection>
  /** The peer is enrolled. What it throws ends the link. */
  readonly onLink: (connection: EnrolledConnection) => void
  /** A link is over; a next try follows unless the enroller is stopped. */
  readonly onLost: (closure: Closure) => void
  /** A try failed; the next one follows after `delayMs`. */
  readonly onFailure?: (error: BackdoorsError, failures: number, delayMs: number) => void
  readonly backoff?: Partial<BackoffOptions>
  readonly clock?: Clock
  /** As `Math.random`. */
  readonly random?: () => number
}

export class Enroller {
  readonly #options: EnrollerOptions
  readonly #backoff: BackoffOptions
  readonly #clock: Clock
  readonly #stopping = new AbortController()
  #failures = 0
  #connection: EnrolledConnection | undefined
  #running: Promise<void> | undefined
  #wake: (() => void) | undefined

  constructor(options: EnrollerOptions) {
    this.#options = options
    this.#backoff = { ...defaultBackoff, ...options.backoff }
    this.#clock = options.clock ?? systemClock
  }

  /** The link that stands. */
  get connection(): EnrolledConnection | undefined {
    return this.#connection
  }

  /** Tries that failed, or links that fell at once, since a link last was stable. */
  get failures(): number {
    return this.#failures
  }

  /** Begins; idempotent. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Tries now instead of waiting on, e.g. because the peer itself has just enrolled here. */
  hurry(): void {
    this.#wake?.()
  }

  /** Gives up the try under way, or closes the link with `bye`. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#wake?.()
    await this.#connection?.close('stopping')
    await this.#running
  }

  async #run(): Promise<void> {
    while (!this.#stopped()) {
      let failure: BackdoorsError | undefined
      try {
        await this.#linkOnce()
      } catch (error) {
        failure = asBackdoorsError(error, 'PEER_UNREACHABLE', `enrolling at ${this.#options.peer}`, { peer: this.#options.peer })
        this.#failures += 1
      }
      if (this.#stopped()) return
      const delayMs = backoffMs(this.#failures, (this.#options.random ?? Math.random)(), this.#backoff)
      if (failure !== undefined) this.#options.onFailure?.(failure, this.#failures, delayMs)
      await this.#wait(delayMs)
    }
  }

  #stopped(): boolean {
    return this.#stopping.signal.aborted
  }

  /** One try, and the life of the link if it succeeds. */
  async #linkOnce(): Promise<void> {
    const { attempt, onLink, onLost } = this.#options
    const connection = await attempt(this.#stopping.signal)
    if (this.#stopped()) return void (await connection.close('stopping'))
    this.#connection = connection
    const linkedMs = this.#clock.nowMs()
    try {
      onLink(connection)
    } catch (error) {
      this.#connection = undefined
      await connection.close('this node cannot use what it was lent')
      throw error
    }
    const closure = await connection.closed
    this.#connection = undefined
    const stable = this.#clock.nowMs() - linkedMs >= this.#backoff.stableAfterMs
    this.#failures = stable ? 0 : this.#failures + 1
    onLost(closure)
  }

  async #wait(delayMs: number): Promise<void> {
    let timer: Timer | undefined
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      timer = this.#clock.after(delayMs, resolve)
    })
    timer?.cancel()
    this.#wake = undefined
  }
}
