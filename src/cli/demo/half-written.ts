/**
 * Commits that death cut short, put into a dead node's memory. A real one lasts a microsecond, so that a single
 * failure hardly ever meets it; the demo must not pass by luck.
 */
import type { Random } from '../../fabric/mock/random.js'
import { decodeDirectoryEntry } from '../../region/directory.js'
import { boxOffset, directoryEntry, directoryEntryOffset, indexEntry, indexFlags, record, type RegionPlan } from '../../region/layout.js'
import { ControlWords, openRegion, type Region } from '../../region/region.js'
import { boxSeed } from '../../region/seed.js'
import { decodeIndexEntry, type Slot } from '../../region/session-index.js'
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

/**
 * For so many sessions in the region at `path`, whose processes must have stopped: writes half of a next version
 * over the idle slot, and points half of the index entry at it.
 * @returns the sessions' ids; none where the node has been fenced already, for then it is too late
 */
export function plantHalfWritten(path: string, count: number, random: Random): string[] {
  const region = openRegion(path)
  try {
    const boxes = Array.from({ length: region.header.plan.boxCount }, (_, box) => box).filter((box) => isOpen(region, box))
    const chosen = shuffled(random, boxes.flatMap((box) => committedIn(region, box))).slice(0, count)
    let sequence = Math.max(0, ...chosen.map(({ version }) => version.sequence))
    for (const committed of chosen) plant(region, committed, ++sequence, random)
    return boxes.every((box) => isOpen(region, box)) ? chosen.map(({ version }) => version.id) : []
  } finally {
    region.memory.close()
  }
}

/** Does a server own the box that has not been fenced? */
function isOpen(region: Region, box: number): boolean {
  const words = new ControlWords(region)
  const entryAt = directoryEntryOffset(region.header.plan, box)
  const entry = decodeDirectoryEntry(region.bytes.subarray(entryAt, entryAt + directoryEntry.bytes))
  return box !== 0 && entry?.state === 'open' && words.fence('node') === 0 && words.fence(box) < entry.generation
}

/** Sessions with two versions, the idle one's slot being large enough for the current one. */
function committedIn({ bytes, header: { plan, incarnation } }: Region, box: number): Committed[] {
  const start = boxOffset(plan, box)
  const seed = boxSeed(incarnation, box)
  const index = bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  const heapOffset = start + plan.heapInBox
  return Array.from({ length: plan.sessionsPerBox }, (_, position): Committed[] => {
    const found = currentOf(index, position, seed, plan)
    if (found === undefined) return []
    const { current, idle, recordBytes } = found
    const from = heapOffset + current.offset
    const version = decodeRecord(bytes.slice(from, from + recordBytes), seed)
    const entryOffset = start + plan.indexInBox + position * indexEntry.bytes
    return version ? [{ entryOffset, heapOffset, current, idle, prefixBytes: recordBytes - version.payload.length, version }] : []
  }).flat()
}

function currentOf(index: Uint8Array, position: number, seed: number, plan: RegionPlan): { current: Slot; idle: Slot; recordBytes: number } | undefined {
  const { state, slots: [current, idle], recordBytes } = decodeIndexEntry(index, position, seed, plan.heapBytes)
  if (state !== 'live' || current === undefined || idle === undefined || idle.bytes < recordBytes) return undefined
  return { current, idle, recordBytes }
}

function plant({ bytes }: Region, { entryOffset, heapOffset, current, idle, prefixBytes, version }: Committed, sequence: number, random: Random): void {
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
