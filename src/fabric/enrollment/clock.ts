/** Time as an argument: the daemon passes `systemClock`, tests a clock that they move by hand. */
export interface Timer {
  /** Idempotent; also after it has run. */
  cancel(): void
}

export interface Clock {
  /** Monotonic, in milliseconds, from no particular start. */
  nowMs(): number
  /** Runs `action` once, `delayMs` from now. */
  after(delayMs: number, action: () => void): Timer
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after: (delayMs, action) => {
    const timer = setTimeout(action, delayMs)
    return { cancel: () => clearTimeout(timer) }
  },
}
