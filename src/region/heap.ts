import { slotUnitBytes } from './layout.js'
import type { Slot } from './session-index.js'

/** Slot sizes: four steps for each doubling, so that a slot wastes at most a fifth of itself. In units. */
function sizeClass(units: number): number {
  if (units <= 4) return units
  const step = 2 ** (Math.floor(Math.log2(units - 1)) - 2)
  return Math.ceil(units / step) * step
}

/**
 * The writer's private account of its box's heap; nothing of it is in shared memory, so a restarted owner
 * builds it anew from the index. Slots are kept by size; the free ones are merged only when nothing fits.
 */
export class Heap {
  readonly #freeBySize = new Map<number, number[]>()
  readonly #totalUnits: number
  #unused: number

  /** @param used slots that hold versions already; they must not overlap */
  constructor(heapBytes: number, used: readonly Slot[] = []) {
    this.#totalUnits = Math.floor(heapBytes / slotUnitBytes)
    this.#unused = this.#totalUnits
    if (used.length > 0) this.#setFree(this.#gapsBetween(used))
  }

  /** A slot of at least `bytes`, or undefined where none is left. Size classes are whole units. */
  allocate(bytes: number): Slot | undefined {
    const least = Math.ceil(bytes / slotUnitBytes)
    // A large share of the heap is given without a margin, so that twice half of it fits; so is the last room.
    const units = least > this.#totalUnits / 8 ? least : sizeClass(least)
    return this.#take(units) ?? (this.#merge() ? this.#take(units) : undefined) ?? this.#take(least)
  }

  /** Gives `old` up for a slot of at least `bytes`; where there is none even so, `old` stays taken. */
  replace(old: Slot, bytes: number): Slot | undefined {
    this.free(old)
    const found = this.allocate(bytes)
    if (found === undefined) this.#retake(old)
    return found
  }

  free(slot: Slot): void {
    this.#push(slot.offset / slotUnitBytes, slot.bytes / slotUnitBytes)
  }

  #push(start: number, units: number): void {
    const list = this.#freeBySize.get(units)
    if (list) list.push(start)
    else this.#freeBySize.set(units, [start])
  }

  #take(units: number): Slot | undefined {
    const exact = this.#freeBySize.get(units)?.pop()
    if (exact !== undefined) return slot(exact, units)
    if (this.#unused >= units) {
      const start = this.#totalUnits - this.#unused
      this.#unused -= units
      return slot(start, units)
    }
    return this.#split(units)
  }

  /** Cuts a slot out of the smallest larger free one. */
  #split(units: number): Slot | undefined {
    let best = Infinity
    for (const [size, list] of this.#freeBySize) if (size > units && size < best && list.length > 0) best = size
    const start = best === Infinity ? undefined : this.#freeBySize.get(best)?.pop()
    if (start === undefined) return undefined
    this.#push(start + units, best - units)
    return slot(start, units)
  }

  #retake(old: Slot): void {
    const from = old.offset / slotUnitBytes
    const to = from + old.bytes / slotUnitBytes
    const left: [number, number][] = []
    for (const [start, units] of this.#freeExtents()) {
      const end = start + units
      if (start > from || end < to) {
        left.push([start, units])
        continue
      }
      if (start < from) left.push([start, from - start])
      if (end > to) left.push([to, end - to])
    }
    this.#setFree(left)
  }

  #freeExtents(): [number, number][] {
    const free: [number, number][] = []
    for (const [units, list] of this.#freeBySize) for (const start of list) free.push([start, units])
    if (this.#unused > 0) free.push([this.#totalUnits - this.#unused, this.#unused])
    return free
  }

  /** Joins neighbouring free slots. @returns whether any were joined */
  #merge(): boolean {
    const free = this.#freeExtents().sort((a, b) => a[0] - b[0])
    const joined: [number, number][] = []
    for (const [start, units] of free) {
      const last = joined.at(-1)
      if (last && last[0] + last[1] === start) last[1] += units
      else joined.push([start, units])
    }
    if (joined.length === free.length) return false
    this.#setFree(joined)
    return true
  }

  #setFree(extents: readonly [number, number][]): void {
    this.#freeBySize.clear()
    this.#unused = 0
    for (const [start, units] of extents) {
      if (start + units === this.#totalUnits) this.#unused = units
      else this.#push(start, units)
    }
  }

  #gapsBetween(used: readonly Slot[]): [number, number][] {
    const sorted = used.map(({ offset, bytes }) => [offset / slotUnitBytes, bytes / slotUnitBytes] as const).sort((a, b) => a[0] - b[0])
    const gaps: [number, number][] = []
    let end = 0
    for (const [start, units] of sorted) {
      if (start > end) gaps.push([end, start - end])
      end = Math.max(end, start + units)
    }
    if (end < this.#totalUnits) gaps.push([end, this.#totalUnits - end])
    return gaps
  }
}

const slot = (start: number, units: number): Slot => ({ offset: start * slotUnitBytes, bytes: units * slotUnitBytes })
