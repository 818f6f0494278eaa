import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { distributionOf, perftestRowOf, quantile, sorted } from './statistics.js'

/** 1 to `count`, in no order. */
const oneTo = (count: number): Float64Array => Float64Array.from({ length: count }, (_, index) => ((index * 7919) % count) + 1)

describe('a distribution', () => {
  it('is of all samples by nearest rank', () => {
    expect(distributionOf(sorted(oneTo(1000)), 2)).toEqual({ samples: 1000, min: 2, p50: 1000, p99: 1980, p999: 1998, max: 2000, mean: 1001 })
  })

  it('has the quantiles that counting gives', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 99 }), { minLength: 1 }), fc.double({ min: 0.01, max: 1, noNaN: true }), (values, fraction) => {
        const ascending = sorted(Float64Array.from(values))
        const found = quantile(ascending, fraction)
        const notAbove = (limit: number): number => values.filter((value) => value <= limit).length
        expect(notAbove(found)).toBeGreaterThanOrEqual(fraction * values.length)
        expect(notAbove(found - 1)).toBeLessThan(Math.ceil(fraction * values.length))
      }),
    )
  })
})

describe("perftest's row", () => {
  it('leaves out the two largest samples, whatever they are', () => {
    const samples = Float64Array.of(...oneTo(998), 50_000, 90_000)
    const row = perftestRowOf(sorted(samples))
    expect(row).toMatchObject({ iterations: 1000, min: 1, typical: 499.5, average: 499.5, p99: 990, p999: 50_000 })
    expect(row.max).toBe(50_000)
    expect(row.stdev).toBeCloseTo(Math.sqrt((998 ** 2 - 1) / 12), 6)
  })

  it('of one sample is that sample', () => {
    expect(perftestRowOf(Float64Array.of(3))).toMatchObject({ min: 3, max: 3, typical: 3, average: 3, stdev: 0, p99: 3, p999: 3 })
  })
})
