/** Bit rot. */
import type { MemoryRange } from '../remote-memory.js'
import type { Random } from './random.js'

/** Flips `count` different bits, at random places within the ranges, which must not overlap. */
export function flipBits(bytes: Uint8Array, ranges: readonly MemoryRange[], count: number, random: Random): void {
  const available = ranges.reduce((sum, { length }) => sum + 8 * length, 0)
  const flipped = new Set<number>()
  // A bit that was flipped twice would be whole again.
  while (flipped.size < Math.min(count, available)) {
    const bit = random.integer(0, available - 1)
    if (!flipped.has(bit)) flipBit(bytes, ranges, bit)
    flipped.add(bit)
  }
}

function flipBit(bytes: Uint8Array, ranges: readonly MemoryRange[], bit: number): void {
  let left = bit
  for (const { offset, length } of ranges) {
    if (left < 8 * length) {
      const at = offset + (left >> 3)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (left & 7))
      return
    }
    left -= 8 * length
  }
}
