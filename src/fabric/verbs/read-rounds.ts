/** Cuts many ranges into rounds, each of which fits into one pooled buffer. Pure. */
import { workRowFields } from '../../native/verbs.js'
import { paddedLength } from '../padding.js'
import type { MemoryRange } from '../remote-memory.js'
import type { WindowMap, WindowPiece } from './window-map.js'

export interface RoundLimits {
  /** Bytes of a buffer, a multiple of 8, and requests of its batch. */
  readonly length: number
  readonly requests: number
}

/**
 * The rows of ranges that fit into one buffer and cross no windows, which most do: nothing is allocated.
 * @param rows is filled; it has to have room for `limits.requests` rows
 * @returns bytes of the buffer that are used, or -1 where the ranges need more than one round (`roundsOf`)
 * @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT
 */
export function fillOneRound(map: WindowMap, ranges: readonly MemoryRange[], limits: RoundLimits, rows: Float64Array): number {
  if (ranges.length > limits.requests) return -1
  let end = 0
  for (let index = 0, at = 0; index < ranges.length; index += 1, at += workRowFields) {
    const range = ranges[index] as MemoryRange
    const window = map.windowOf(range)
    if (window < 0 || end + range.length > limits.length) return -1
    rows[at] = window
    rows[at + 1] = range.offset - map.startOf(window)
    rows[at + 2] = end
    rows[at + 3] = range.length
    end = paddedLength(end + range.length)
  }
  return end
}

export interface ReadRound {
  /** Each piece with its position in the round's buffer. */
  readonly pieces: readonly (WindowPiece & { readonly position: number })[]
  /** Where the buffer's bytes go in the result, and how many of them there are. */
  readonly resultOffset: number
  readonly length: number
}

export interface ReadRounds {
  readonly rounds: readonly ReadRound[]
  /** Length of the result, and where each range starts in it. */
  readonly length: number
  readonly starts: readonly number[]
}

/**
 * The result has the ranges one after another, each at a multiple of 8 bytes; a buffer is a stretch of it, so that it
 * takes one copy to empty a buffer.
 * @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT
 */
export function roundsOf(map: WindowMap, ranges: readonly MemoryRange[], limits: RoundLimits): ReadRounds {
  const rounds: ReadRound[] = []
  const starts: number[] = []
  let pieces: (WindowPiece & { position: number })[] = []
  let start = 0
  let end = 0
  const finish = (): void => {
    if (pieces.length > 0) rounds.push({ pieces, resultOffset: start, length: end - start })
    pieces = []
    start = end
  }
  for (const range of ranges) {
    end = paddedLength(end)
    if (pieces.length === 0) start = end
    starts.push(end)
    for (const piece of map.forRead(range)) {
      for (let done = 0; done < piece.length; ) {
        if (pieces.length === limits.requests || end - start >= limits.length) finish()
        const length = Math.min(piece.length - done, limits.length - (end - start))
        pieces.push({ window: piece.window, offset: piece.offset + done, length, position: end - start })
        done += length
        end += length
      }
    }
  }
  finish()
  return { rounds, length: end, starts }
}
