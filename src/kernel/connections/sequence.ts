/**
 * Which bytes of which buffers make up a part of a TCP stream. Sequence numbers are below 2^32 and go round: they are compared by
 * their distances.
 */
import type { Extent, SocketBuffer } from './socket-buffers.js'

/** From one sequence number to another: below 0 where `to` comes first. */
export const distance = (from: number, to: number): number => (to - from) | 0

/** Some bytes of an extent, and where in the stream's part they belong. */
export interface PlannedPiece {
  readonly extent: Extent
  /** From the start of the extent. */
  readonly skip: number
  readonly length: number
  /** From the start of the part. */
  readonly at: number
}

/**
 * Lays buffers, in their order, out over a part of the stream. They may overlap, and begin before it: what was read, or
 * acknowledged, may still be there.
 *
 * @param first sequence number of the part's first byte
 * @param length of the part, in bytes
 * @returns the pieces; or why these buffers are not that part
 */
export function planStream(buffers: readonly SocketBuffer[], first: number, length: number): readonly PlannedPiece[] | string {
  const pieces: PlannedPiece[] = []
  let end = 0
  for (const buffer of buffers) {
    const [from, to] = [distance(first, buffer.seq), distance(first, buffer.endSeq)]
    if (to - from !== buffer.length) return `a buffer of ${buffer.length} bytes claims ${to - from} sequence numbers`
    if (to > length) return `a buffer ends ${to - length} bytes behind the end`
    if (to <= end) continue
    if (from > end) return `${from - end} bytes are missing`
    addPieces(pieces, buffer, end - from, end)
    end = to
  }
  return end === length ? pieces : `${length - end} bytes are missing at the end`
}

/** All of a buffer but its first `skip` bytes. */
function addPieces(pieces: PlannedPiece[], buffer: SocketBuffer, skip: number, at: number): void {
  let [left, to] = [skip, at]
  for (const extent of extentsOf(buffer)) {
    if (left < extent.length) {
      pieces.push({ extent, skip: left, length: extent.length - left, at: to })
      to += extent.length - left
    }
    left = Math.max(0, left - extent.length)
  }
}

/** In the order of their bytes: its own, and those of the buffers that hang on it. */
function extentsOf({ extents, list }: SocketBuffer): readonly Extent[] {
  return list.length === 0 ? extents : [...extents, ...list.flatMap((buffer) => buffer.extents)]
}
