import { truncateSync } from 'node:fs'
import { constants } from 'node:os'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { closing, countThreads, createMemory, expectCode, until } from '../../addon/test/native-fixture.js'
import { crc32c } from './crc32c.js'
import { memoryAddon } from './load.js'
import type { FileReader, SharedMemory } from './memory.js'

const length = 1 << 20

function filled(): { memory: SharedMemory; bytes: Uint8Array; reader: FileReader } {
  const memory = createMemory({ length })
  const bytes = new Uint8Array(memory.buffer)
  for (let i = 0; i < length; i++) bytes[i] = (i * 131 + (i >> 8) * 7) & 0xff
  return { memory, bytes, reader: closing(new (memoryAddon().FileReader)(memory.path)) }
}

/** Of what stands in the target, and that is compared with what stands in the file. */
function check(bytes: Uint8Array, target: Uint8Array, triples: readonly number[], skip: number, seed: number, crcs: Int32Array): void {
  for (const [i, crc] of crcs.entries()) {
    const [offset, part, position] = triples.slice(3 * i, 3 * i + 3) as [number, number, number]
    expect(Buffer.compare(target.subarray(position, position + part), bytes.subarray(offset, offset + part)), `part ${i}`).toBe(0)
    const skipped = Math.min(skip, part)
    expect(crc >>> 0, `part ${i}`).toBe(crc32c(bytes, offset + skipped, part - skipped, seed))
  }
}

type ReadSummed = FileReader['readSummed']

/** At once, and in two steps, of which another thread may do the first. */
const ways: readonly (readonly [way: string, of: (reader: FileReader) => ReadSummed])[] = [
  ['at once', (reader) => (...args) => reader.readSummed(...args)],
  ['begun and ended', (reader) => (...args) => {
    reader.beginSummed(...args)
    return reader.endSummed()
  }],
]

/** Parts of 8 KiB, one after another, from the file's start. */
const inPieces = (count: number): Float64Array => Float64Array.from({ length: 3 * count }, (_, i) => (i % 3 === 1 ? 8192 : Math.floor(i / 3) * 8192))

describe.each(ways)('FileReader.readSummed, %s', (_way, of) => {
  it('copies parts of every length, from and to any place, with their CRCs', () => {
    const { bytes, reader } = filled()
    const part = fc.tuple(fc.nat(length - 9000), fc.oneof(fc.nat(9000), fc.integer({ min: 1000, max: 1200 })), fc.nat(70))
    const property = fc.property(fc.array(part, { maxLength: 30 }), fc.nat(12), fc.integer(), fc.boolean(), (parts, skip, seed, isMuch) => {
      // From so many bytes on, they are copied out of a mapping.
      const all = isMuch ? [...parts, [0, 70_000, 0] as const] : parts
      let end = 0
      const triples = all.flatMap(([offset, bytesOf, gap]) => [offset, bytesOf, (end += bytesOf + gap) - bytesOf])
      const target = new Uint8Array(end + 64)
      const crcs = new Int32Array(all.length)
      expect(of(reader)(Float64Array.from(triples), all.length, target, skip, seed, crcs)).toBe(0)
      check(bytes, target, triples, skip, seed, crcs)
      expect(target.subarray(end).every((byte) => byte === 0)).toBe(true)
    })
    fc.assert(property, { numRuns: 200 })
  })

  it('copies parts of each length about those where its ways part', () => {
    const { bytes, reader } = filled()
    for (const around of [0, 96, 256, 768, 1088, 1856, 4168]) {
      const lengths = Array.from({ length: 80 }, (_, i) => Math.max(0, around - 40 + i))
      let end = 5
      const triples = lengths.flatMap((part, i) => [i * 4099, part, (end += part + 1) - part])
      triples.push(0, 65_536, (end += 65_536) - 65_536)
      const [target, crcs] = [new Uint8Array(end), new Int32Array(lengths.length + 1)]
      expect(of(reader)(Float64Array.from(triples), crcs.length, target, 4, -5, crcs)).toBe(0)
      check(bytes, target, triples, 4, -5, crcs)
    }
  })

  it('gives the CRC of what it copied, whoever writes meanwhile', () => {
    const { bytes, reader } = filled()
    const triples = inPieces(100)
    const [target, crcs] = [new Uint8Array(819_200), new Int32Array(100)]
    for (let round = 0; round < 20; round++) {
      bytes.fill(round, 0, 409_600)
      expect(of(reader)(triples, 100, target, 4, round, crcs)).toBe(0)
      for (let i = 0; i < 100; i++) expect((crcs[i] as number) >>> 0).toBe(crc32c(target, i * 8192 + 4, 8188, round))
    }
  })

  it('tells ENODATA of a file that was cut off once it was mapped, whatever it had copied', () => {
    const { memory, reader } = filled()
    const triples = inPieces(128)
    const [target, crcs] = [new Uint8Array(length), new Int32Array(128)]
    expect(of(reader)(triples, 128, target, 4, 0, crcs)).toBe(0)
    memory.close()
    for (const left of [length - 1, 500_000, 8192, 0]) {
      truncateSync(memory.path, left)
      expect(of(reader)(triples, 128, target, 4, 0, crcs), `cut off to ${left}`).toBe(constants.errno.ENODATA)
    }
  })

  it('says CLOSED once it is closed', () => {
    const { reader } = filled()
    reader.close()
    expectCode(() => of(reader)(Float64Array.of(0, 8, 0), 1, new Uint8Array(8), 4, 0, new Int32Array(1)), 'CLOSED')
  })

  const good = [Float64Array.of(0, 8, 0), 1, new Uint8Array(8), 4, 0, new Int32Array(1)] as const
  it.each<[string, string, unknown[]]>([
    ['ranges that are no doubles', 'triples', [[0, 8, 0], ...good.slice(1)]],
    ['more ranges than there are', 'triples', [good[0], 2, ...good.slice(2)]],
    ['a target that is too short', 'target', [...good.slice(0, 2), new Uint8Array(7), ...good.slice(3)]],
    ['to skip less than nothing', 'skip', [...good.slice(0, 3), -1, ...good.slice(4)]],
    ['a seed of 33 bits', 'seed', [...good.slice(0, 4), 2 ** 32, good[5]]],
    ['results that are no signed words', 'crcs', [...good.slice(0, 5), new Uint32Array(1)]],
    ['more than it has results for', 'crcs', [...good.slice(0, 5), new Int32Array(0)]],
    ['no results', 'crcs', good.slice(0, 5)],
  ])('refuses %s with INVALID_ARGUMENT', (_what, field, args) => {
    const { reader } = filled()
    expectCode(() => (of(reader) as (...any: readonly unknown[]) => number)(...args), 'INVALID_ARGUMENT', { field })
  })
})

