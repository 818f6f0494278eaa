/** Counts of durations in fixed buckets on a logarithmic scale, as the native sampler keeps them. A value: it does not change. */
import { histogramBoundUs, histogramBuckets } from '../native/memory.js'

/**
 * A bucket's bounds are at most a quarter apart, and so is what is derived from them from the truth: upwards, never down.
 *
 * @example
 * watch.state.histograms?.roundTrips.quantileUs(0.99)
 */
export class Histogram {
  /** One for each bucket. */
  readonly counts: Float64Array

  constructor(counts: Float64Array = new Float64Array(histogramBuckets)) {
    this.counts = counts
  }

  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0)
  }

  /** What was counted since `earlier`, an older state of the same. */
  since(earlier: Histogram): Histogram {
    return new Histogram(this.counts.map((count, bucket) => count - (earlier.counts[bucket] ?? 0)))
  }

  /** A bound, in microseconds, that at least this fraction of all durations lie below; NaN where there are none. */
  quantileUs(fraction: number): number {
    const { total } = this
    if (total === 0) return NaN
    let seen = 0
    const bucket = this.counts.findIndex((count) => (seen += count) >= Math.max(fraction * total, 1))
    return histogramBoundUs(bucket + 1)
  }

  /** How many durations were as long as `us` or longer: of the bucket that `us` lies in, all. */
  countFrom(us: number): number {
    return this.counts.reduce((sum, count, bucket) => (histogramBoundUs(bucket + 1) > us ? sum + count : sum), 0)
  }

  /** The buckets that are not empty, with the bound that their durations lie below, in microseconds. */
  filled(): { readonly belowUs: number; readonly count: number }[] {
    return [...this.counts].flatMap((count, bucket) => (count === 0 ? [] : [{ belowUs: histogramBoundUs(bucket + 1), count }]))
  }
}
