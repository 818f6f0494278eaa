/** From offsets in a peer's memory to the windows it is lent by. Pure, so that it is tested without a device. */
import { BackdoorsError } from '../../errors.js'
import type { MemoryWindow } from '../lending.js'
import { checkAccess, checkAligned, checkRange } from '../checks.js'
import type { MemoryRange } from '../remote-memory.js'

/** A part of an access that one window holds whole. */
export interface WindowPiece {
  /** Index of the window. */
  readonly window: number
  /** Offset from the window's start, in bytes. */
  readonly offset: number
  readonly length: number
}

const wordLength = 8

export class WindowMap {
  /** In bytes: to the end of the last window. */
  readonly length: number
  readonly #windows: readonly MemoryWindow[]

  constructor(
    readonly peer: string,
    windows: readonly MemoryWindow[],
  ) {
    this.#windows = windows
    this.length = windows.reduce((end, window) => Math.max(end, window.offset + window.length), 0)
  }

  get windows(): readonly MemoryWindow[] {
    return this.#windows
  }

  /**
   * Index of a window that holds a range whole, or -1: it crosses windows, or is not lent at all. Allocates nothing.
   * @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT for no bytes
   */
  windowOf(range: MemoryRange): number {
    const { offset, length } = range
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0 && offset <= this.length - length
    if (!inside) checkRange(this, 'read', range)
    const windows = this.#windows
    for (let index = 0; index < windows.length; index += 1) {
      const window = windows[index] as MemoryWindow
      if (offset >= window.offset && offset - window.offset <= window.length - length) return index
    }
    return -1
  }

  /** Where a window starts in the memory, in bytes. */
  startOf(window: number): number {
    return this.#windows[window]?.offset ?? 0
  }

  /**
   * The pieces of a range, in its order: more than one only where it crosses from window to window.
   * @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT for no bytes
   */
  forRead(range: MemoryRange): readonly WindowPiece[] {
    checkRange(this, 'read', range)
    const pieces: WindowPiece[] = []
    let offset = range.offset
    for (let left = range.length; left > 0; ) {
      const piece = this.#longestPiece(offset, left)
      if (piece === undefined) throw this.#gap(range, offset)
      pieces.push(piece)
      offset += piece.length
      left -= piece.length
    }
    return pieces
  }

  /** @throws BackdoorsError OUT_OF_RANGE, UNALIGNED, READ_ONLY */
  forAtomic(offset: number): WindowPiece {
    const range = { offset, length: wordLength }
    checkRange(this, 'compare-and-swap', range)
    checkAligned(this, 'compare-and-swap', range)
    checkAccess(this, 'compare-and-swap', range, ['atomic', 'write'])
    return this.#pieceWith(range, ['atomic', 'write'])
  }

  /** @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT, READ_ONLY */
  forWrite(range: MemoryRange): WindowPiece {
    checkRange(this, 'write', range)
    checkAccess(this, 'write', range, ['write'])
    return this.#pieceWith(range, ['write'])
  }

  #longestPiece(offset: number, length: number): WindowPiece | undefined {
    let longest: WindowPiece | undefined
    this.#windows.forEach((window, index) => {
      const within = offset - window.offset
      const fits = Math.min(length, window.length - within)
      if (within < 0 || fits <= (longest?.length ?? 0)) return
      longest = { window: index, offset: within, length: fits }
    })
    return longest
  }

  #pieceWith(range: MemoryRange, allowed: readonly MemoryWindow['access'][]): WindowPiece {
    const end = range.offset + range.length
    const index = this.#windows.findIndex(
      (window) => allowed.includes(window.access) && range.offset >= window.offset && end <= window.offset + window.length,
    )
    return { window: index, offset: range.offset - (this.#windows[index]?.offset ?? 0), length: range.length }
  }

  #gap(range: MemoryRange, offset: number): BackdoorsError {
    const message = `read ${range.length} bytes at offset ${range.offset} of ${this.peer}: nothing is lent at offset ${offset}`
    return new BackdoorsError('OUT_OF_RANGE', message, { peer: this.peer, offset: range.offset, length: range.length })
  }
}
