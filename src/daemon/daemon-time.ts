/** The clock and the timers of a daemon, so that a simulation can put its own in their place. */
import { memoryAddon } from '../native/load.js'

/** What a timer returns cancels it. */
export interface DaemonTime {
  /** Of the machine's monotonic clock, in microseconds. */
  nowUs(): number
  every(ms: number, run: () => void): () => void
  later(ms: number, run: () => void): () => void
  pause(ms: number): Promise<void>
}

/** Timers that keep no process alive. */
export const systemTime: DaemonTime = {
  nowUs: () => memoryAddon().monotonicUs(),
  every: (ms, run) => {
    const timer = setInterval(run, ms).unref()
    return () => clearInterval(timer)
  },
  later: (ms, run) => {
    const timer = setTimeout(run, ms).unref()
    return () => clearTimeout(timer)
  },
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
}
