import { truncateSync } from 'node:fs'
import { constants } from 'node:os'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { closing, createMemory, expectCode, temporaryFolder } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'
import type { FileReader, SharedMemory } from './memory.js'

const open = (path: string): FileReader => closing(new (memoryAddon().FileReader)(path))

function both(): { memory: SharedMemory; bytes: Uint8Array; reader: FileReader } {
  const memory = createMemory()
  return { memory, bytes: new Uint8Array(memory.buffer), reader: open(memory.path) }
}

describe('FileReader', () => {
  it('reads any ranges to any positions, in one call', () => {
    const { bytes, reader } = both()
    bytes.forEach((_, index) => (bytes[index] = index * 7))
    const range = fc.tuple(fc.nat(60_000), fc.nat(5_000), fc.nat(5_000))
    const property = fc.property(fc.array(range, { maxLength: 20 }), (ranges) => {
      const target = new Uint8Array(10_000)
      expect(reader.read(Float64Array.from(ranges.flat()), ranges.length, target)).toBe(0)
      const expected = new Uint8Array(10_000)
      for (const [offset, length, position] of ranges) expected.set(bytes.subarray(offset, offset + length), position)
      expect(Buffer.compare(target, expected)).toBe(0)
    })
    fc.assert(property, { numRuns: 200 })
  })

  it('tells ENODATA where bytes are past the end, and follows the file as it changes', () => {
    const { memory, reader } = both()
    const target = new Uint8Array(64)
    expect(reader.length()).toBe(65_536)
    expect(reader.read(Float64Array.of(65_500, 37, 0), 1, target)).toBe(constants.errno.ENODATA)
    expect(reader.read(Float64Array.of(65_500, 36, 0), 1, target)).toBe(0)
    memory.close()
    truncateSync(memory.path, 100)
    expect(reader.length()).toBe(100)
    expect(reader.read(Float64Array.of(0, 64, 0, 64, 64, 0), 2, target)).toBe(constants.errno.ENODATA)
  })

  it('reads much at once as it reads little, also where the file is cut off once it was mapped, and made longer again', () => {
    const length = 1 << 20
    const memory = createMemory({ length })
    const bytes = new Uint8Array(memory.buffer)
    for (let i = 0; i < length; i += 8) bytes[i] = i >> 8
    const reader = open(memory.path)
    const target = new Uint8Array(length)
    const whole = Float64Array.of(4096, length - 4096, 0, 0, 4096, length - 4096)
    expect(reader.read(whole, 2, target)).toBe(0)
    expect(Buffer.compare(target.subarray(0, length - 4096), bytes.subarray(4096))).toBe(0)
    expect(Buffer.compare(target.subarray(length - 4096), bytes.subarray(0, 4096))).toBe(0)
    memory.close()
    truncateSync(memory.path, 300_000)
    expect(reader.read(whole, 2, target)).toBe(constants.errno.ENODATA)
    expect(reader.read(Float64Array.of(0, 300_000, 0), 1, target)).toBe(0)
    expect(reader.read(Float64Array.of(0, 300_001, 0), 1, target)).toBe(constants.errno.ENODATA)
    truncateSync(memory.path, length + 4096)
    expect(reader.read(Float64Array.of(length - 100_000, 104_096, 0), 1, target)).toBe(0)
    expect(target.subarray(0, 104_096).every((byte) => byte === 0)).toBe(true)
  })

  it('swaps a word that others have mapped, and tells what it was', () => {
    const { memory, reader } = both()
    const words = new BigUint64Array(memory.buffer)
    words[513] = 2n ** 64n - 1n
    expect(reader.compareAndSwap(513 * 8, 2n ** 64n - 1n, 5n)).toBe(2n ** 64n - 1n)
    expect(reader.compareAndSwap(513 * 8, 4n, 6n)).toBe(5n)
    expect([words[512], words[513], words[514]]).toEqual([0n, 5n, 0n])
    expect(reader.compareAndSwap(65_536 - 8, 0n, 1n)).toBe(0n)
  })

  it('writes within the file, and never makes it longer', () => {
    const { bytes, reader } = both()
    reader.write(65_533, Uint8Array.of(1, 2, 3))
    expect([...bytes.subarray(65_532)]).toEqual([0, 1, 2, 3])
    expectCode(() => reader.write(65_534, Uint8Array.of(1, 2, 3)), 'OUT_OF_RANGE', { offset: 65_534, length: 3, path: reader.path })
    expect(reader.length()).toBe(65_536)
  })

  it('refuses to swap what is not aligned, or not there', () => {
    const { memory, reader } = both()
    expectCode(() => reader.compareAndSwap(4, 0n, 1n), 'UNALIGNED', { offset: 4, length: 8 })
    expectCode(() => reader.compareAndSwap(65_536, 0n, 1n), 'OUT_OF_RANGE', { offset: 65_536, length: 8 })
    expectCode(() => reader.compareAndSwap(2 ** 52, 0n, 1n), 'OUT_OF_RANGE')
    memory.close()
    truncateSync(memory.path, 4_100)
    expectCode(() => reader.compareAndSwap(4_096, 0n, 1n), 'OUT_OF_RANGE', { offset: 4_096 })
    expectCode(() => reader.compareAndSwap(8_192, 0n, 1n), 'OUT_OF_RANGE', { offset: 8_192 })
  })

  it('says what it cannot open', () => {
    expectCode(() => open('/dev/shm/backdoors-absent'), 'REGION_NOT_FOUND', { path: '/dev/shm/backdoors-absent' })
    const folder = temporaryFolder()
    expectCode(() => open(folder), 'INVALID_ARGUMENT', { path: folder })
    expectCode(() => open('/dev/zero'), 'INVALID_ARGUMENT', { path: '/dev/zero' })
  })

  it('reads what may not be written, and says READ_ONLY', () => {
    // Not even root can open this one to write it.
    const reader = open('/sys/kernel/uevent_seqnum')
    expect(reader.writable).toBe(false)
    expect(reader.read(Float64Array.of(0, 1, 0), 1, new Uint8Array(1))).toBe(0)
    expectCode(() => reader.write(0, new Uint8Array(1)), 'READ_ONLY', { path: '/sys/kernel/uevent_seqnum' })
    expectCode(() => reader.compareAndSwap(0, 0n, 0n), 'READ_ONLY', { path: '/sys/kernel/uevent_seqnum' })
  })

  it('says CLOSED once it is closed, also twice', () => {
    const { reader } = both()
    reader.close()
    reader.close()
    const about = { path: reader.path }
    expectCode(() => reader.length(), 'CLOSED', about)
    expectCode(() => reader.read(Float64Array.of(0, 1, 0), 1, new Uint8Array(1)), 'CLOSED', about)
    expectCode(() => reader.write(0, new Uint8Array(1)), 'CLOSED', about)
    expectCode(() => reader.compareAndSwap(0, 0n, 0n), 'CLOSED', about)
    expect(reader.writable).toBe(false)
  })

  const target = new Uint8Array(64)
  const refused: readonly (readonly [what: string, field: string, args: readonly unknown[]])[] = [
    ['ranges that are no doubles', 'triples', [[0, 8, 0], 1, target]],
    ['more ranges than there are', 'triples', [Float64Array.of(0, 8, 0, 0, 8), 2, target]],
    ['a negative offset', 'triples', [Float64Array.of(-8, 8, 0), 1, target]],
    ['a fraction', 'triples', [Float64Array.of(0, 0.5, 0), 1, target]],
    ['what is no number', 'triples', [Float64Array.of(0, 8, NaN), 1, target]],
    ['an infinite length', 'triples', [Float64Array.of(0, Infinity, 0), 1, target]],
    ['a count that is no number', 'count', [Float64Array.of(0, 8, 0), '1', target]],
    ['no target', 'target', [Float64Array.of(0, 8, 0), 1]],
    ['a target that is too short', 'target', [Float64Array.of(0, 8, 57), 1, target]],
    ['a length that overflows', 'target', [Float64Array.of(0, 2 ** 53 - 1, 2 ** 53 - 1), 1, target]],
  ]
  it.each(refused)('refuses to read %s', (_what, field, args) => {
    const { reader } = both()
    const read = reader.read.bind(reader) as (...any: readonly unknown[]) => number
    expectCode(() => read(...args), 'INVALID_ARGUMENT', { field })
  })

  it('refuses words that are not of 64 bits', () => {
    const { reader } = both()
    for (const word of [-1n, 2n ** 64n, 3, '3', undefined]) {
      expectCode(() => reader.compareAndSwap(0, word as bigint, 0n), 'INVALID_ARGUMENT', { field: 'expected' })
      expectCode(() => reader.compareAndSwap(0, 0n, word as bigint), 'INVALID_ARGUMENT', { field: 'desired' })
    }
  })
})
