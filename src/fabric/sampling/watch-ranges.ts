/** Which bytes a watch has to read: as few ranges as its cells allow. Pure. */
import type { SamplerCell } from '../../native/memory.js'
import type { MemoryRange, WatchedCell } from '../remote-memory.js'
import { paddedLength } from '../padding.js'

export interface WatchRanges {
  readonly ranges: readonly MemoryRange[]
  /** Where each range is put in the buffer, in bytes. */
  readonly positions: readonly number[]
  /** In bytes. */
  readonly bufferLength: number
  readonly cells: readonly SamplerCell[]
}

const wordLength = 4
/** One read of a gap this long costs a NIC less than a second read does. */
const gapLimit = 256
/** Short enough that no range has to be cut where a message may be 4096 bytes long at most. */
const rangeLimit = 4096

/** Words are 4-byte aligned, so that ranges of them are too. */
export function rangesOf(cells: readonly WatchedCell[]): WatchRanges {
  const words = cells.flatMap(({ counterOffset, pendingOffset }) => (pendingOffset === undefined ? [counterOffset] : [counterOffset, pendingOffset]))
  const ranges = merge(words.sort((left, right) => left - right))
  const positions: number[] = []
  let bufferLength = 0
  for (const { length } of ranges) {
    positions.push(bufferLength)
    bufferLength += paddedLength(length)
  }
  const positionOf = (offset: number): number => {
    const index = ranges.findIndex((range) => offset >= range.offset && offset < range.offset + range.length)
    return (positions[index] ?? 0) + offset - (ranges[index]?.offset ?? 0)
  }
  return {
    ranges,
    positions,
    bufferLength,
    cells: cells.map(({ counterOffset, pendingOffset, deadlineUs }) => ({
      counterPosition: positionOf(counterOffset),
      pendingPosition: pendingOffset === undefined ? -1 : positionOf(pendingOffset),
      deadlineUs,
    })),
  }
}

function merge(sorted: readonly number[]): MemoryRange[] {
  const ranges: { offset: number; length: number }[] = []
  for (const offset of sorted) {
    const last = ranges.at(-1)
    const length = last === undefined ? 0 : offset + wordLength - last.offset
    if (last === undefined || offset - (last.offset + last.length) > gapLimit || length > rangeLimit) ranges.push({ offset, length: wordLength })
    else last.length = Math.max(last.length, length)
  }
  return ranges
}
