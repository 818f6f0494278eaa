/** Reads of much memory, without a copy that is not needed where the memory knows how. */
import { BackdoorsError } from '../errors.js'
import { crc32cMany } from '../native/crc32c.js'
import { paddedLength } from './padding.js'
import type { MemoryRange, ReadableMemory, SummedParts } from './remote-memory.js'

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

/**
 * Reads parts, one after another, each at the next multiple of 8 bytes, into memory of the caller's, and takes their CRCs, signed, into `crcs`.
 * @throws BackdoorsError what `readInto` throws
 */
export async function readSummed(memory: ReadableMemory, parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
  if (memory.readSummed) return await memory.readSummed(parts, target, crcs)
  await readInto(memory, wholeWords(parts), target)
  sumUp(parts, target, crcs)
}

/** In whole words, parts lie in the memory that a fabric reads them into as they do in the target, and need no second copy. */
export const wholeWords = ({ triples, count }: SummedParts): MemoryRange[] =>
  Array.from({ length: count }, (_, i) => ({ offset: triples[3 * i] as number, length: paddedLength(triples[3 * i + 1] as number) }))

/** The CRCs of parts that stand in `target`: of all, or of those whose numbers are in `which`. */
export function sumUp({ triples, count, skip, seed }: SummedParts, target: Uint8Array, crcs: Int32Array, which?: ArrayLike<number>): void {
  const all = which?.length ?? count
  const partAt = (i: number): number => (which === undefined ? i : (which[i] as number))
  const spans = new Float64Array(2 * all)
  for (let i = 0; i < all; i++) {
    const part = 3 * partAt(i)
    spans[2 * i] = (triples[part + 2] as number) + skip
    spans[2 * i + 1] = (triples[part + 1] as number) - skip
  }
  const sums = which === undefined ? crcs : new Int32Array(all)
  crc32cMany(target, spans, all, seed, sums)
  if (which !== undefined) for (let i = 0; i < all; i++) crcs[partAt(i)] = sums[i] as number
}
