/**
 * Commits that death cut short, put into a dead node's memory. A real one lasts a microsecond, so that a single
 * failure hardly ever meets it; the demo must not pass by luck.
 */
import type { Random } from '../../fabric/mock/random.js'
import { decodeDirectoryEntry } from '../../region/directory.js'
import { boxOffset, directoryEntry, directoryEntryOffset, indexEntry, indexFlags, record } from '../../region/layout.js'
import { ControlWords, openRegion, type Region } from '../../region/region.js'
import { boxSeed } from '../../region/seed.js'
import { decodeIndexEntry, type SessionIndexEntry, type Slot } from '../../region/session-index.js'
import { decodeRecord, type SessionVersion } from '../../region/session-record.js'
import { viewOf } from '../../region/text.js'
import { messagePackCodec } from '../../servers/codec.js'
import { applied, type SessionState } from './protocol.js'
import { shuffled } from './shuffled.js'

interface Committed {
  /** Of its index entry, in bytes from the region's start. */
  readonly entryOffset: number
  readonly heapOffset: number
  readonly current: Slot
  readonly idle: Slot
  /** Length of the record up to its payload, in bytes. */
  readonly prefixBytes: number
  readonly version: SessionVersion
}

interface Place {
  readonly box: number
  /** Of the session's index entry. */
  readonly position: number
}

/** Sessions looked at for each one planted: some have a commit really cut short, or too small an idle slot. */
const placesPerCommit = 8

export class HalfWriter {
  readonly #region: Region
  readonly #random: Random
  readonly #places: readonly Place[]
  readonly #count: number

  /**
   * Chooses sessions in the region at `path`, whose node still lives: after its failure there is little time.
   * @param count how many commits shall be half written
   */
  constructor(path: string, count: number, random: Random) {
    this.#region = openRegion(path)
    this.#random = random
    this.#count = count
    const boxes = Array.from({ length: this.#region.header.plan.boxCount }, (_, box) => box).filter((box) => isOpen(this.#region, box))
    this.#places = shuffled(random, boxes.flatMap((box) => livePlaces(this.#region, box))).slice(0, count * placesPerCommit)
  }

  /**
   * Writes half of a next version over each one's idle slot, and points half of the index entry at it. The node's
   * processes must have stopped. Closes the region.
   * @returns the sessions' ids; none where the node has been fenced already, for then it is too late
   */
  plant(): string[] {
    const ids: string[] = []
    const wasOpen = this.#isOpen()
    for (const place of wasOpen ? this.#places : []) {
      const committed = committedAt(this.#region, place)
      if (committed === undefined || ids.length === this.#count) continue
      plant(this.#region, committed, this.#random)
      ids.push(committed.version.id)
    }
    const isTooLate = !this.#isOpen()
    this.#region.memory.close()
    return isTooLate ? [] : ids
  }

  #isOpen(): boolean {
    return [...new Set(this.#places.map(({ box }) => box))].every((box) => isOpen(this.#region, box))
  }
}

/** Does a server own the box that has not been fenced? */
function isOpen(region: Region, box: number): boolean {
  const words = new ControlWords(region)
  const entryAt = directoryEntryOffset(region.header.plan, box)
  const entry = decodeDirectoryEntry(region.bytes.subarray(entryAt, entryAt + directoryEntry.bytes))
  return box !== 0 && entry?.state === 'open' && words.fence('node') === 0 && words.fence(box) < entry.generation
}

function entryOf({ bytes, header: { plan, incarnation } }: Region, { box, position }: Place): SessionIndexEntry {
  const start = boxOffset(plan, box) + plan.indexInBox
  return decodeIndexEntry(bytes.subarray(start, start + plan.sessionsPerBox * indexEntry.bytes), position, boxSeed(incarnation, box), plan.heapBytes)
}

function livePlaces(region: Region, box: number): Place[] {
  const places = Array.from({ length: region.header.plan.sessionsPerBox }, (_, position) => ({ box, position }))
  return places.filter((place) => entryOf(region, place).state === 'live')
}

/** The session, if it has two versions, and the idle one's slot is large enough for the current one. */
function committedAt(region: Region, place: Place): Committed | undefined {
  const { state, slots: [current, idle], recordBytes } = entryOf(region, place)
  if (state !== 'live' || current === undefined || idle === undefined || idle.bytes < recordBytes) return undefined
  const { bytes, header: { plan, incarnation } } = region
  const start = boxOffset(plan, place.box)
  const heapOffset = start + plan.heapInBox
  const from = heapOffset + current.offset
  const version = decodeRecord(bytes.slice(from, from + recordBytes), boxSeed(incarnation, place.box))
  if (version === undefined) return undefined
  const entryOffset = start + plan.indexInBox + place.position * indexEntry.bytes
  return { entryOffset, heapOffset, current, idle, prefixBytes: recordBytes - version.payload.length, version }
}

function plant({ bytes }: Region, { entryOffset, heapOffset, current, idle, prefixBytes, version }: Committed, random: Random): void {
  // Higher than any that the box can have come to.
  const sequence = version.sequence + 1_000_000
  const codec = messagePackCodec<SessionState>()
  const state = codec.decode(version.payload)
  const next = codec.encode(applied(state, random.uint32().toString(36).padEnd(state.text.length, 'x'), state.by))
  const payload = version.payload.slice()
  payload.set(next.subarray(0, payload.length >> 1))
  const from = heapOffset + current.offset
  const to = heapOffset + idle.offset
  // All but the CRC, which a commit writes last: the slot's own is of the version before.
  bytes.copyWithin(to + 4, from + 4, from + prefixBytes)
  bytes.set(payload, to + prefixBytes)
  viewOf(bytes).setBigUint64(to + record.sequence, BigInt(sequence), true)
  const entry = viewOf(bytes.subarray(entryOffset, entryOffset + indexEntry.bytes))
  entry.setUint32(indexEntry.flags, entry.getUint32(indexEntry.flags, true) ^ indexFlags.currentIsB, true)
  entry.setUint32(indexEntry.sequence, sequence >>> 0, true)
}