describe('FileReader.beginSummed', () => {
  it('lets a thread of its own copy, which other reads do not disturb', async () => {
    const { bytes, reader } = filled()
    const [target, crcs, triples] = [new Uint8Array(length), new Int32Array(128), inPieces(128)]
    for (let round = 0; round < 20; round++) {
      target.fill(0)
      reader.beginSummed(triples, 128, target, 4, round, crcs)
      // Nobody else does it.
      await until('the last byte, which is not 0, is copied', () => target.at(-1) === bytes.at(-1))
      const other = new Uint8Array(100)
      expect(reader.read(Float64Array.of(5000, 100, 0), 1, other)).toBe(0)
      expect(Buffer.compare(other, bytes.subarray(5000, 5100))).toBe(0)
      expect(reader.endSummed()).toBe(0)
      check(bytes, target, [...triples], 4, round, crcs)
    }
    expect(countThreads('bd-helper')).toBe(1)
  })

  it('tells ENODATA where it is that thread which finds the file cut off', async () => {
    const { memory, bytes, reader } = filled()
    const [target, crcs, triples] = [new Uint8Array(length), new Int32Array(128), inPieces(128)]
    // From here on all of it is mapped.
    expect(reader.readSummed(triples, 128, target, 4, 0, crcs)).toBe(0)
    const end = 60 * 8192
    const last = bytes[end - 1] as number
    memory.close()
    truncateSync(memory.path, end)
    for (let round = 0; round < 20; round++) {
      target.fill(last ^ 0xff)
      reader.beginSummed(triples, 128, target, 4, 0, crcs)
      // What it goes on with by itself is no longer there.
      await until('what is left is copied', () => target[end - 1] === last)
      expect(reader.endSummed()).toBe(constants.errno.ENODATA)
    }
  })

  it('is over when the reader is closed: what it wrote to is nobody\'s, and its thread has gone', () => {
    for (let round = 0; round < 20; round++) {
      const { reader } = filled()
      reader.beginSummed(inPieces(128), 128, new Uint8Array(length), 4, 0, new Int32Array(128))
      reader.close()
      expect(countThreads('bd-helper')).toBe(0)
      expectCode(() => reader.endSummed(), 'CLOSED')
    }
  })

  it('refuses a second read while one is under way, and to end none, with INVALID_ARGUMENT', () => {
    const { bytes, reader } = filled()
    const [target, crcs] = [new Uint8Array(length), new Int32Array(128)]
    expectCode(() => reader.endSummed(), 'INVALID_ARGUMENT', { field: 'this' })
    reader.beginSummed(inPieces(128), 128, target, 4, 7, crcs)
    expectCode(() => reader.beginSummed(inPieces(1), 1, new Uint8Array(8192), 4, 0, new Int32Array(1)), 'INVALID_ARGUMENT', { field: 'this' })
    expect(reader.endSummed()).toBe(0)
    check(bytes, target, [...inPieces(128)], 4, 7, crcs)
    expectCode(() => reader.endSummed(), 'INVALID_ARGUMENT', { field: 'this' })
  })
})
