import { indexEntry as at, indexFlags, record, slotUnitBytes } from './layout.js'
import { shortCrc32c } from './short-crc32c.js'
import { viewOf } from './text.js'

/** A slot of the heap: where a version may stand. In bytes from the start of the heap. */
export interface Slot {
  readonly offset: number
  readonly bytes: number
}

/** One of the two slots that an index entry names. */
export interface NamedSlot extends Slot {
  readonly isB: boolean
}

export interface SessionIndexEntry {
  /** The current version's slot first, then the other; a slot that cannot be is left out. */
  readonly slots: readonly NamedSlot[]
  /** Length of the current record; 0 where the entry is not to be trusted. */
  readonly recordBytes: number
  /** Low 32 bits of the current sequence. */
  readonly sequence: number
  /**
   * `live` and `deleted` are certain. `doubtful`: the entry was caught in a change, or is damaged; whatever
   * stands in its slots proves itself or is nothing.
   */
  readonly state: 'free' | 'live' | 'deleted' | 'doubtful'
}

const free: SessionIndexEntry = { slots: [], recordBytes: 0, sequence: 0, state: 'free' }
const deleted: SessionIndexEntry = { slots: [], recordBytes: 0, sequence: 0, state: 'deleted' }

function slotAt(view: DataView, entry: number, position: number, heapBytes: number): NamedSlot | undefined {
  const offset = view.getUint32(entry + position, true) * slotUnitBytes
  const bytes = view.getUint32(entry + position + 4, true) * slotUnitBytes
  return bytes > 0 && offset + bytes <= heapBytes ? { offset, bytes, isB: position === at.slotB } : undefined
}

function slotsOf(current: NamedSlot | undefined, other: NamedSlot | undefined): NamedSlot[] {
  if (current === undefined) return other === undefined ? [] : [other]
  return other === undefined ? [current] : [current, other]
}

/**
 * Decodes the 32 bytes of entry `position` of an index. Offsets are checked against the heap.
 * @param view of the index: who decodes many entries makes one for all
 */
export function decodeIndexEntry(index: Uint8Array, position: number, seed: number, heapBytes: number, view = viewOf(index)): SessionIndexEntry {
  const start = position * at.bytes
  const flags = view.getUint32(start + at.flags, true)
  const crc = view.getUint32(start + at.crc, true)
  const slotA = slotAt(view, start, at.slotA, heapBytes)
  const slotB = slotAt(view, start, at.slotB, heapBytes)
  if (flags === 0 && crc === 0 && slotA === undefined && slotB === undefined) return free
  const [current, other] = flags & indexFlags.currentIsB ? [slotB, slotA] : [slotA, slotB]
  const slots = slotsOf(current, other)
  if ((crc | 0) !== shortCrc32c(index, start, at.crc, seed)) return { slots, recordBytes: 0, sequence: 0, state: 'doubtful' }
  if (flags & indexFlags.deleted) return deleted
  const recordBytes = view.getUint32(start + at.recordBytes, true)
  const possible = current !== undefined && recordBytes >= record.headerBytes && recordBytes <= current.bytes
  if (!possible) return { slots, recordBytes: 0, sequence: 0, state: 'doubtful' }
  return { slots, recordBytes, sequence: view.getUint32(start + at.sequence, true), state: 'live' }
}

/** What is certain of the live entries of an index, side by side: there are many, and each would be several objects. In bytes from the start of the heap. */
export class LiveEntries {
  count = 0
  readonly positions: Uint32Array
  /** Of the current version's slot. */
  readonly offsets: Float64Array
  readonly slotBytes: Float64Array
  readonly recordBytes: Float64Array
  readonly sequences: Uint32Array

  constructor(capacity: number) {
    this.positions = new Uint32Array(capacity)
    this.offsets = new Float64Array(capacity)
    this.slotBytes = new Float64Array(capacity)
    this.recordBytes = new Float64Array(capacity)
    this.sequences = new Uint32Array(capacity)
  }

  /** Takes the entry, as `decodeIndexEntry` decodes it, where that says `live`. @returns whether it did; false means: look closer */
  take(view: DataView, index: Uint8Array, position: number, seed: number, heapBytes: number): boolean {
    const start = position * at.bytes
    const flags = view.getUint32(start + at.flags, true)
    if (flags === 0 || flags & indexFlags.deleted) return false
    const slot = start + (flags & indexFlags.currentIsB ? at.slotB : at.slotA)
    const offset = view.getUint32(slot, true) * slotUnitBytes
    const bytes = view.getUint32(slot + 4, true) * slotUnitBytes
    const recordBytes = view.getUint32(start + at.recordBytes, true)
    const isPossible = bytes > 0 && offset + bytes <= heapBytes && recordBytes >= record.headerBytes && recordBytes <= bytes
    if (!isPossible || view.getInt32(start + at.crc, true) !== shortCrc32c(index, start, at.crc, seed)) return false
    const i = this.count++
    this.positions[i] = position
    this.offsets[i] = offset
    this.slotBytes[i] = bytes
    this.recordBytes[i] = recordBytes
    this.sequences[i] = view.getUint32(start + at.sequence, true)
    return true
  }
}
