import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { MemoryRange, ReadableMemory } from '../fabric/remote-memory.js'
import { mergeGap, readMerged } from './merged-reads.js'
import { bytesOf } from './slice.js'

const length = 1 << 18
const content = Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff)

/** Refuses what lies outside, as every memory does, and notes what it was asked for. */
function recorded(): { memory: ReadableMemory; asked: MemoryRange[][] } {
  const asked: MemoryRange[][] = []
  const readMany = (ranges: readonly MemoryRange[]): Promise<Uint8Array[]> => {
    asked.push([...ranges])
    return Promise.resolve(ranges.map(({ offset, length: bytes }) => {
      if (offset < 0 || offset + bytes > length) throw new Error('outside')
      return content.slice(offset, offset + bytes)
    }))
  }
  return { memory: { peer: 'a', length, readMany, read: async (offset, bytes) => (await readMany([{ offset, length: bytes }]))[0] as Uint8Array }, asked }
}

const anyRange = fc.nat(length - 1).chain((offset) => fc.record({ offset: fc.constant(offset), length: fc.integer({ min: 1, max: Math.min(80_000, length - offset) }) }))
const nearRange = fc.record({ offset: fc.nat(8000), length: fc.integer({ min: 1, max: 200 }) })

describe('reads that are merged', () => {
  it('give each range its bytes, whatever their order, and however they overlap', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.oneof(anyRange, nearRange), { maxLength: 40 }), async (ranges) => {
      const { memory, asked } = recorded()
      const cost = { operations: 0, bytes: 0 }
      const read = await readMerged(memory, ranges, cost)
      expect(read.map((slice) => [...bytesOf(slice)])).toEqual(ranges.map(({ offset, length: bytes }) => [...content.subarray(offset, offset + bytes)]))
      expect(asked).toHaveLength(1)
      expect(cost).toEqual({ operations: asked[0]!.length, bytes: asked[0]!.reduce((sum, range) => sum + range.length, 0) })
      expect(cost.operations).toBeLessThanOrEqual(ranges.length)
    }))
  })

  it('are as few as their distances allow', async () => {
    const { memory, asked } = recorded()
    const at = (offset: number): MemoryRange => ({ offset, length: 100 })
    await readMerged(memory, [at(5000), at(0), at(100 + mergeGap), at(200 + 2 * mergeGap + 1), at(5000)], { operations: 0, bytes: 0 })
    expect(asked).toEqual([[{ offset: 0, length: 200 + mergeGap }, { offset: 200 + 2 * mergeGap + 1, length: 100 }, { offset: 5000, length: 100 }]])
  })

  it('grow to 64 KiB at most, but what is asked for as one is read as one', async () => {
    const { memory, asked } = recorded()
    const half = 32 << 10
    await readMerged(memory, [...[0, 1, 2].map((i) => ({ offset: i * half, length: half })), { offset: 100_000, length: 90_000 }, { offset: 120_000, length: 8 }], { operations: 0, bytes: 0 })
    expect(asked).toEqual([[{ offset: 0, length: 2 * half }, { offset: 2 * half, length: half }, { offset: 100_000, length: 90_000 }]])
  })

  it('are in order however far apart they are', async () => {
    const asked: number[] = []
    const readMany = (ranges: readonly MemoryRange[]): Promise<Uint8Array[]> => Promise.resolve(ranges.map(({ offset, length: bytes }) => (asked.push(offset), new Uint8Array(bytes).fill(offset % 251))))
    const memory = { peer: 'a', length: 2 ** 53 - 1, readMany, read: () => Promise.reject(new Error('not asked for')) }
    const offsets = [2 ** 52, 7, 2 ** 40, 2 ** 51]
    const read = await readMerged(memory, offsets.map((offset) => ({ offset, length: 2 })), { operations: 0, bytes: 0 })
    expect(asked).toEqual([7, 2 ** 40, 2 ** 51, 2 ** 52])
    expect(read.map((slice) => [...bytesOf(slice)])).toEqual(offsets.map((offset) => [offset % 251, offset % 251]))
  })

  it('of nothing are none', async () => {
    expect(await readMerged(recorded().memory, [], { operations: 0, bytes: 0 })).toEqual([])
  })
})
