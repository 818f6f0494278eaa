import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { MemoryWindow } from '../lending.js'
import { paddedLength } from '../padding.js'
import type { MemoryRange, SummedParts } from '../remote-memory.js'
import { bridgedBytes, joinedBytes, mergeReads, type MergedReads } from './merged-reads.js'
import { WindowMap } from './window-map.js'

const window = (offset: number, length: number): MemoryWindow => ({ offset, length, access: 'read', address: 0x7000_0000n + BigInt(offset), rkey: 1 })
const whole = new WindowMap('b', [window(0, 1 << 20)])
const adjoining = new WindowMap('b', [window(0, 4_096), window(4_096, 4_096), window(8_192, 57_344)])
const usual = { length: 1 << 20, requests: 512 }

function partsOf(ranges: readonly MemoryRange[]): SummedParts {
  let position = 0
  const triples = ranges.flatMap(({ offset, length }) => [offset, length, (position += paddedLength(length)) - paddedLength(length)])
  return { triples: Float64Array.from(triples), count: ranges.length, skip: 0, seed: 0 }
}

/** [window, offset in the window, offset in the buffer, length] each. */
const rowsOf = ({ rounds }: MergedReads): number[][][] => rounds.map(({ rows }) => Array.from({ length: rows.length / 4 }, (_, row) => [...rows.subarray(4 * row, 4 * row + 4)]))

describe('merged reads', () => {
  it('put each byte of every part where it is said to stand, once, within the limits', () => {
    const anyRanges = fc.array(fc.record({ offset: fc.nat(60_000), length: fc.integer({ min: 1, max: 2_500 }) }), { minLength: 1, maxLength: 40 })
    const property = fc.property(fc.constantFrom(whole, adjoining), anyRanges, fc.constantFrom({ length: 4_096, requests: 3 }, { length: 2_048, requests: 8 }, usual), (map, ranges, limits) => {
      const merged = mergeReads(map, partsOf(ranges), limits)
      const seen: number[] = merged.others.map(({ part }) => part)
      let next = 0
      rowsOf(merged).forEach((rows, round) => {
        const { first, end } = merged.rounds[round] as MergedReads['rounds'][number]
        expect(first).toBe(next)
        next = end
        expect(rows.length).toBeLessThanOrEqual(limits.requests)
        const buffer = new Float64Array(limits.length).fill(-1)
        for (const [index, offset, position, length] of rows as [number, number, number, number][]) {
          expect(position % 8).toBe(0)
          expect(position + length).toBeLessThanOrEqual(limits.length)
          expect(buffer.subarray(position, position + length).every((byte) => byte === -1)).toBe(true)
          for (let byte = 0; byte < length; byte++) buffer[position + byte] = map.startOf(index) + offset + byte
        }
        for (let i = first; i < end; i++) {
          const part = merged.order[i] as number
          seen.push(part)
          const { offset, length } = ranges[part] as MemoryRange
          const at = merged.positions[i] as number
          expect(buffer.subarray(at, at + paddedLength(length)).every((byte, i) => byte === offset + i)).toBe(true)
        }
      })
      expect(next).toBe(merged.order.length)
      expect(seen.sort((one, other) => one - other)).toEqual(ranges.map((_, part) => part))
    })
    fc.assert(property, { numRuns: 40 })
  })

  it('are one request where parts stand near each other, in whatever order they are asked for', () => {
    const second = 80 + bridgedBytes
    expect(rowsOf(mergeReads(whole, partsOf([{ offset: second, length: 64 }, { offset: 0, length: 80 }]), usual))).toEqual([[[0, 0, 0, second + 64]]])
    expect(rowsOf(mergeReads(whole, partsOf([{ offset: 0, length: 80 }, { offset: second + 8, length: 64 }]), usual))).toEqual([[[0, 0, 0, 80], [0, second + 8, 80, 64]]])
  })

  it('grow no request beyond its bound, but one part may be longer by itself', () => {
    const half = joinedBytes / 2
    expect(rowsOf(mergeReads(whole, partsOf([0, half, joinedBytes].map((offset) => ({ offset, length: half }))), usual))).toEqual([[[0, 0, 0, joinedBytes], [0, joinedBytes, joinedBytes, half]]])
    expect(rowsOf(mergeReads(whole, partsOf([{ offset: 0, length: 3 * half }, { offset: 3 * half, length: 8 }]), usual))).toEqual([[[0, 0, 0, 3 * half], [0, 3 * half, 3 * half, 8]]])
  })

  it('take a part that lies within another along', () => {
    expect(rowsOf(mergeReads(whole, partsOf([{ offset: 0, length: 800 }, { offset: 96, length: 64 }, { offset: 808, length: 8 }]), usual))).toEqual([[[0, 0, 0, 816]]])
  })

  it('come out of parts that stand too far apart to be sorted, too', () => {
    const far = new WindowMap('b', [window(0, 2 ** 52)])
    const ranges = [2 ** 52 - 64, 0, 64].map((offset) => ({ offset, length: 64 }))
    expect(rowsOf(mergeReads(far, partsOf(ranges), usual))).toEqual([[[0, 2 ** 52 - 64, 0, 64], [0, 0, 64, 128]]])
  })

  it('leave out what crosses windows or is longer than a buffer', () => {
    const merged = mergeReads(adjoining, partsOf([{ offset: 4_090, length: 8 }, { offset: 8_192, length: 2_000 }, { offset: 64, length: 8 }]), { length: 1_024, requests: 8 })
    expect(merged.others.map(({ part, rounds }) => [part, rounds.map(({ length }) => length)])).toEqual([[0, [8]], [1, [1_024, 976]]])
    expect([...merged.order]).toEqual([2])
    expect(rowsOf(merged)).toEqual([[[0, 64, 0, 8]]])
  })

  it('refuse parts of which one lies over a hole, whatever stands before it', () => {
    const holed = new WindowMap('b', [window(0, 4_096), window(4_096, 4_096), window(12_288, 4_096)])
    const crossing = { offset: 4_090, length: 8 }
    expect(mergeReads(holed, partsOf([crossing]), usual).others).toHaveLength(1)
    expect(() => mergeReads(holed, partsOf([crossing, { offset: 8_190, length: 8 }]), usual)).toThrow(expect.objectContaining({ code: 'OUT_OF_RANGE' }) as Error)
  })

  it.each([[8, 4.5, 0], [8, NaN, 0], [4.5, 4.25, 4]])('refuse offsets of which one is no whole number: %d, %d, %d', (...offsets) => {
    expect(() => mergeReads(whole, partsOf(offsets.map((offset) => ({ offset, length: 8 }))), usual)).toThrow(expect.objectContaining({ code: 'OUT_OF_RANGE' }) as Error)
  })

  it('refuse what is not lent', () => {
    expect(() => mergeReads(adjoining, partsOf([{ offset: 0, length: 8 }, { offset: 65_532, length: 4 }]), usual)).toThrow(expect.objectContaining({ code: 'OUT_OF_RANGE' }) as Error)
    expect(() => mergeReads(adjoining, partsOf([{ offset: 0, length: 0 }]), usual)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
  })
})
