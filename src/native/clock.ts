import { memoryAddon } from './load.js'

/** Writes the time in milliseconds into the first element: a number that is returned may be an object on the heap. */
export type Clock = (into: Float64Array) => void

let write: Clock | undefined

/** CLOCK_MONOTONIC, the same for all processes of a machine. Makes no garbage, for each commit asks it. */
export const monotonicClock: Clock = (into) => {
  write ??= memoryAddon().writeMonotonicMs
  write(into)
}

const time = new Float64Array(1)

/** The same clock for those who are not in such a hurry. In milliseconds. */
export function monotonicMs(): number {
  monotonicClock(time)
  return time[0] as number
}

/** A clock that shows what `nowMs` returns. */
export const clockOf = (nowMs: () => number): Clock => (into) => {
  into[0] = nowMs()
}
