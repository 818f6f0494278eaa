/** Reads of much memory, without a copy that is not needed where the memory knows how. */
import { BackdoorsError } from '../errors.js'
import type { MemoryRange, ReadableMemory } from './remote-memory.js'

const bytesOf = (ranges: readonly MemoryRange[]): number => ranges.reduce((sum, { length }) => sum + length, 0)

/**
 * Reads ranges, one after another, into memory of the caller's. What is there when it fails is undefined.
 * @throws BackdoorsError INVALID_ARGUMENT where the target is shorter than the ranges, and what `readMany` throws
 */
export async function readInto(memory: ReadableMemory, ranges: readonly MemoryRange[], target: Uint8Array): Promise<void> {
  const length = bytesOf(ranges)
  if (length > target.length) throw new BackdoorsError('INVALID_ARGUMENT', `${length} bytes do not fit into ${target.length}`, { field: 'target', length })
  if (memory.readInto) return await memory.readInto(ranges, target)
  let at = 0
  for (const bytes of await memory.readMany(ranges)) {
    target.set(bytes, at)
    at += bytes.length
  }
}

/**
 * Reads ranges in one batch and lends their bytes, which are the memory's own again as soon as `use` has settled.
 * @throws what `readMany` throws, and what `use` throws
 */
export async function readLent<T>(memory: ReadableMemory, ranges: readonly MemoryRange[], use: (bytes: readonly Uint8Array[]) => Promise<T>): Promise<T> {
  return memory.readLent ? await memory.readLent(ranges, use) : await use(await memory.readMany(ranges))
}
