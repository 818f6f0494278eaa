import { describe, expect, it } from 'vitest'
import { histogramBoundUs, histogramBuckets } from '../native/memory.js'
import { Histogram } from './histogram.js'

/** By the definition: the last bucket whose bound is not above. */
function bucketOf(us: number): number {
  let bucket = 0
  while (bucket + 1 < histogramBuckets && histogramBoundUs(bucket + 1) <= us) bucket += 1
  return bucket
}

function histogramOf(...durationsUs: readonly number[]): Histogram {
  const counts = new Float64Array(histogramBuckets)
  for (const us of durationsUs) counts[bucketOf(us)] = (counts[bucketOf(us)] ?? 0) + 1
  return new Histogram(counts)
}

describe('Histogram', () => {
  it('has bounds that are a quarter apart at most, from 128 ns to 8.6 s', () => {
    const bounds = Array.from({ length: histogramBuckets }, (_, bucket) => histogramBoundUs(bucket))
    expect(bounds.slice(0, 6)).toEqual([0, 0.128, 0.16, 0.192, 0.224, 0.256])
    for (let bucket = 2; bucket < bounds.length; bucket += 1) {
      const ratio = (bounds[bucket] as number) / (bounds[bucket - 1] as number)
      expect(ratio).toBeGreaterThan(1.14)
      expect(ratio).toBeLessThanOrEqual(1.25 + 1e-9)
    }
    expect(bounds.at(-1)).toBeCloseTo(0.128 * 2 ** 26, 3)
  })

  it('gives quantiles that are too high by a quarter at most, and never too low', () => {
    const durations = Array.from({ length: 1000 }, (_, i) => 1 + i)
    const histogram = histogramOf(...durations)
    expect(histogram.total).toBe(1000)
    for (const fraction of [0, 0.01, 0.5, 0.9, 0.99, 1]) {
      const exact = durations[Math.max(Math.ceil(fraction * 1000), 1) - 1] as number
      expect(histogram.quantileUs(fraction)).toBeGreaterThan(exact)
      expect(histogram.quantileUs(fraction)).toBeLessThanOrEqual(1.25 * exact + 1e-9)
    }
    expect(new Histogram().quantileUs(0.5)).toBeNaN()
  })

  it('counts from a duration on, with all of its bucket', () => {
    const histogram = histogramOf(10, 100, 1000, 1000)
    expect([5, 100, 101, 1000, 5000].map((us) => histogram.countFrom(us))).toEqual([4, 3, 3, 2, 0])
  })

  it('tells what came since an earlier state', () => {
    const earlier = histogramOf(10, 100)
    const since = histogramOf(10, 100, 100, 3).since(earlier)
    expect(since.filled().map(({ count }) => count)).toEqual([1, 1])
    expect(since.total).toBe(2)
  })
})
