/** Large stretches of a kernel's memory, read in a few large pieces, of which some may be missing. */
import { BackdoorsError } from '../errors.js'
import { KernelObject, type Selection } from './kernel-object.js'
import { bytesOf, joined, type Slice } from './slice.js'
import type { VirtualMemory, VirtualRange } from './virtual-memory.js'
import type { Faults } from './walks.js'

/** Large enough to fill a wire, small enough that a page that is not mapped costs little of what is around it. */
const mostPieceBytes = 64 << 10

export interface PiecesRange extends VirtualRange {
  /** Of an array: bytes of an element. None is cut then. */
  readonly elementBytes?: number
}

const pieceBytesOf = ({ elementBytes = 1 }: PiecesRange): number => mostPieceBytes - (mostPieceBytes % elementBytes)

export class Pieces {
  readonly range: PiecesRange
  readonly #pieceBytes: number
  readonly #parts: readonly (Slice | undefined)[]

  constructor(range: PiecesRange, parts: readonly (Slice | undefined)[]) {
    this.range = range
    this.#pieceBytes = pieceBytesOf(range)
    this.#parts = parts
  }

  /** @param at from the start of the range @returns undefined where it lies outside, or could not be read */
  slice(at: number, length: number): Slice | undefined {
    if (!Number.isSafeInteger(at) || at < 0 || length < 0 || at + length > this.range.length) return undefined
    const first = Math.floor(at / this.#pieceBytes)
    const into = at - first * this.#pieceBytes
    const part = this.#parts[first]
    if (into + length <= this.#pieceBytes) return part && { view: part.view, at: part.at + into, length }
    const parts: Slice[] = []
    for (let from = at, left = length; left > 0;) {
      const piece = Math.floor(from / this.#pieceBytes)
      const end = Math.min(left, (piece + 1) * this.#pieceBytes - from)
      const here = this.slice(from, end)
      if (here === undefined) return undefined
      parts.push(here)
      from += end
      left -= end
    }
    return joined(parts)
  }

  /** As `slice`. */
  bytes(at: number, length: number): Uint8Array | undefined {
    const slice = this.slice(at, length)
    return slice && bytesOf(slice)
  }

  /** An element of an array of structures. @param stride bytes from one to the next */
  object(selection: Selection, index: number, stride: number): KernelObject | undefined {
    const start = index * stride
    const parts: Slice[] = []
    for (const { offset, length } of selection.pieces) {
      const part = this.slice(start + offset, length)
      if (part === undefined) return undefined
      parts.push(part)
    }
    return new KernelObject(selection, BigInt.asUintN(64, this.range.address + BigInt(start)), parts)
  }

  /** The pointers in an array of structures, in order; what could not be read is left out, and what is 0 or odd. @param first of the structure @param stride bytes from one to the next; a multiple of 8 */
  pointers(first: number, stride: number): bigint[] {
    const found: bigint[] = []
    for (const [i, part] of this.#parts.entries()) {
      if (part === undefined) continue
      const { view, at: begin } = part
      const start = i * this.#pieceBytes
      const from = first + Math.ceil(Math.max(start - first, 0) / stride) * stride - start
      for (let at = from; at + 8 <= part.length; at += stride) {
        const low = view.getUint32(begin + at, true)
        if (low % 2 === 0 && (low !== 0 || view.getUint32(begin + at + 4, true) !== 0)) found.push(view.getBigUint64(begin + at, true))
      }
    }
    return found
  }
}

/** Reads all ranges in one batch; what cannot be read is missing, and said in `faults`. @throws what reading throws but NOT_MAPPED */
export async function readPieces(memory: VirtualMemory, ranges: readonly PiecesRange[], faults: Faults): Promise<Pieces[]> {
  const wanted = ranges.map((range) => {
    const { address, length, root } = range
    const pieceBytes = pieceBytesOf(range)
    return Array.from({ length: Math.ceil(length / pieceBytes) }, (_, i) => ({ address: BigInt.asUintN(64, address + BigInt(i * pieceBytes)), length: Math.min(pieceBytes, length - i * pieceBytes), root }))
  })
  const read = await memory.tryReadSlices(wanted.flat())
  let next = 0
  return ranges.map((range, i) => {
    const parts = read.slice(next, (next += (wanted[i] as VirtualRange[]).length))
    for (const part of parts) if (part instanceof BackdoorsError) faults.push(part)
    return new Pieces(range, parts.map((part) => (part instanceof BackdoorsError ? undefined : part)))
  })
}
