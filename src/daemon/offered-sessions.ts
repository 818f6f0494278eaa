/**
 * Where a session is that was offered to a server which was fenced, or died, before it was done. Nobody's word
 * decides that, but what stands in the server's box; and once the box is fenced, what its recoverer found there.
 */
import { decodeDirectoryEntry, type DirectoryEntry } from '../region/directory.js'
import { fenceAll, isWithin } from '../region/control.js'
import { boxOffset, directoryEntry, directoryEntryOffset, indexEntry } from '../region/layout.js'
import { ControlWords, type Region } from '../region/region.js'
import { boxSeed } from '../region/seed.js'
import { decodeIndexEntry } from '../region/session-index.js'
import { decodeRecord, originKey, type SessionOrigin, type SessionVersion } from '../region/session-record.js'

/** An owner of a box on this machine. */
export interface BoxGeneration {
  readonly box: number
  /** `fenceAll` where the box's directory entry is damaged, so that nobody knows it. */
  readonly generation: number
}

/** `in-box`: whoever has the box, or recovers it, has the session. `not-taken`: nobody but the daemon has it. */
export type Fate = 'in-box' | 'not-taken'

/** The last owner of each box that was ever a server's. */
export function lastOwners(region: Region): BoxGeneration[] {
  const owners: BoxGeneration[] = []
  for (let box = 1; box < region.header.plan.boxCount; box++) {
    const entry = readEntry(region, box)
    if (entry?.state !== 'free') owners.push({ box, generation: entry?.generation ?? fenceAll })
  }
  return owners
}

/** Can the owner write no more: is its process gone, or another one there? */
export function isGone(region: Region, { box, generation }: BoxGeneration): boolean {
  const entry = readEntry(region, box)
  const hasSuccessor = entry !== undefined && entry.generation !== generation
  return hasSuccessor || !region.memory.isLocked(directoryEntryOffset(region.header.plan, box), 1)
}

/** Has a recoverer fenced this owner? Then it acknowledges no session that it has not written yet. */
export const isFenced = (region: Region, { box, generation }: BoxGeneration): boolean => new ControlWords(region).fence(box) >= generation

/**
 * @param owner is done with the sessions, or gone, or fenced
 * @param versions gives the sessions as they stand in the daemon's box, undefined where that is over
 * @returns the fate of each, or undefined where the box is fenced and its recoverer has not said yet how far it read
 */
export function fatesOf(region: Region, owner: BoxGeneration, versions: () => readonly (SessionVersion | undefined)[]): Fate[] | undefined {
  const words = new ControlWords(region)
  // The fence is looked at first: what is found in the box of an owner who was not fenced then, a later recoverer finds.
  const fenced = isFenced(region, owner)
  if (fenced && !words.hasBeenRead(owner.box)) return undefined
  const taken = newestOrigins(region, owner.box, fenced ? words.extracted(owner.box) : undefined)
  return versions().map((version) => {
    if (version?.origin === undefined) return 'not-taken'
    const sequence = taken.get(lineageOf(version.origin, version))
    // A box that has an older state of the session only has not taken this one.
    return sequence !== undefined && sequence >= version.origin.sequence ? 'in-box' : 'not-taken'
  })
}

function readEntry(region: Region, box: number): DirectoryEntry | undefined {
  const start = directoryEntryOffset(region.header.plan, box)
  return decodeDirectoryEntry(region.bytes.subarray(start, start + directoryEntry.bytes))
}

/**
 * @param upTo leaves out what the box's recoverer came too early for: the last commit before the fence was seen. The
 * version before that one still stands in the other slot, and is what the recoverer found.
 * @returns the highest sequence of origin of each session in the box that was adopted from elsewhere, by its lineage
 */
function newestOrigins({ bytes, header: { plan, incarnation } }: Region, box: number, upTo: number | undefined): Map<string, number> {
  const start = boxOffset(plan, box)
  const seed = boxSeed(incarnation, box)
  const index = bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  const newest = new Map<string, number>()
  for (let position = 0; position < plan.sessionsPerBox; position++) {
    for (const slot of decodeIndexEntry(index, position, seed, plan.heapBytes).slots) {
      const from = start + plan.heapInBox + slot.offset
      const version = decodeRecord(bytes.subarray(from, from + slot.bytes), seed)
      if (version?.origin === undefined || (upTo !== undefined && !isWithin(version.sequence, upTo))) continue
      const lineage = lineageOf(version.origin, version)
      newest.set(lineage, Math.max(newest.get(lineage) ?? 0, version.origin.sequence))
    }
  }
  return newest
}

/** One text for all states of a session that come from one box. */
const lineageOf = (origin: SessionOrigin, { store, id }: SessionVersion): string => originKey({ ...origin, sequence: 0 }, store, id)
