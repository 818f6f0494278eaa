import { memoryAddon } from './load.js'

/** Below this, huge pages gain nothing. */
const hugeBytes = 4 << 20

/** Zeroed memory for much that is about to be read, which the kernel gives faster than that of `new Uint8Array`. */
export function allocateBulk(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  if (length >= hugeBytes) memoryAddon().adviseHugePages(bytes)
  return bytes
}
