/** A machine's physical memory, by physical addresses, over whatever memory its RAM is lent as. */
import { BackdoorsError } from '../errors.js'
import { readLent } from '../fabric/bulk-reads.js'
import type { MemoryRange, ReadableMemory } from '../fabric/remote-memory.js'
import { readMerged } from './merged-reads.js'
import { bytesOf, joined, type Slice } from './slice.js'

/** A piece of RAM without a hole. In bytes. */
export interface RamSpan {
  /** Physical address of its first byte. */
  readonly physical: number
  readonly length: number
  /** Where it stands in the lent memory. */
  readonly offset: number
}

export interface PhysicalRange {
  readonly physical: number
  readonly length: number
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

export class PhysicalMemory {
  readonly memory: ReadableMemory
  /** By physical address. */
  readonly spans: readonly RamSpan[]
  /** What has been read so far: operations on the lent memory, and their bytes. */
  readonly cost = { operations: 0, bytes: 0 }

  /**
   * @param spans the machine's address map; they must not overlap, and lie in the lent memory
   * @throws BackdoorsError INVALID_ARGUMENT with the field at fault, OUT_OF_RANGE for a span beyond the lent memory
   */
  constructor(memory: ReadableMemory, spans: readonly RamSpan[]) {
    this.memory = memory
    this.spans = [...spans].sort((a, b) => a.physical - b.physical)
    let end = 0
    for (const [i, { physical, length, offset }] of this.spans.entries()) {
      const about = { peer: memory.peer, field: `spans[${i}]`, offset, length }
      if (!isCount(physical) || !isCount(offset) || !isCount(length) || length === 0 || !isCount(physical + length)) {
        throw new BackdoorsError('INVALID_ARGUMENT', `spans[${i}] of ${memory.peer}'s RAM: addresses and lengths are whole numbers of bytes, and none is empty`, about)
      }
      if (physical < end) throw new BackdoorsError('INVALID_ARGUMENT', `spans[${i}] of ${memory.peer}'s RAM overlaps the one before it`, about)
      if (offset > memory.length || length > memory.length - offset) throw new BackdoorsError('OUT_OF_RANGE', `spans[${i}] of ${memory.peer}'s RAM ends beyond the ${memory.length} bytes that are lent`, about)
      end = physical + length
    }
  }

  /** Is there RAM at every byte of the range? */
  has(range: PhysicalRange): boolean {
    return this.locate(range) !== undefined
  }

  /**
   * Reads all ranges in one batch; neighbours are read as one, and what lies across spans is put together.
   * @throws BackdoorsError OUT_OF_RANGE where a range has no RAM, and what `RemoteMemory.readMany` throws
   */
  async readMany(ranges: readonly PhysicalRange[]): Promise<Uint8Array[]> {
    const pieces = ranges.map((range) => {
      const located = this.locate(range)
      if (located) return located
      throw new BackdoorsError('OUT_OF_RANGE', `${range.length} bytes at physical address 0x${range.physical.toString(16)}: ${this.memory.peer} has no RAM there`, { peer: this.memory.peer, offset: range.physical, length: range.length })
    })
    const read = await readMerged(this.memory, pieces.flat(), this.cost)
    let next = 0
    return pieces.map((parts) => {
      const found = read.slice(next, (next += parts.length))
      return bytesOf(found.length === 1 ? (found[0] as Slice) : joined(found))
    })
  }

  /**
   * Reads ranges that each lie in one span, and lends their bytes until `use` has settled; for much memory.
   * @throws as `readMany`, and what `use` throws
   */
  async readLent<T>(ranges: readonly PhysicalRange[], use: (bytes: readonly Uint8Array[]) => Promise<T>): Promise<T> {
    const pieces = ranges.map((range) => this.locate(range))
    if (pieces.some((parts) => parts?.length !== 1)) return await use(await this.readMany(ranges))
    this.cost.operations += ranges.length
    for (const { length } of ranges) this.cost.bytes += length
    return await readLent(this.memory, pieces.flat() as MemoryRange[], use)
  }

  /** Where a range begins in the lent memory, if it lies in one span: most do. Else NaN. */
  offsetOf(physical: number, length: number): number {
    const span = this.spans[this.#lastAtOrBelow(physical)]
    const into = span === undefined ? NaN : physical - span.physical
    return span !== undefined && into >= 0 && into + length <= span.length ? span.offset + into : NaN
  }

  /** Where a range lies in the lent memory: in several pieces where it crosses spans. @returns undefined where there is a hole */
  locate({ physical, length }: PhysicalRange): MemoryRange[] | undefined {
    if (!isCount(physical) || !isCount(length) || length === 0) return undefined
    const parts: MemoryRange[] = []
    let [from, left] = [physical, length]
    for (let i = this.#lastAtOrBelow(physical); i >= 0 && i < this.spans.length && left > 0; i++) {
      const span = this.spans[i] as RamSpan
      const into = from - span.physical
      if (into < 0 || into >= span.length) return undefined
      const part = Math.min(left, span.length - into)
      parts.push({ offset: span.offset + into, length: part })
      from += part
      left -= part
    }
    return left === 0 ? parts : undefined
  }

  /** Where pages lie in the lent memory, each by its physical address; NaN for one that is not whole in one span. */
  locatePages(pages: Float64Array, pageBytes: number): Float64Array {
    let span: RamSpan | undefined
    return pages.map((physical) => {
      const isIn = ({ physical: start, length }: RamSpan): boolean => start <= physical && physical + pageBytes <= start + length
      // Neighbours are mostly in the same span.
      if (span === undefined || !isIn(span)) span = this.spans[this.#lastAtOrBelow(physical)]
      return span && isIn(span) ? span.offset + physical - span.physical : NaN
    })
  }

  #lastAtOrBelow(physical: number): number {
    let [low, high] = [0, this.spans.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.spans[middle] as RamSpan).physical <= physical) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}
