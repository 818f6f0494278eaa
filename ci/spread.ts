/** How measured times are spread. */
import { quantile, sorted } from '../src/cli/bench/statistics.js'

export interface Spread {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/** @returns rounded to whole numbers; undefined where nothing was measured */
export function spreadOf(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined
  const ascending = sorted(Float64Array.from(values))
  const at = (fraction: number): number => Math.round(quantile(ascending, fraction))
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}

/** The middle one, or the mean of the two in the middle; NaN of none. */
export function medianOf(values: readonly number[]): number {
  const ascending = [...values].sort((left, right) => left - right)
  const middle = ascending.length / 2
  return ((ascending[Math.floor(middle)] ?? NaN) + (ascending[Math.ceil(middle) - 1] ?? NaN)) / 2
}
