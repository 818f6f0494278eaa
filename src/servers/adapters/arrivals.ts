/** Waiting for a session that has not come over yet: a client may be here sooner than what its failed server knew of it. */
import { asBackdoorsError } from '../../errors.js'
import type { Adopted, SessionStore } from '../session-store.js'

/** The longest wait that a timer takes, in milliseconds. */
const longestWaitMs = 2 ** 31 - 1

export class Arrivals {
  readonly #waiting = new Set<() => void>()
  readonly #store: SessionStore<never>
  readonly #onAdopted = (_adopted: Adopted): void => {
    for (const look of [...this.#waiting]) look()
  }

  /** Looks again whenever sessions of the store have come over. */
  constructor(store: SessionStore<never>) {
    this.#store = store
    store.on('adopted', this.#onAdopted)
  }

  /** Who waits still waits to the end of its time. */
  close(): void {
    this.#store.off('adopted', this.#onAdopted)
  }

  /** @returns what `look` finds, be it only after an arrival; undefined where it finds nothing within `waitMs` */
  async find<T>(look: () => T | undefined, waitMs: number): Promise<T | undefined> {
    const found = look()
    if (found !== undefined || !(waitMs > 0)) return found
    return await new Promise<T | undefined>((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer)
        this.#waiting.delete(attempt)
        settle()
      }
      const attempt = (): void => {
        try {
          const arrived = look()
          if (arrived !== undefined) end(() => resolve(arrived))
        } catch (error) {
          end(() => reject(asBackdoorsError(error, 'PAYLOAD_INVALID', 'Looking for a session that may have come over')))
        }
      }
      const timer = setTimeout(() => end(() => resolve(undefined)), Math.min(waitMs, longestWaitMs))
      this.#waiting.add(attempt)
    })
  }
}
