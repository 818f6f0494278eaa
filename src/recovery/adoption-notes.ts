/**
 * What a recoverer writes down beside the sessions that it adopts, in its daemon's own box: whether they are its own already, or
 * drafts. Should it fail, too, whoever recovers it and whoever succeeds it in its recoveries read the same note, and come to the
 * same end: sessions are adopted from it, or once more from where they came.
 *
 *     claim says      note says                 the sessions are
 *     below adopted   anything but adopted      with the node that failed first: who takes the claim over reads them there
 *     adopted         adopting, or abandoned    there, too: the recoverer failed before it could serve any of them
 *     adopted         adopted, or incomplete,   the recoverer's, and recovered from it
 *                     or nothing
 *
 * The note says `adopted` only after the claim does, and sessions are served only after the note does. So a claim below
 * `adopted` can be taken over without a look at the recoverer: its next compare-and-swap on it fails. From `adopted` on the note
 * decides; who cannot read it is told by those who could (`witness.ts`). It speaks for one holding of the claim, and for no other.
 */
import { z } from 'zod'
import { isBackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { BoxOwner } from '../region/box-owner.js'
import { holdingOf, isWithin, type Claim } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { boxOffset, daemonBox, indexEntry } from '../region/layout.js'
import { ControlWords, type Region } from '../region/region.js'
import { readSessions, type Extraction } from '../region/region-reader.js'
import { boxSeed } from '../region/seed.js'
import { decodeIndexEntry } from '../region/session-index.js'
import { decodeRecord, type SessionOrigin, type SessionVersion } from '../region/session-record.js'
import type { HeldStore } from '../region/session-writer.js'

/** The store that notes stand in; no server's store may have this name. */
export const noteStore = 'backdoors:adoptions'
/** A note that was never settled is of no use to anybody any more, in milliseconds: no recovery takes so long. */
export const noteLastsMs = 7 * 24 * 3_600_000
/** All states of one note have this length at least, so that the later ones find room where the first did. */
const statePadding = 12

export const noteSchema = z.strictObject({
  node: z.string().min(1).max(64),
  incarnation: z.string().regex(/^[0-9a-f]{1,16}$/),
  /** `node`, or the number of a box that was recovered by itself. */
  target: z.union([z.literal('node'), z.int().min(0).max(0xffff)]),
  boxes: z.array(z.int().min(0).max(0xffff)).max(0xffff),
  /** Which holdings of the claims it speaks for (`holdingOf`): of the target's, and of each box's. */
  holding: z.int().min(0),
  holdings: z.array(z.int().min(0)).max(0xffff),
  /** Of the recoverer's own box: what it holds of those boxes in a higher sequence is what this recovery adopted. */
  since: z.int().min(0),
  /** `incomplete`: adopted, but for what found no room; the failed node's memory has that alone. */
  state: z.enum(['adopting', 'adopted', 'incomplete', 'abandoned']),
})

export type AdoptionNote = z.infer<typeof noteSchema>
export type AdoptionState = AdoptionNote['state']

/** A box of a node that failed, or the recovery of the whole node. */
export interface AdoptionSource {
  readonly node: string
  readonly incarnation: bigint
  readonly target: 'node' | number
}

const idOf = ({ node, incarnation, target }: AdoptionSource): string => `${node}/${incarnation.toString(16)}/${target}`

/** @returns undefined where the bytes are no note: what it would have been about counts as adopted, so that it is not lost */
export function decodeNote(payload: Uint8Array): AdoptionNote | undefined {
  try {
    return noteSchema.safeParse(JSON.parse(Buffer.from(payload).toString('utf8'))).data
  } catch {
    return undefined
  }
}

function encodeNote(note: AdoptionNote): Uint8Array {
  return Buffer.from(JSON.stringify(note) + ' '.repeat(statePadding - note.state.length))
}

/** Are the sessions that it is about the node's own, which wrote it? */
export const isSettled = ({ state }: Pick<AdoptionNote, 'state'>): boolean => state === 'adopted' || state === 'incomplete'

/** Was it written under this very claim? A box may have been recovered by itself, or with its node. */
export function speaksOf(note: AdoptionNote, { node, incarnation, target }: AdoptionSource, claim: Claim): boolean {
  if (note.node !== node || note.incarnation !== incarnation.toString(16)) return false
  const at = target === 'node' ? -1 : note.boxes.indexOf(target)
  return (note.target === target && note.holding === holdingOf(claim)) || note.holdings[at] === holdingOf(claim)
}

/** What notes say of what is claimed. @returns undefined where there is no note of it */
export function stateOf(notes: readonly AdoptionNote[], source: AdoptionSource, claim: Claim): AdoptionState | undefined {
  const about = notes.filter((note) => speaksOf(note, source, claim))
  return (about.find(isSettled) ?? about[0])?.state
}

/** A recovery, and the claims under which it is carried out. */
export interface HeldRecovery extends AdoptionSource {
  readonly holding: number
  readonly boxes: readonly { readonly box: number; readonly holding: number }[]
}

/** A session in the box of a recoverer's daemon: its sequence there, and where it came from. */
export interface AdoptedSession {
  readonly sequence: number
  readonly origin: SessionOrigin | undefined
}

/** Was it adopted by a recovery that never came to its end? */
export function isDraft(notes: readonly AdoptionNote[], session: AdoptedSession): boolean {
  return notes.some((note) => !isSettled(note) && isOf(note, session))
}

function isOf({ node, incarnation, boxes, since }: AdoptionNote, { sequence, origin }: AdoptedSession): boolean {
  return origin?.node === node && origin.incarnation.toString(16) === incarnation && boxes.includes(origin.box) && sequence > since
}

/** Reads what stands in the store of the notes in another node's memory, as `readSessions` reads sessions. @throws what reading throws */
export async function readNoteStore(memory: RemoteMemory, header: RegionHeader, upTo?: number): Promise<Uint8Array[]> {
  const { sessions } = await readSessions(memory, header, daemonBox, undefined, upTo)
  return sessions.flatMap(({ store, payload }) => (store === noteStore ? [payload] : []))
}

/** How many notes in what was read of a box are damaged: of which no version checks, or only the older one. */
export function damagedNotesIn({ sessions, corruptStores }: Pick<Extraction, 'sessions' | 'corruptStores'>): number {
  return sessions.filter(({ store, stale }) => stale && store === noteStore).length + corruptNotesIn(corruptStores)
}

/** Of the entries without any valid version, those that were notes, as far as they still say. */
export const corruptNotesIn = (corruptStores: readonly string[]): number => corruptStores.filter((store) => store === noteStore).length

/**
 * What an earlier region of this node, which was fenced, says of recoveries that never came to their end: the next region says it, too,
 * for the claims still name this node.
 */
export function draftsLeftIn(region: Region): AdoptionNote[] {
  return noteStoreLeftIn(region).flatMap((payload) => {
    const note = decodeNote(payload)
    return note && !isSettled(note) ? [note] : []
  })
}

/** What stands in the store of the notes in an earlier region of this node. */
export function noteStoreLeftIn(region: Region): Uint8Array[] {
  const { bytes, header: { plan, incarnation } } = region
  const words = new ControlWords(region)
  // Where somebody has recovered this node, what he found there holds.
  const upTo = words.hasBeenRead(daemonBox) ? words.extracted(daemonBox) : undefined
  const start = boxOffset(plan, daemonBox)
  const seed = boxSeed(incarnation, daemonBox)
  const index = bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  return Array.from({ length: plan.sessionsPerBox }, (_, position) => position).flatMap((position) => {
    const versions = decodeIndexEntry(index, position, seed, plan.heapBytes).slots.flatMap(({ offset, bytes: length }) => {
      const at = start + plan.heapInBox + offset
      const version = decodeRecord(bytes.subarray(at, at + length), seed)
      return version?.store === noteStore && (upTo === undefined || isWithin(version.sequence, upTo)) ? [version] : []
    })
    const newest = versions.reduce<SessionVersion | undefined>((latest, one) => (latest && latest.sequence > one.sequence ? latest : one), undefined)
    return newest ? [newest.payload] : []
  })
}

/** The notes of this node. */
export class AdoptionNotes {
  readonly #box: BoxOwner

  /** @param box the daemon's own */
  constructor(box: BoxOwner) {
    this.#box = box
  }

  all(): AdoptionNote[] {
    const store = this.#box.sessions.store(noteStore)
    return [...store.sessions.keys()].flatMap((id) => this.#read(store, id) ?? [])
  }

  get size(): number {
    return this.#box.sessions.store(noteStore).sessions.size
  }

  /**
   * To be written before the first session of the recovery is adopted. Both versions of the note get their room now: what
   * is to be said at the end must not fail for want of it.
   * @throws BackdoorsError BOX_FULL, FENCED, CLOSED
   */
  begin({ node, incarnation, target, holding, boxes }: HeldRecovery): void {
    const earlier = this.find({ node, incarnation, target })
    // What an earlier run of the same recovery adopted is a draft as well.
    const since = earlier?.state === 'adopting' ? earlier.since : this.#box.sessions.sequence
    this.#write({
      node, incarnation: incarnation.toString(16), target, since, state: 'adopting', holding,
      boxes: boxes.map(({ box }) => box), holdings: boxes.map((each) => each.holding),
    })
  }

  /**
   * The claim says `adopted`: from now on the sessions are this node's.
   * @param isComplete false where some found no room; a note that said so goes on to say it
   * @throws BackdoorsError FENCED, CLOSED
   */
  confirm(source: AdoptionSource, isComplete: boolean): void {
    const note = this.find(source)
    if (note) this.#write({ ...note, state: isComplete && note.state !== 'incomplete' ? 'adopted' : 'incomplete' })
  }

  /** The claim says `announced`: nobody will ask any more. @throws BackdoorsError FENCED, CLOSED */
  forget(source: AdoptionSource): void {
    this.#box.sessions.delete(this.#box.sessions.store(noteStore), idOf(source))
  }

  /** Another has taken the recovery over: its drafts are deleted. @returns how many @throws BackdoorsError FENCED, CLOSED */
  giveUp(source: AdoptionSource): number {
    const note = this.find(source)
    if (note?.state !== 'adopting') return 0
    const deleted = this.#deleteDrafts(note)
    this.#write({ ...note, state: 'abandoned' })
    return deleted
  }

  /**
   * Deletes the drafts of recoveries that an earlier life of this daemon never ended, and says so: it may be that their
   * claims say `adopted`. @returns how many sessions @throws BackdoorsError FENCED, CLOSED
   */
  giveUpAll(): number {
    return this.all().reduce((deleted, { node, incarnation, target }) => deleted + this.giveUp({ node, incarnation: BigInt(`0x${incarnation}`), target }), 0)
  }

  /** @param notes of an earlier region (`draftsLeftIn`) @throws BackdoorsError BOX_FULL, FENCED, CLOSED */
  inherit(notes: readonly AdoptionNote[]): void {
    for (const note of notes) this.#write({ ...note, since: this.#box.sessions.sequence, state: 'abandoned' })
  }

  find(source: AdoptionSource): AdoptionNote | undefined {
    const { sessions } = this.#box
    return this.#read(sessions.store(noteStore), idOf(source))
  }

  #read(store: HeldStore, id: string): AdoptionNote | undefined {
    const version = this.#version(store, id)
    return version && decodeNote(version.payload)
  }

  #deleteDrafts(note: AdoptionNote): number {
    const { sessions } = this.#box
    let deleted = 0
    for (const store of sessions.stores()) {
      for (const id of [...store.sessions.keys()]) {
        const version = this.#version(store, id)
        if (version && isOf(note, version) && sessions.delete(store, id)) deleted += 1
      }
    }
    return deleted
  }

  /** What fails its CRC counts as not there. */
  #version(store: HeldStore, id: string): SessionVersion | undefined {
    try {
      return this.#box.sessions.get(store, id)
    } catch (error) {
      if (isBackdoorsError(error, 'RECORD_CORRUPT')) return undefined
      throw error
    }
  }

  /**
   * Into both versions: where the newest is damaged, the one before it says the same. Else sessions that are served here already
   * would be drafts again, and be adopted once more from where they came.
   */
  #write(note: AdoptionNote): void {
    const { sessions } = this.#box
    const id = idOf({ ...note, incarnation: BigInt(`0x${note.incarnation}`) })
    const bytes = encodeNote(note)
    for (let version = 0; version < 2; version++) sessions.commit(sessions.store(noteStore), id, bytes, { ttlMs: noteLastsMs, schemaVersion: 1 })
  }
}
