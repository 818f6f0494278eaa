import type { MemoryRange } from './remote-memory.js'

/** Bytes that a range takes in a buffer: each starts at a multiple of 8, so that words keep their alignment. */
export const paddedLength = (length: number): number => Math.ceil(length / 8) * 8

/** Where ranges are put one after another, each at a multiple of 8 bytes, so that words keep their alignment. */
export function layOut(ranges: readonly MemoryRange[]): { readonly positions: readonly number[]; readonly length: number } {
  let length = 0
  const positions = ranges.map((range) => {
    const position = length
    length += paddedLength(range.length)
    return position
  })
  return { positions, length }
}
