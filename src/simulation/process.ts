/** A simulated process: it runs, is stopped (SIGSTOP, or its machine hangs), or is dead. What it would do meanwhile waits, or is never done. */
import { quiet, type Scheduled, type Simulation } from '../fabric/mock/simulation.js'

/** Thrown in the midst of what a process does when it dies there: nothing of it may go on. */
export class ProcessDied extends Error {}

export class Process {
  readonly name: string
  readonly #simulation: Simulation
  readonly #waiting: (() => unknown)[] = []
  readonly #ends: (() => void)[] = []
  readonly #stops: (() => void)[] = []
  #stoppedUntilUs = 0
  #stoppedSinceUs = 0
  #wakeUp: Scheduled | undefined
  #alive = true
  #looksLeft = Infinity
  #isLookedInto = false
  #dieThere = (): void => this.kill()

  constructor(simulation: Simulation, name: string) {
    this.#simulation = simulation
    this.name = name
  }

  get alive(): boolean {
    return this.#alive
  }

  get running(): boolean {
    return this.#alive && this.#simulation.now() >= this.#stoppedUntilUs
  }

  /** When it was stopped last, and until when; in microseconds of virtual time. */
  get lastStop(): { readonly fromUs: number; readonly untilUs: number } {
    return { fromUs: this.#stoppedSinceUs, untilUs: this.#stoppedUntilUs }
  }

  /** @param us may be `Infinity`; a longer stop that is under way is not cut short */
  stop(us: number): void {
    const nowUs = this.#simulation.now()
    if (!this.#alive || nowUs + us <= this.#stoppedUntilUs) return
    if (this.running) this.#stoppedSinceUs = nowUs
    this.#stoppedUntilUs = nowUs + us
    this.#wakeUp?.cancel()
    this.#wakeUp = Number.isFinite(us) ? this.#simulation.schedule(us, () => this.#goOn()) : undefined
    for (const onStop of this.#stops) onStop()
  }

  wake(): void {
    if (this.running || !this.#alive) return
    this.#stoppedUntilUs = this.#simulation.now()
    this.#wakeUp?.cancel()
    this.#simulation.schedule(0, () => this.#goOn())
  }

  kill(): void {
    if (!this.#alive) return
    this.#alive = false
    this.#wakeUp?.cancel()
    this.#waiting.length = 0
    for (const end of this.#ends.splice(0)) end()
  }

  /** Dies in the midst of what it does, when it looks at the clock for the `count`th time from now: each commit and each look at a session does. */
  dieAtLook(count: number, die: () => void): void {
    this.#looksLeft = count
    this.#dieThere = die
  }

  /** Takes `dieAtLook` back. */
  liveOn(): void {
    this.#looksLeft = Infinity
  }

  /** The clock of its box. @throws ProcessDied where the process is to die here */
  readonly nowMs = (): number => {
    if (this.#isLookedInto) return this.#simulation.now() / 1000
    this.#looksLeft--
    if (this.#looksLeft === 0) this.#dieThere()
    if (!this.#alive) throw new ProcessDied(`${this.name} died in the midst of its commits`)
    return this.#simulation.now() / 1000
  }

  /** Is it looked into just now? Then nothing may happen to it. */
  get isLookedInto(): boolean {
    return this.#isLookedInto
  }

  /** For those who judge the simulation: whatever `look` asks of the process's objects, dead or alive, leaves no trace in it. */
  lookInto<T>(look: () => T): T {
    const before = this.#isLookedInto
    this.#isLookedInto = true
    try {
      return look()
    } finally {
      this.#isLookedInto = before
    }
  }

  /** Called at once, as the process dies. */
  onEnd(end: () => void): void {
    this.#ends.push(end)
  }

  onStop(stop: () => void): void {
    this.#stops.push(stop)
  }

  /** Runs `action` now, or when the process runs again; not at all once it is dead. */
  whenRunning(action: () => unknown): unknown {
    if (!this.#alive) return quiet
    if (!this.running) {
      this.#waiting.push(action)
      return quiet
    }
    try {
      return action()
    } catch (error) {
      // Whatever it was about to do after that is not done.
      if (error instanceof ProcessDied && !this.#alive) return undefined
      throw error
    }
  }

  /** Resolves when the process runs; never once it is dead, so that what waits for it is simply no more. */
  gate(): Promise<void> {
    return new Promise((resolve) => void this.whenRunning(resolve))
  }

  later(us: number, action: () => unknown): () => void {
    let cancelled = false
    const scheduled = this.#simulation.schedule(us, () => this.whenRunning(() => (cancelled ? quiet : action())))
    return () => {
      cancelled = true
      scheduled.cancel()
    }
  }

  /** The first time after one interval. A process that was stopped makes up for one of those that it missed. */
  every(us: number, action: () => unknown): () => void {
    let cancelled = false
    let cancel = (): void => undefined
    const again = (): void => {
      cancel = this.later(us, () => {
        const outcome = action()
        if (!cancelled) again()
        return outcome
      })
    }
    again()
    return () => {
      cancelled = true
      cancel()
    }
  }

  #goOn(): unknown {
    if (!this.running) return quiet
    // Each may stop the process again, or end it.
    for (const action of this.#waiting.splice(0)) this.whenRunning(action)
    return undefined
  }
}
