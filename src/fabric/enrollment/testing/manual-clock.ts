import type { Clock, Timer } from '../clock.js'

interface Due {
  readonly atMs: number
  readonly action: () => void
}

/** A clock that moves when it is told to. */
export class ManualClock implements Clock {
  #nowMs = 0
  readonly #due = new Set<Due>()

  nowMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, action: () => void): Timer {
    const due = { atMs: this.#nowMs + delayMs, action }
    this.#due.add(due)
    return { cancel: () => this.#due.delete(due) }
  }

  /** When the timers that are set will run, in order, in milliseconds of this clock. */
  get pendingMs(): number[] {
    return [...this.#due].map((due) => due.atMs).sort((a, b) => a - b)
  }

  /** Moves on, running each timer at its time. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs
    for (;;) {
      const next = [...this.#due].filter((due) => due.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0]
      if (next === undefined) break
      this.#due.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.action()
    }
    this.#nowMs = untilMs
  }

  /** Moves on at once, as when the process was stopped: what was due meanwhile runs late. */
  leap(byMs: number): void {
    this.#nowMs += byMs
    this.advance(0)
  }
}
