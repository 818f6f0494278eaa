import { describe, expect, it } from 'vitest'
import { BytesMemory } from '../region/testing/bytes-memory.js'
import { PhysicalMemory, type RamSpan } from './physical-memory.js'

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i)
/** RAM at 1000..1059 and, right behind it, at 1060..1069, which is lent before it; a hole; and at 2000..2019. */
const spans: readonly RamSpan[] = [
  { physical: 2000, length: 20, offset: 80 },
  { physical: 1000, length: 60, offset: 10 },
  { physical: 1060, length: 10, offset: 0 },
]

describe('physical memory', () => {
  it('is read by physical addresses, across spans too, in one batch', async () => {
    const lent = new BytesMemory(bytes)
    const memory = new PhysicalMemory(lent, spans)
    const read = await memory.readMany([{ physical: 1000, length: 2 }, { physical: 1058, length: 4 }, { physical: 2019, length: 1 }])
    expect(read.map((each) => [...each])).toEqual([[10, 11], [68, 69, 0, 1], [99]])
    expect(lent.calls).toBe(1)
  })

  it.each([[999, 1], [1069, 2], [1070, 1], [1999, 2], [2019, 2], [2020, 1], [0, 1], [1000, 0], [-1, 1], [1000.5, 1], [NaN, 1]])('has nothing at %d for %d bytes', async (physical, length) => {
    const memory = new PhysicalMemory(new BytesMemory(bytes), spans)
    expect(memory.has({ physical, length })).toBe(false)
    await expect(memory.readMany([{ physical: 1000, length: 1 }, { physical, length }])).rejects.toMatchObject({ code: 'OUT_OF_RANGE', details: { peer: 'bytes', length } })
  })

  it('tells where many pages are lent, in any order', () => {
    const memory = new PhysicalMemory(new BytesMemory(bytes), spans)
    expect([...memory.locatePages(Float64Array.of(1000, 1050, 1055, 2010, 1060, 2011, 999, 1070, NaN, 0), 10)]).toEqual([10, 60, NaN, 90, 0, NaN, NaN, NaN, NaN, NaN])
    expect(new PhysicalMemory(new BytesMemory(bytes), []).locatePages(Float64Array.of(0), 1)).toEqual(Float64Array.of(NaN))
  })

  it.each<[string, RamSpan[], string]>([
    ['spans that overlap', [{ physical: 0, length: 10, offset: 0 }, { physical: 9, length: 1, offset: 20 }], 'INVALID_ARGUMENT'],
    ['an empty span', [{ physical: 0, length: 0, offset: 0 }], 'INVALID_ARGUMENT'],
    ['a fraction', [{ physical: 0.5, length: 1, offset: 0 }], 'INVALID_ARGUMENT'],
    ['an address beyond 2^53', [{ physical: 2 ** 53 - 1, length: 2, offset: 0 }], 'INVALID_ARGUMENT'],
    ['a span that ends beyond what is lent', [{ physical: 0, length: 91, offset: 10 }], 'OUT_OF_RANGE'],
  ])('refuses %s', (_what, wrong, code) => {
    expect(() => new PhysicalMemory(new BytesMemory(bytes), wrong)).toThrow(expect.objectContaining({ code }))
  })
})
