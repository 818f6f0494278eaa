/**
 * Where a session is that was offered to a server which was fenced, or died, before it was done. Nobody's word
 * decides that, but what stands in the server's box; and once the box is fenced, what its recoverer found there.
 */
import { decodeDirectoryEntry } from '../region/directory.js'
import { claimGeneration, decodeClaim, isBefore, isWithin } from '../region/control.js'
import { boxOffset, directoryEntry, directoryEntryOffset, indexEntry } from '../region/layout.js'
import { ControlWords, type Region } from '../region/region.js'
import { boxSeed } from '../region/seed.js'
import { decodeIndexEntry } from '../region/session-index.js'
import { decodeRecord, originKey, type SessionVersion } from '../region/session-record.js'

/** An owner of a box on this machine. */
export interface BoxGeneration {
  readonly box: number
  readonly generation: number
}

/**
 * `in-box`: whoever has the box, or recovers it, has the session. `not-taken`: nobody but the daemon has it.
 * `undecided`: it is in the box, which is fenced, and the recoverer has not said yet how far it read.
 */
export type Fate = 'in-box' | 'not-taken' | 'undecided'

/** Can the owner write no more: is its process gone, or another one there? */
export function isGone(region: Region, { box, generation }: BoxGeneration): boolean {
  const start = directoryEntryOffset(region.header.plan, box)
  const entry = decodeDirectoryEntry(region.bytes.subarray(start, start + directoryEntry.bytes))
  return entry?.generation !== generation || !region.memory.isLocked(start, 1)
}

/**
 * @param sessions as they stand in the daemon's box, undefined where that is over; their owner must be done with them, or gone
 * @returns the fate of each
 */
export function fatesOf(region: Region, owner: BoxGeneration, sessions: readonly (SessionVersion | undefined)[]): Fate[] {
  const words = new ControlWords(region)
  // The fence is looked at first: what is found in the box of an owner who was not fenced then, a later recoverer finds.
  const isFenced = words.fence(owner.box) >= owner.generation
  if (isFenced && !hasBeenRead(words, owner.box)) return sessions.map(() => 'undecided')
  const taken = newestFrom(region, owner.box)
  return sessions.map((session) => {
    const found = session && taken.get(keyOf(session))
    if (found === undefined) return 'not-taken'
    return !isFenced || isWithin(found.sequence, words.extracted(owner.box)) ? 'in-box' : 'not-taken'
  })
}

/** Has the box's recoverer said how far it read? */
function hasBeenRead(words: ControlWords, box: number): boolean {
  const claim = decodeClaim(words.claim(box))
  return claim?.generation === claimGeneration(words.fence(box)) && !isBefore(claim.step, 'extracted')
}

/** The newest version in the box of each session that was adopted from elsewhere, by its origin. */
function newestFrom({ bytes, header: { plan, incarnation } }: Region, box: number): Map<string, SessionVersion> {
  const start = boxOffset(plan, box)
  const seed = boxSeed(incarnation, box)
  const index = bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  const newest = new Map<string, SessionVersion>()
  for (let position = 0; position < plan.sessionsPerBox; position++) {
    for (const slot of decodeIndexEntry(index, position, seed, plan.heapBytes).slots) {
      const from = start + plan.heapInBox + slot.offset
      const version = decodeRecord(bytes.subarray(from, from + slot.bytes), seed)
      if (version?.origin === undefined) continue
      const key = keyOf(version)
      if ((newest.get(key)?.sequence ?? 0) < version.sequence) newest.set(key, version)
    }
  }
  return newest
}

const keyOf = ({ origin, store, id }: SessionVersion): string => (origin === undefined ? '' : originKey(origin, store, id))
