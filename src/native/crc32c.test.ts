import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expectCode } from '../../addon/test/native-fixture.js'
import { crc32c, crc32cMany } from './crc32c.js'
import { memoryAddon } from './load.js'

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)
const counting = (from: number, step: number): Uint8Array => Uint8Array.from({ length: 32 }, (_, index) => from + step * index)

/** RFC 3720, appendix B.4, and the check value of the CRC catalogues. */
const vectors: readonly (readonly [what: string, bytes: Uint8Array, crc: number])[] = [
  ['no bytes', new Uint8Array(0), 0],
  ['123456789', ascii('123456789'), 0xe3069283],
  ['32 bytes of zeroes', new Uint8Array(32), 0x8a9136aa],
  ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['32 incrementing bytes', counting(0, 1), 0x46dd794e],
  ['32 decrementing bytes', counting(31, -1), 0x113fdb5c],
]

/** Bit by bit, as the polynomial is defined. */
function crcByDefinition(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

/** Tables instead of the processor's instruction; as `crc32c`, unsigned. */
const bySoftware = (bytes: Uint8Array, offset: number, length: number, seed: number): number => memoryAddon().crc32cBySoftware(bytes, offset, length, seed | 0) >>> 0

describe('crc32c', () => {
  it.each(vectors)('gives the known value of %s', (_what, bytes, expected) => {
    expect(crc32c(bytes, 0, bytes.length, 0)).toBe(expected)
    expect(bySoftware(bytes, 0, bytes.length, 0)).toBe(expected)
  })

  it('says what it uses', () => {
    expect(['sse4.2', 'armv8', 'software']).toContain(memoryAddon().crc32cMeans)
  })

  it('gives what the definition gives, by hardware and by software, for every length and alignment', () => {
    const bytes = Uint8Array.from({ length: 700 }, (_, index) => (index * 131 + (index >> 3) * 7) & 0xff)
    const wrong: unknown[] = []
    for (let length = 0; length <= 600; length += 1) {
      const offset = length % 9
      const expected = crcByDefinition(bytes.subarray(offset, offset + length), length)
      const hardware = crc32c(bytes, offset, length, length)
      const software = bySoftware(bytes, offset, length, length)
      if (hardware !== expected || software !== expected) wrong.push({ length, offset, expected, hardware, software })
    }
    expect(wrong).toEqual([])
  })

  it('gives the same by hardware and by software for anything, and continues from any point', () => {
    const property = fc.property(
      fc.uint8Array({ maxLength: 20_000, size: 'max' }),
      fc.nat(),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      (bytes, cut, seed) => {
        const whole = crc32c(bytes, 0, bytes.length, seed)
        expect(bySoftware(bytes, 0, bytes.length, seed)).toBe(whole)
        const at = cut % (bytes.length + 1)
        expect(crc32c(bytes, at, bytes.length - at, crc32c(bytes, 0, at, seed))).toBe(whole)
      },
    )
    fc.assert(property, { numRuns: 500 })
  })

  it('reads a view of a larger buffer, and memory that is shared between threads', () => {
    const buffer = new SharedArrayBuffer(64)
    new Uint8Array(buffer).set(ascii('..123456789..'), 8)
    expect(crc32c(new Uint8Array(buffer, 8), 2, 9, 0)).toBe(0xe3069283)
  })

  const refused: readonly (readonly [what: string, field: string, args: readonly unknown[]])[] = [
    ['no bytes at all', 'bytes', [undefined, 0, 0, 0]],
    ['a plain array', 'bytes', [[1, 2], 0, 2, 0]],
    ['words instead of bytes', 'bytes', [new Uint16Array(8), 0, 4, 0]],
    ['a negative offset', 'offset', [new Uint8Array(8), -1, 4, 0]],
    ['an offset beyond the end', 'offset', [new Uint8Array(8), 9, 0, 0]],
    ['an offset with a fraction', 'offset', [new Uint8Array(8), 0.5, 4, 0]],
    ['an offset that is no number', 'offset', [new Uint8Array(8), '0', 4, 0]],
    ['a length beyond the end', 'length', [new Uint8Array(8), 4, 5, 0]],
    ['a length that is NaN', 'length', [new Uint8Array(8), 0, NaN, 0]],
    ['a length that is infinite', 'length', [new Uint8Array(8), 0, Infinity, 0]],
    ['a seed of 33 bits', 'seed', [new Uint8Array(8), 0, 8, 2 ** 32]],
    ['a seed below those of 32 bits', 'seed', [new Uint8Array(8), 0, 8, -(2 ** 31) - 1]],
    ['no seed', 'seed', [new Uint8Array(8), 0, 8]],
  ]
  it.each(refused)('refuses %s with INVALID_ARGUMENT', (_what, field, args) => {
    expectCode(() => (memoryAddon().crc32c as (...any: readonly unknown[]) => number)(...args), 'INVALID_ARGUMENT', { field })
  })

  it('refuses bytes whose buffer has been transferred away', () => {
    const bytes = new Uint8Array(64)
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
    expectCode(() => crc32c(bytes, 0, 8, 0), 'INVALID_ARGUMENT', { field: 'length' })
    expect(crc32c(bytes, 0, 0, 5)).toBe(5)
  })
})

describe('crc32cMany', () => {
  it('gives for each piece what crc32c gives', () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i * 31)
    const spans = [[0, 0], [0, 5000], [17, 4097], [4999, 1], [5000, 0], [3, 64]] as const
    const crcs = new Int32Array(spans.length)
    crc32cMany(bytes, Float64Array.from(spans.flat()), spans.length, 0xdead_beef, crcs)
    expect([...crcs].map((crc) => crc >>> 0)).toEqual(spans.map(([offset, length]) => crc32c(bytes, offset, length, 0xdead_beef)))
  })

  const good = [new Uint8Array(8), Float64Array.of(0, 8), 1, 0, new Int32Array(1)] as const
  it.each<[string, string, unknown[]]>([
    ['no bytes', 'bytes', [undefined, ...good.slice(1)]],
    ['spans that are no doubles', 'spans', [good[0], [0, 8], ...good.slice(2)]],
    ['more than it has spans for', 'spans', [good[0], good[1], 2, 0, new Int32Array(2)]],
    ['more than it has results for', 'count', [good[0], good[1], 2, 0, good[4]]],
    ['a span beyond the end', 'spans', [good[0], Float64Array.of(1, 8), ...good.slice(2)]],
    ['a span that is NaN', 'spans', [good[0], Float64Array.of(0, NaN), ...good.slice(2)]],
    ['results that are no signed words', 'crcs', [...good.slice(0, 4), new Uint32Array(1)]],
    ['a seed of 33 bits', 'seed', [...good.slice(0, 3), 2 ** 32, good[4]]],
  ])('refuses %s with INVALID_ARGUMENT', (_what, field, args) => {
    expectCode(() => (memoryAddon().crc32cMany as (...any: readonly unknown[]) => void)(...args), 'INVALID_ARGUMENT', { field })
  })
})
