/** Structures of one kind lie side by side in a kernel's slabs: many that are wanted at once are read as few. */
import type { MemoryRange, ReadableMemory } from '../fabric/remote-memory.js'
import type { Slice } from './slice.js'

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
 * @returns the bytes of each range; several may lie in one buffer
 * @throws what `readMany` of the memory throws
 */
export async function readMerged(memory: ReadableMemory, ranges: readonly MemoryRange[], cost: { operations: number; bytes: number }): Promise<Slice[]> {
  const runs: Run[] = []
  const runOf = new Uint32Array(ranges.length)
  let last: Run | undefined
  for (const i of inOrder(ranges)) {
    const { offset, length } = ranges[i] as MemoryRange
    const merged: number = last === undefined ? 0 : Math.max(last.length, offset + length - last.offset)
    if (last !== undefined && offset <= last.offset + last.length + mergeGap && (merged <= mostMerged || merged === last.length)) last.length = merged
    else runs.push((last = { offset, length }))
    runOf[i] = runs.length - 1
  }
  cost.operations += runs.length
  for (const { length } of runs) cost.bytes += length
  const views = (await memory.readMany(runs)).map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const slices = new Array<Slice>(ranges.length)
  for (let i = 0; i < ranges.length; i++) {
    const { offset, length } = ranges[i] as MemoryRange
    const run = runOf[i] as number
    slices[i] = { view: views[run] as DataView, at: offset - (runs[run] as Run).offset, length }
  }
  return slices
}

/** Numbers of the ranges, by their offsets. Thousands are sorted as plain numbers, without a call for each comparison, where offset and number fit into one. */
function inOrder(ranges: readonly MemoryRange[]): Float64Array {
  const count = ranges.length
  const keys = new Float64Array(count)
  let most = 0
  for (let i = 0; i < count; i++) {
    const { offset } = ranges[i] as MemoryRange
    most = Math.max(most, offset)
    keys[i] = offset * count + i
  }
  if (most * count + count > Number.MAX_SAFE_INTEGER) return keys.map((_, i) => i).sort((a, b) => (ranges[a] as MemoryRange).offset - (ranges[b] as MemoryRange).offset)
  keys.sort()
  for (let i = 0; i < count; i++) keys[i] = (keys[i] as number) % count
  return keys
}
