/**
 * Joins parts that stand near each other into few requests, cut into rounds that fit into one pooled buffer each. Pure.
 *
 * A queue pair has only so many reads outstanding (`maxRdAtomic`), so that its rate is bounded by their length over the round trip; and each
 * costs both devices as much as some hundred bytes more would. So many small ones do not fill a wire that the same bytes fill in few.
 */
import { workRowFields } from '../../native/verbs.js'
import { paddedLength } from '../padding.js'
import type { SummedParts } from '../remote-memory.js'
import { type ReadRound, type RoundLimits, roundsOf } from './read-rounds.js'
import type { WindowMap } from './window-map.js'

/** Bytes between two parts that are read with them: about as much as another request costs. A session's slot of up to 8 KiB has no more to spare. */
export const bridgedBytes = 1 << 10
/** A request grows no longer by joining: enough to fill a wire, and the device's other queue pairs do not wait long for it. */
export const joinedBytes = 64 << 10

export interface MergedRound {
  /** Positions in `order` of its first part, and behind its last one. */
  readonly first: number
  readonly end: number
  /** As `WorkBatch.prepare` takes them. */
  readonly rows: Float64Array
}

/** A part that is read by itself: it is longer than a buffer, or crosses windows. */
export interface OtherPart {
  readonly part: number
  readonly rounds: readonly ReadRound[]
}

export interface MergedReads {
  /** Which part each is. */
  readonly order: Uint32Array
  /** Where each of those stands in its round's buffer. */
  readonly positions: Uint32Array
  readonly rounds: readonly MergedRound[]
  readonly others: readonly OtherPart[]
}

/** Each part is read in whole words. All are checked: what comes of it may be read. @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT */
export function mergeReads(map: WindowMap, parts: SummedParts, limits: RoundLimits): MergedReads {
  const order = byOffset(parts)
  const positions = new Uint32Array(order.length)
  const others: OtherPart[] = []
  const rows = new JoinedRows(limits)
  let placed = 0
  for (const part of order) {
    const range = { offset: parts.triples[3 * part] as number, length: paddedLength(parts.triples[3 * part + 1] as number) }
    const window = map.windowOf(range)
    if (window < 0 || range.length > limits.length) {
      others.push({ part, rounds: roundsOf(map, [range], limits).rounds })
      continue
    }
    positions[placed] = rows.place(window, range.offset - map.startOf(window), range.length, placed)
    order[placed++] = part
  }
  return { order: order.subarray(0, placed), positions, rounds: rows.finish(placed), others }
}

/**
 * As they are where they are sorted, or stand further apart than a number can say: that costs requests, and nothing else. So they are, too,
 * where an offset is none, and is refused later.
 */
function byOffset({ triples, count }: SummedParts): Uint32Array {
  const order = new Uint32Array(count)
  let [areWhole, isSorted, least, greatest] = [true, true, Infinity, 0]
  for (let part = 0, before = 0; part < count; part++) {
    const offset = triples[3 * part] as number
    order[part] = part
    areWhole &&= Number.isSafeInteger(offset)
    isSorted &&= offset >= before
    before = offset
    least = Math.min(least, offset)
    greatest = Math.max(greatest, offset)
  }
  if (!areWhole || isSorted || !Number.isSafeInteger((greatest - least + 1) * count)) return order
  // Numbers by themselves are sorted several times as fast as by a function that compares what they stand for.
  const keys = new Float64Array(count)
  for (let part = 0; part < count; part++) keys[part] = ((triples[3 * part] as number) - least) * count + part
  keys.sort()
  for (let i = 0; i < count; i++) order[i] = (keys[i] as number) % count
  return order
}

/** The requests of one round after another. */
class JoinedRows {
  readonly #limits: RoundLimits
  readonly #rounds: MergedRound[] = []
  /** Of the round under way. */
  readonly #rows: Float64Array
  #first = 0
  #count = 0
  /** Of its last request: where it starts in its window and in the buffer, and its length. */
  #window = -1
  #offset = 0
  #position = 0
  #length = 0

  constructor(limits: RoundLimits) {
    this.#limits = limits
    this.#rows = new Float64Array(limits.requests * workRowFields)
  }

  /** @param placed its position in `order` @returns where in the round's buffer the part stands */
  place(window: number, offset: number, length: number, placed: number): number {
    const within = offset - this.#offset
    const end = Math.max(this.#length, within + length)
    const isNear = this.#count > 0 && window === this.#window && within >= 0 && within <= this.#length + bridgedBytes
    if (isNear && end <= Math.max(joinedBytes, this.#length) && this.#position + end <= this.#limits.length) this.#length = end
    else this.#begin(window, offset, length, placed)
    this.#rows[(this.#count - 1) * workRowFields + 3] = this.#length
    return this.#position + offset - this.#offset
  }

  /** @param placed so many were */
  finish(placed: number): readonly MergedRound[] {
    if (this.#count > 0) this.#rounds.push({ first: this.#first, end: placed, rows: this.#rows.slice(0, this.#count * workRowFields) })
    this.#first = placed
    this.#count = 0
    return this.#rounds
  }

  #begin(window: number, offset: number, length: number, placed: number): void {
    const behind = this.#count === 0 ? 0 : paddedLength(this.#position + this.#length)
    const isFull = this.#count === this.#limits.requests || behind + length > this.#limits.length
    if (isFull) this.finish(placed)
    this.#position = isFull ? 0 : behind
    this.#window = window
    this.#offset = offset
    this.#length = length
    this.#rows.set([window, offset, this.#position, length], this.#count++ * workRowFields)
  }
}
