import type { Logger } from 'pino'
import type { BackdoorsError } from '../../errors.js'
import type { Clock } from './clock.js'

/** One line per refused connection, but so many a second at most: who is refused must not be able to fill a disk. */
export class RefusalLog {
  readonly #logger: Pick<Logger, 'warn'>
  readonly #clock: Clock
  readonly #linesPerSecond: number
  #windowEndMs = -Infinity
  #lines = 0
  #unlogged = 0

  constructor(logger: Pick<Logger, 'warn'>, clock: Clock, linesPerSecond: number) {
    this.#logger = logger
    this.#clock = clock
    this.#linesPerSecond = linesPerSecond
  }

  write(error: BackdoorsError, from: string): void {
    const nowMs = this.#clock.nowMs()
    if (nowMs >= this.#windowEndMs) {
      this.#windowEndMs = nowMs + 1000
      this.#lines = 0
    }
    if (this.#lines >= this.#linesPerSecond) {
      this.#unlogged += 1
      return
    }
    this.#lines += 1
    const unlogged = this.#unlogged === 0 ? {} : { unlogged: this.#unlogged }
    this.#unlogged = 0
    const { peer } = error.details
    this.#logger.warn({ code: error.code, from, ...(peer === undefined ? {} : { peer }), ...unlogged }, `connection refused: ${error.message}`)
  }
}
