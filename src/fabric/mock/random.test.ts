import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { flipBits } from './flip-bits.js'
import { Random, splitmix64 } from './random.js'

const draw = (random: Random, count = 8): number[] => Array.from({ length: count }, () => random.uint32())

describe('Random', () => {
  it('gives the published outputs of xoshiro128** 1.1', () => {
    // The test vector of Rust's rand_xoshiro, made with the authors' C code.
    const published = [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804]
    expect(draw(Random.fromState([1, 2, 3, 4]), published.length)).toEqual(published)
  })

  it('fills its state by splitmix64, with its published outputs', () => {
    const next = splitmix64(1234567n)
    expect([next(), next(), next()]).toEqual([6457827717110365317n, 3203168211198807973n, 9817491932198370423n])
  })

  it('gives the same stream for the same seed, and another for another', () => {
    expect(draw(new Random(42))).toEqual(draw(new Random(42)))
    expect(draw(new Random(42))).not.toEqual(draw(new Random(43)))
    expect(draw(new Random(Number.MAX_SAFE_INTEGER))).not.toEqual(draw(new Random(0)))
  })

  it('forks streams that depend on the label, and not on what was drawn before', () => {
    const random = new Random(42)
    const before = draw(random.fork('faults'))
    draw(random)
    expect(draw(random.fork('faults'))).toEqual(before)
    expect(draw(random.fork('delays'))).not.toEqual(before)
    expect(draw(new Random(43).fork('faults'))).not.toEqual(before)
  })

  it('draws whole numbers from the first to the last, and nothing else', () => {
    const property = fc.property(fc.maxSafeNat(), fc.integer({ min: -1000, max: 1000 }), fc.nat(5), (seed, min, span) => {
      const random = new Random(seed)
      const drawn = new Set(Array.from({ length: 300 }, () => random.integer(min, min + span)))
      expect([...drawn].sort((left, right) => left - right)).toEqual(Array.from({ length: span + 1 }, (_, index) => min + index))
    })
    fc.assert(property, { numRuns: 30 })
  })

  it('draws nothing for what is impossible or certain', () => {
    const random = new Random(1)
    expect([random.chance(0), random.chance(1)]).toEqual([false, true])
    expect(random.uint32()).toBe(new Random(1).uint32())
  })

  it('meets a probability', () => {
    const random = new Random(1)
    const met = Array.from({ length: 10_000 }, () => random.chance(0.25)).filter(Boolean).length
    expect(met).toBeGreaterThan(2_300)
    expect(met).toBeLessThan(2_700)
  })

  it.each([-1, 1.5, NaN, 2 ** 53])('refuses the seed %d with INVALID_ARGUMENT', (seed) => {
    expect(() => new Random(seed)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', details: { field: 'seed' } }))
  })
})

describe('flipBits', () => {
  it('flips as many bits as it is told, within the ranges only', () => {
    const property = fc.property(fc.maxSafeNat(), fc.nat(48), (seed, count) => {
      const bytes = new Uint8Array(64)
      flipBits(bytes, [{ offset: 8, length: 2 }, { offset: 40, length: 4 }], count, new Random(seed))
      const ones = (part: Uint8Array): number => part.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
      expect(ones(bytes)).toBe(count)
      expect(ones(bytes.subarray(8, 10)) + ones(bytes.subarray(40, 44))).toBe(count)
    })
    fc.assert(property)
  })
})
