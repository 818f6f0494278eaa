import { memoryAddon } from './load.js'

let native: ((bytes: Uint8Array, offset: number, length: number, seed: number) => number) | undefined

/** CRC32C of `length` bytes from `offset` on, continuing from `seed` (0 to begin). Unsigned, 32 bits. */
export function crc32c(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  native ??= memoryAddon().crc32c
  // Signed on its way: only such a number is never an object on the heap.
  return native(bytes, offset, length, seed | 0) >>> 0
}

/** CRC32C of `count` pieces of `bytes`, pairs of offset and length in `spans`, into `crcs`: by one call for all of them. Signed. */
export function crc32cMany(bytes: Uint8Array, spans: Float64Array, count: number, seed: number, crcs: Int32Array): void {
  memoryAddon().crc32cMany(bytes, spans, count, seed | 0, crcs)
}
