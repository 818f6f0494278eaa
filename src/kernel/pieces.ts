/** Large stretches of a kernel's memory, read in a few large pieces, of which some may be missing. */
import { BackdoorsError } from '../errors.js'
import { KernelObject, type Selection } from './kernel-object.js'
import type { VirtualMemory, VirtualRange } from './virtual-memory.js'
import type { Faults } from './walks.js'

/** Large enough to fill a wire, small enough that a page that is not mapped costs little of what is around it. */
const pieceBytes = 64 << 10

export class Pieces {
  readonly range: VirtualRange
  readonly #parts: readonly (Uint8Array | undefined)[]

  constructor(range: VirtualRange, parts: readonly (Uint8Array | undefined)[]) {
    this.range = range
    this.#parts = parts
  }

  /** @param at from the start of the range @returns undefined where it lies outside, or could not be read */
  bytes(at: number, length: number): Uint8Array | undefined {
    if (!Number.isSafeInteger(at) || at < 0 || length < 0 || at + length > this.range.length) return undefined
    const first = Math.floor(at / pieceBytes)
    const into = at - first * pieceBytes
    if (into + length <= pieceBytes) return this.#parts[first]?.subarray(into, into + length)
    const whole = new Uint8Array(length)
    for (let filled = 0; filled < length;) {
      const from = at + filled
      const piece = Math.floor(from / pieceBytes)
      const part = this.#parts[piece]?.subarray(from - piece * pieceBytes, from - piece * pieceBytes + length - filled)
      if (part === undefined) return undefined
      whole.set(part, filled)
      filled += part.length
    }
    return whole
  }

  /** The pointers in an array of structures, in order; what could not be read is left out. @param first of the structure @param stride bytes from one to the next; a multiple of 8 */
  *words(first: number, stride: number): Generator<bigint> {
    for (const [i, part] of this.#parts.entries()) {
      if (part === undefined) continue
      const view = new DataView(part.buffer, part.byteOffset, part.byteLength)
      const start = i * pieceBytes
      for (let at = first + Math.ceil(Math.max(start - first, 0) / stride) * stride - start; at + 8 <= part.byteLength; at += stride) yield view.getBigUint64(at, true)
    }
  }

  /** An element of an array of structures. @param stride bytes from one to the next */
  object(selection: Selection, index: number, stride: number): KernelObject | undefined {
    const start = index * stride
    const parts = selection.pieces.map(({ offset, length }) => this.bytes(start + offset, length))
    if (parts.includes(undefined)) return undefined
    return new KernelObject(selection, BigInt.asUintN(64, this.range.address + BigInt(start)), parts as Uint8Array[])
  }
}

/** Reads all ranges in one batch; what cannot be read is missing, and said in `faults`. @throws what reading throws but NOT_MAPPED */
export async function readPieces(memory: VirtualMemory, ranges: readonly VirtualRange[], faults: Faults): Promise<Pieces[]> {
  const wanted = ranges.map(({ address, length, root }) =>
    Array.from({ length: Math.ceil(length / pieceBytes) }, (_, i) => ({ address: BigInt.asUintN(64, address + BigInt(i * pieceBytes)), length: Math.min(pieceBytes, length - i * pieceBytes), root })))
  const read = await memory.tryReadMany(wanted.flat())
  let next = 0
  return ranges.map((range, i) => {
    const parts = read.slice(next, (next += (wanted[i] as VirtualRange[]).length))
    for (const part of parts) if (part instanceof BackdoorsError) faults.push(part)
    return new Pieces(range, parts.map((part) => (part instanceof BackdoorsError ? undefined : part)))
  })
}
