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

function slotAt(view: DataView, position: number, heapBytes: number): NamedSlot | undefined {
  const offset = view.getUint32(position, true) * slotUnitBytes
  const bytes = view.getUint32(position + 4, true) * slotUnitBytes
  return bytes > 0 && offset + bytes <= heapBytes ? { offset, bytes, isB: position === at.slotB } : undefined
}

/** Decodes the 32 bytes of entry `position` of an index. Offsets are checked against the heap. */
export function decodeIndexEntry(index: Uint8Array, position: number, seed: number, heapBytes: number): SessionIndexEntry {
  const start = position * at.bytes
  const bytes = index.subarray(start, start + at.bytes)
  const view = viewOf(bytes)
  const flags = view.getUint32(at.flags, true)
  const crc = view.getUint32(at.crc, true)
  const slotA = slotAt(view, at.slotA, heapBytes)
  const slotB = slotAt(view, at.slotB, heapBytes)
  if (flags === 0 && crc === 0 && slotA === undefined && slotB === undefined) return free
  const slots = (flags & indexFlags.currentIsB ? [slotB, slotA] : [slotA, slotB]).filter((slot) => slot !== undefined)
  const current = flags & indexFlags.currentIsB ? slotB : slotA
  if ((crc | 0) !== shortCrc32c(bytes, 0, at.crc, seed)) return { slots, recordBytes: 0, sequence: 0, state: 'doubtful' }
  if (flags & indexFlags.deleted) return deleted
  const recordBytes = view.getUint32(at.recordBytes, true)
  const possible = current !== undefined && recordBytes >= record.headerBytes && recordBytes <= current.bytes
  if (!possible) return { slots, recordBytes: 0, sequence: 0, state: 'doubtful' }
  return { slots, recordBytes, sequence: view.getUint32(at.sequence, true), state: 'live' }
}
