/** Figures of samples: honest ones of all of them, and perftest's row for comparison. Pure; any unit. */

export interface Distribution {
  readonly samples: number
  readonly min: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  /** No sample is dropped: this is the largest. */
  readonly max: number
  readonly mean: number
}

/** The row that perftest's latency tools print, by its own names. */
export interface PerftestRow {
  readonly iterations: number
  readonly min: number
  readonly max: number
  readonly typical: number
  readonly average: number
  readonly stdev: number
  readonly p99: number
  readonly p999: number
}

export const sorted = (samples: Float64Array): Float64Array => Float64Array.from(samples).sort()

/** The smallest sample that `fraction` of all samples do not exceed (nearest rank). */
export function quantile(ascending: Float64Array, fraction: number): number {
  const rank = Math.ceil(fraction * ascending.length)
  return ascending[Math.min(Math.max(rank, 1), ascending.length) - 1] ?? NaN
}

const meanOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length

/** `scale` is what each sample is multiplied by, e.g. 1e-3 from nanoseconds to microseconds. */
export function distributionOf(ascending: Float64Array, scale = 1): Distribution {
  const at = (fraction: number): number => quantile(ascending, fraction) * scale
  return {
    samples: ascending.length,
    min: (ascending[0] ?? NaN) * scale,
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999),
    max: (ascending.at(-1) ?? NaN) * scale,
    mean: meanOf(ascending) * scale,
  }
}

/** Of a mean, with the bounds that hold it with 95% confidence. */
export interface Interval {
  readonly mean: number
  readonly low: number
  readonly high: number
}

const resamples = 10_000

/** The percentile bootstrap (Efron 1979): means of samples drawn from the samples, with replacement. */
export function bootstrapInterval(samples: readonly number[], random: { integer(low: number, high: number): number }): Interval {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const means = Float64Array.from({ length: resamples }, () => mean(samples.map(() => samples[random.integer(0, samples.length - 1)] as number))).sort()
  return { mean: mean(samples), low: quantile(means, 0.025), high: quantile(means, 0.975) }
}

/** perftest leaves out the two largest samples (`LAT_MEASURE_TAIL`), whatever they were. */
const measureTail = 2

/** As `print_report_lat` of perftest's perftest_resources.c reckons: its t_max is the third largest sample. */
export function perftestRowOf(ascending: Float64Array, scale = 1): PerftestRow {
  const count = Math.max(ascending.length - measureTail, 1)
  const kept = ascending.subarray(0, count)
  const average = meanOf(kept)
  const variance = kept.reduce((sum, value) => sum + (value - average) ** 2, 0) / count
  const at = (index: number): number => (ascending[Math.min(index, ascending.length - 1)] ?? NaN) * scale
  const middle = Math.floor(count / 2)
  return {
    iterations: ascending.length,
    min: at(0),
    max: at(count),
    typical: count % 2 === 0 ? (at(middle) + at(middle - 1)) / 2 : at(middle),
    average: average * scale,
    stdev: Math.sqrt(variance) * scale,
    p99: at(Math.ceil(count * 0.99)),
    p999: at(Math.ceil(count * 0.999)),
  }
}
