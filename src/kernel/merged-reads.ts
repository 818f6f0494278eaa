/** Structures of one kind lie side by side in a kernel's slabs: many that are wanted at once are read as few. */
import type { MemoryRange, ReadableMemory } from '../fabric/remote-memory.js'

/** Ranges nearer to each other than this are read as one, in bytes: a KiB more costs a read less than another one. */
export const mergeGap = 1024
/** What has been merged becomes no longer than this, in bytes: several reads on their way fill a wire better than one. */
const mostMerged = 64 << 10

interface Run {
  readonly offset: number
  length: number
}

/**
 * Reads ranges in one batch, in any order, overlapping or not.
 *
 * @param cost grows by what was read: operations, and bytes
 * @returns the bytes of each range; several may be views of one buffer
 * @throws what `readMany` of the memory throws
 */
export async function readMerged(memory: ReadableMemory, ranges: readonly MemoryRange[], cost: { operations: number; bytes: number }): Promise<Uint8Array[]> {
  const runs: Run[] = []
  const runOf = new Array<number>(ranges.length)
  for (const i of ranges.map((_, index) => index).sort((a, b) => (ranges[a] as MemoryRange).offset - (ranges[b] as MemoryRange).offset)) {
    const { offset, length } = ranges[i] as MemoryRange
    const last = runs.at(-1)
    const merged = last && Math.max(last.length, offset + length - last.offset)
    if (last && merged !== undefined && offset <= last.offset + last.length + mergeGap && (merged <= mostMerged || merged === last.length)) last.length = merged
    else runs.push({ offset, length })
    runOf[i] = runs.length - 1
  }
  cost.operations += runs.length
  for (const { length } of runs) cost.bytes += length
  const read = await memory.readMany(runs)
  return ranges.map(({ offset, length }, i) => {
    const index = runOf[i] as number
    const run = runs[index] as Run
    const bytes = read[index] as Uint8Array
    return run.length === length ? bytes : bytes.subarray(offset - run.offset, offset - run.offset + length)
  })
}
