import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { MemoryWindow } from '../lending.js'
import { fillOneRound, roundsOf } from './read-rounds.js'
import { WindowMap } from './window-map.js'

const window = (offset: number, length: number, access: MemoryWindow['access']): MemoryWindow => ({ offset, length, access, address: 0x7000_0000n + BigInt(offset), rkey: 1 })
const overlapping = new WindowMap('b', [window(0, 65_536, 'read'), window(4_096, 4_096, 'atomic')])
const adjoining = new WindowMap('b', [window(0, 4_096, 'read'), window(4_096, 4_096, 'atomic'), window(8_192, 57_344, 'read')])
const sparse = new WindowMap('b', [window(0, 4_096, 'read'), window(8_192, 4_096, 'write')])
const withCode = (code: string): Error => expect.objectContaining({ code }) as Error

describe('a window map', () => {
  it('is as long as its last window reaches', () => {
    expect([overlapping.length, adjoining.length, sparse.length]).toEqual([65_536, 65_536, 12_288])
  })

  it('covers every range by pieces that lie in their windows, in order and without a gap', () => {
    const property = fc.property(fc.constantFrom(overlapping, adjoining), fc.nat(65_535), fc.integer({ min: 1, max: 65_536 }), (map, offset, wanted) => {
      const length = Math.min(wanted, map.length - offset)
      let at = offset
      for (const piece of map.forRead({ offset, length })) {
        const { offset: start, length: most } = map.windows[piece.window] as MemoryWindow
        expect(start + piece.offset).toBe(at)
        expect(piece.offset + piece.length).toBeLessThanOrEqual(most)
        at += piece.length
      }
      expect(at).toBe(offset + length)
      const whole = map.windowOf({ offset, length })
      if (whole >= 0) expect(map.forRead({ offset, length }).length).toBe(1)
    })
    fc.assert(property)
  })

  it('refuses what is not lent', () => {
    expect(() => sparse.forRead({ offset: 4_090, length: 8 })).toThrow(withCode('OUT_OF_RANGE'))
    expect(sparse.windowOf({ offset: 4_096, length: 8 })).toBe(-1)
    expect(() => sparse.windowOf({ offset: 12_288, length: 1 })).toThrow(withCode('OUT_OF_RANGE'))
    expect(() => sparse.windowOf({ offset: 0, length: 0 })).toThrow(withCode('INVALID_ARGUMENT'))
  })

  it('finds the window that allows an access', () => {
    expect(overlapping.forAtomic(4_104)).toEqual({ window: 1, offset: 8, length: 8 })
    expect(sparse.forAtomic(8_192)).toEqual({ window: 1, offset: 0, length: 8 })
    expect(sparse.forWrite({ offset: 8_200, length: 3 })).toEqual({ window: 1, offset: 8, length: 3 })
    expect(() => overlapping.forAtomic(0)).toThrow(withCode('READ_ONLY'))
    expect(() => overlapping.forAtomic(4_100)).toThrow(withCode('UNALIGNED'))
    expect(() => overlapping.forAtomic(65_536)).toThrow(withCode('OUT_OF_RANGE'))
    expect(() => overlapping.forWrite({ offset: 4_096, length: 8 })).toThrow(withCode('READ_ONLY'))
  })
})

describe('rounds of reads', () => {
  const limits = { length: 1_024, requests: 8 }
  const anyRanges = fc.array(fc.record({ offset: fc.nat(60_000), length: fc.integer({ min: 1, max: 2_500 }) }), { minLength: 1, maxLength: 12 })

  it('put every byte where its range is in the result, and none beyond a buffer', () => {
    const property = fc.property(anyRanges, (ranges) => {
      const { rounds, length, starts } = roundsOf(adjoining, ranges, limits)
      const source = new Map<number, number>()
      for (const round of rounds) {
        expect(round.pieces.length).toBeLessThanOrEqual(limits.requests)
        expect(round.length).toBeLessThanOrEqual(limits.length)
        for (const { window: index, offset, position, length: size } of round.pieces) {
          expect(position + size).toBeLessThanOrEqual(round.length)
          for (let byte = 0; byte < size; byte += 1) source.set(round.resultOffset + position + byte, adjoining.startOf(index) + offset + byte)
        }
      }
      ranges.forEach((range, index) => {
        const start = starts[index] as number
        expect(start % 8).toBe(0)
        expect(start + range.length).toBeLessThanOrEqual(length)
        for (let byte = 0; byte < range.length; byte += 1) if (source.get(start + byte) !== range.offset + byte) throw new Error(`byte ${byte} of range ${index} is not read`)
      })
    })
    fc.assert(property, { numRuns: 30 })
  })

  it('are one where all fits, laid out in the same way', () => {
    const rows = new Float64Array(limits.requests * 4)
    const ranges = [{ offset: 4_100, length: 13 }, { offset: 0, length: 8 }]
    expect(fillOneRound(adjoining, ranges, limits, rows)).toBe(24)
    expect([...rows.subarray(0, 8)]).toEqual([1, 4, 0, 13, 0, 0, 16, 8])
  })

  it('are more where ranges are too many, too long, or cross windows', () => {
    const rows = new Float64Array(limits.requests * 4)
    const one = { offset: 0, length: 8 }
    expect(fillOneRound(adjoining, Array.from({ length: 9 }, () => one), limits, rows)).toBe(-1)
    expect(fillOneRound(adjoining, [{ offset: 0, length: 1_025 }], limits, rows)).toBe(-1)
    expect(fillOneRound(adjoining, [{ offset: 4_090, length: 8 }], limits, rows)).toBe(-1)
    expect(() => fillOneRound(adjoining, [one, { offset: 65_536, length: 1 }], limits, rows)).toThrow(withCode('OUT_OF_RANGE'))
  })
})
