import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Random } from '../mock/random.js'
import { crc32c } from '../../native/crc32c.js'
import { readInto, readLent, readSummed } from '../bulk-reads.js'
import { paddedLength } from '../padding.js'
import type { MemoryRange } from '../remote-memory.js'
import { contractMemoryBytes, expectRejection, expectThrow, type MemoryFixture, settle } from './memory-fixture.js'

const end = contractMemoryBytes

/** Ranges that do not lie in the memory, among them those that are right modulo 2^32, and those that overflow. */
const outside: readonly (readonly [what: string, offset: number, length: number])[] = [
  ['a negative offset', -1, 8],
  ['an offset that is no number', NaN, 8],
  ['an offset between two bytes', 0.5, 8],
  ['an infinite offset', Infinity, 8],
  ['an offset at the end', end, 1],
  ['a range that ends one byte beyond the end', end - 7, 8],
  ['a range longer than the memory', 0, end + 1],
  ['an offset beyond 32 bits', 2 ** 32, 8],
  ['an offset beyond 64 bits', 2 ** 64, 8],
  ['a sum that overflows', Number.MAX_SAFE_INTEGER, 8],
  ['a length that overflows', 8, Number.MAX_SAFE_INTEGER],
  ['a length beyond 32 bits', 0, 2 ** 32 + 8],
  ['a negative length', 8, -8],
  ['a length that is no number', 0, NaN],
  ['a length with a fraction', 0, 1.5],
  ['an infinite length', 0, Infinity],
]

const anyRange: fc.Arbitrary<MemoryRange> = fc
  .tuple(fc.nat(end - 1), fc.integer({ min: 1, max: 5_000 }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, end - offset) }))

const expectedBytes = ({ bytes }: MemoryFixture, { offset, length }: MemoryRange): Uint8Array => bytes.slice(offset, offset + length)

/** Comparing megabytes byte by byte in an assertion would take seconds. */
const isEqual = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0

function fillRandomly(fixture: MemoryFixture, seed: number): void {
  new Random(seed).fill(fixture.bytes)
}

