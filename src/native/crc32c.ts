import { memoryAddon } from './load.js'

let native: ((bytes: Uint8Array, offset: number, length: number, seed: number) => number) | undefined

/** CRC32C of `length` bytes from `offset` on, continuing from `seed` (0 to begin). Unsigned, 32 bits. */
export function crc32c(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  native ??= memoryAddon().crc32c
  // Signed on its way: only such a number is never an object on the heap.
  return native(bytes, offset, length, seed | 0) >>> 0
}