export function describeReading(current: () => MemoryFixture): void {
  describe('reading', () => {
    it('says how long the memory is, and whose', () => {
      expect(current().memory.length).toBe(contractMemoryBytes)
      expect(current().memory.peer).not.toBe('')
    })

    it('gives the bytes of any range', async () => {
      const fixture = current()
      fillRandomly(fixture, 1)
      const property = fc.asyncProperty(anyRange, async (range) => {
        const read = await settle(fixture, fixture.memory.read(range.offset, range.length))
        expect(isEqual(read, expectedBytes(fixture, range))).toBe(true)
      })
      await fc.assert(property, { numRuns: 100 })
    })

    it('gives the bytes of many ranges in the order of the ranges', async () => {
      const fixture = current()
      fillRandomly(fixture, 2)
      const property = fc.asyncProperty(fc.array(anyRange, { minLength: 1, maxLength: 50 }), async (ranges) => {
        const read = await settle(fixture, fixture.memory.readMany(ranges))
        expect(read.length).toBe(ranges.length)
        ranges.forEach((range, index) => expect(isEqual(read[index] as Uint8Array, expectedBytes(fixture, range))).toBe(true))
      })
      await fc.assert(property, { numRuns: 50 })
    })

    it('puts the bytes of many ranges one after another into memory of the caller\'s, or lends them', async () => {
      const fixture = current()
      fillRandomly(fixture, 6)
      // Whole words, as bulk reads ask for them, and any.
      const words = anyRange.map(({ offset, length }) => ({ offset, length: Math.max(8, length - (length % 8)) })).filter(({ offset, length }) => offset + length <= end)
      const property = fc.asyncProperty(fc.oneof(fc.array(anyRange, { minLength: 1, maxLength: 20 }), fc.array(words, { minLength: 1, maxLength: 20 })), async (ranges) => {
        const expected = Buffer.concat(ranges.map((range) => expectedBytes(fixture, range)))
        const target = new Uint8Array(expected.length + 8)
        await settle(fixture, readInto(fixture.memory, ranges, target))
        expect(isEqual(target.subarray(0, expected.length), expected) && target.subarray(expected.length).every((byte) => byte === 0)).toBe(true)
        expect(isEqual(await settle(fixture, readLent(fixture.memory, ranges, (bytes) => Promise.resolve(Buffer.concat(bytes)))), expected)).toBe(true)
      })
      await fc.assert(property, { numRuns: 30 })
    })

    it('takes the CRCs of parts with their bytes', async () => {
      const fixture = current()
      fillRandomly(fixture, 7)
      const inWords = anyRange.map(({ offset, length }) => ({ offset, length: Math.min(length, end - offset - 8) })).filter(({ length }) => length >= 4)
      const property = fc.asyncProperty(fc.array(inWords, { minLength: 1, maxLength: 20 }), fc.integer(), async (ranges, seed) => {
        let bytes = 0
        const triples = Float64Array.from(ranges.flatMap(({ offset, length }) => [offset, length, (bytes += paddedLength(length)) - paddedLength(length)]))
        const [target, crcs] = [new Uint8Array(bytes), new Int32Array(ranges.length)]
        await settle(fixture, readSummed(fixture.memory, { triples, count: ranges.length, skip: 4, seed }, target, crcs))
        ranges.forEach((range, i) => {
          const position = triples[3 * i + 2] as number
          const expected = expectedBytes(fixture, range)
          expect(isEqual(target.subarray(position, position + range.length), expected)).toBe(true)
          expect((crcs[i] as number) >>> 0).toBe(crc32c(expected, 4, range.length - 4, seed))
        })
      })
      await fc.assert(property, { numRuns: 30 })
    })

    it('takes the CRCs of long parts, and of short ones that lie beside them, within them and apart', async () => {
      const fixture = current()
      fillRandomly(fixture, 8)
      const long = { offset: 8_192, length: 2 * 1024 * 1024 + 20 }
      const ranges = [{ offset: long.offset + long.length + 500, length: 300 }, long, { offset: 8_000, length: 100 }, { offset: 300_000, length: 64 }, { offset: 7_000, length: 4 }, { offset: end - 64, length: 64 }]
      let bytes = 0
      const triples = Float64Array.from(ranges.flatMap(({ offset, length }) => [offset, length, (bytes += paddedLength(length)) - paddedLength(length)]))
      const [target, crcs] = [new Uint8Array(bytes), new Int32Array(ranges.length)]
      await settle(fixture, readSummed(fixture.memory, { triples, count: ranges.length, skip: 4, seed: 1 }, target, crcs))
      ranges.forEach((range, i) => {
        const expected = expectedBytes(fixture, range)
        const position = triples[3 * i + 2] as number
        expect(isEqual(target.subarray(position, position + range.length), expected)).toBe(true)
        expect((crcs[i] as number) >>> 0).toBe(crc32c(expected, 4, range.length - 4, 1))
      })
    })

    it('gives the first and the last byte, and the whole memory', async () => {
      const fixture = current()
      fillRandomly(fixture, 3)
      const [first, last] = await settle(fixture, fixture.memory.readMany([{ offset: 0, length: 1 }, { offset: end - 1, length: 1 }]))
      expect([first?.[0], last?.[0]]).toEqual([fixture.bytes[0], fixture.bytes[end - 1]])
      const whole = await settle(fixture, fixture.memory.read(0, end))
      expect(isEqual(whole, fixture.bytes)).toBe(true)
    })

    it('gives what the owner wrote last', async () => {
      const fixture = current()
      for (const value of [1, 2, 3]) {
        fixture.bytes.fill(value, 8192, 8192 + 64)
        const read = await settle(fixture, fixture.memory.read(8192, 64))
        expect(read).toEqual(new Uint8Array(64).fill(value))
      }
    })

    it('gives bytes that later reads leave alone', async () => {
      const fixture = current()
      fixture.bytes.fill(1, 8192, 8256)
      const before = await settle(fixture, fixture.memory.read(8192, 64))
      fixture.bytes.fill(2, 8192, 8256)
      await settle(fixture, fixture.memory.read(8192, 64))
      expect(before).toEqual(new Uint8Array(64).fill(1))
    })

    it('reads 10,000 ranges at once', async () => {
      const fixture = current()
      fillRandomly(fixture, 4)
      const ranges = Array.from({ length: 10_000 }, (_, index) => ({ offset: ((index * 7_919) % 60_000) * 64, length: 64 }))
      const read = await settle(fixture, fixture.memory.readMany(ranges))
      expect(ranges.filter((range, index) => !isEqual(read[index] as Uint8Array, expectedBytes(fixture, range)))).toEqual([])
    })

    it('serves many reads that are under way at the same time', async () => {
      const fixture = current()
      fillRandomly(fixture, 5)
      const ranges = Array.from({ length: 500 }, (_, index) => ({ offset: index * 1_000, length: 1 + index }))
      const read = await settle(fixture, Promise.all(ranges.map(({ offset, length }) => fixture.memory.read(offset, length))))
      expect(ranges.filter((range, index) => !isEqual(read[index] as Uint8Array, expectedBytes(fixture, range)))).toEqual([])
    })
  })

  describe('a prepared read', () => {
    it('has its ranges and one view for each', () => {
      const ranges = [{ offset: 4096, length: 64 }, { offset: 1, length: 7 }, { offset: 4096, length: 128 }]
      const prepared = current().memory.prepareRead(ranges)
      expect(prepared.ranges).toEqual(ranges)
      expect(prepared.views.map(({ length }) => length)).toEqual([64, 7, 128])
      prepared.close()
    })

    it('reads new bytes into the same views at each run', async () => {
      const fixture = current()
      const ranges = [{ offset: 100_000, length: 64 }, { offset: 4_096, length: 13 }, { offset: 99_999, length: 3 }]
      const prepared = fixture.memory.prepareRead(ranges)
      const views = [...prepared.views]
      for (const seed of [1, 2, 3]) {
        fillRandomly(fixture, seed)
        await settle(fixture, prepared.run())
        expect(prepared.views.map((view) => [...view])).toEqual(ranges.map((range) => [...expectedBytes(fixture, range)]))
        expect(prepared.views.every((view, index) => view === views[index])).toBe(true)
      }
      prepared.close()
    })

    it('reads 2 MiB and more', async () => {
      const fixture = current()
      fillRandomly(fixture, 6)
      const ranges = [{ offset: 4_096, length: 2 * 1024 * 1024 }, { offset: 3 * 1024 * 1024, length: 1024 * 1024 }]
      const prepared = fixture.memory.prepareRead(ranges)
      await settle(fixture, prepared.run())
      ranges.forEach((range, index) => expect(isEqual(prepared.views[index] as Uint8Array, expectedBytes(fixture, range))).toBe(true))
      prepared.close()
    })

    it('reads 10,000 ranges', async () => {
      const fixture = current()
      fillRandomly(fixture, 7)
      const ranges = Array.from({ length: 10_000 }, (_, index) => ({ offset: index * 400 + 1, length: 1 + (index % 100) }))
      const prepared = fixture.memory.prepareRead(ranges)
      await settle(fixture, prepared.run())
      expect(ranges.filter((range, index) => !isEqual(prepared.views[index] as Uint8Array, expectedBytes(fixture, range)))).toEqual([])
      prepared.close()
    })

    it('runs beside others', async () => {
      const fixture = current()
      fillRandomly(fixture, 8)
      const prepared = Array.from({ length: 20 }, (_, index) => fixture.memory.prepareRead([{ offset: index * 4_096, length: 4_096 }]))
      await settle(fixture, Promise.all(prepared.map((each) => each.run())))
      prepared.forEach(({ views, ranges }) => expect(isEqual(views[0] as Uint8Array, expectedBytes(fixture, ranges[0] as MemoryRange))).toBe(true))
      for (const each of prepared) each.close()
    })

    it('fails with CLOSED once it has been closed, and can be closed twice', async () => {
      const fixture = current()
      const prepared = fixture.memory.prepareRead([{ offset: 0, length: 8 }])
      await settle(fixture, prepared.run())
      prepared.close()
      prepared.close()
      await expectRejection(fixture, () => prepared.run(), 'CLOSED', { peer: fixture.memory.peer })
    })
  })

  describe('bounds', () => {
    it.each(outside)('refuses %s with OUT_OF_RANGE', async (_what, offset, length) => {
      const fixture = current()
      const { memory } = fixture
      const about = { peer: memory.peer, offset, length }
      const good = { offset: 0, length: 8 }
      await expectRejection(fixture, () => memory.read(offset, length), 'OUT_OF_RANGE', about)
      await expectRejection(fixture, () => memory.readMany([good, { offset, length }]), 'OUT_OF_RANGE', about)
      expectThrow(() => memory.prepareRead([good, { offset, length }]), 'OUT_OF_RANGE', about)
    })

    it('refuses to read no bytes with INVALID_ARGUMENT', async () => {
      const fixture = current()
      const { memory } = fixture
      await expectRejection(fixture, () => memory.read(0, 0), 'INVALID_ARGUMENT', { peer: memory.peer })
      await expectRejection(fixture, () => memory.readMany([{ offset: 0, length: 8 }, { offset: 8, length: 0 }]), 'INVALID_ARGUMENT')
      expectThrow(() => memory.prepareRead([{ offset: 8, length: 0 }]), 'INVALID_ARGUMENT')
    })

    it('goes on after a refusal', async () => {
      const fixture = current()
      fillRandomly(fixture, 9)
      await expectRejection(fixture, () => fixture.memory.read(end, 8), 'OUT_OF_RANGE')
      const read = await settle(fixture, fixture.memory.read(end - 8, 8))
      expect(read).toEqual(expectedBytes(fixture, { offset: end - 8, length: 8 }))
    })
  })
}
