/**
 * What a node's notes say for ever (`adoption-notes.ts`), told on by others. A recoverer may stop in the instant in which its claim says
 * `adopted` and its note does not. Who recovers it reads the note, and finds drafts that it leaves alone; the claim it may not
 * reach. Who looks after the claim may not reach the note, for a stopped machine takes no new connections. So who has read the
 * note bears witness of it in its own memory, before its claim on the recoverer says `adopted`: should it fail, too, it is either
 * succeeded by one that reads the note itself, or recovered by one that finds the witness and tells it on.
 *
 *     the recoverer's note, read once it was fenced     the claim in the first node's memory
 *     adopting, or abandoned                            is taken over: nobody was served, and nobody will be
 *     adopted                                           is moved on to `announced`: the sessions are the recoverer's own
 *     incomplete                                        stays: what found no room stands in the first node's memory alone
 *
 * A witness is never wrong later. How far the recoverer's memory counts is fixed once its own claim says `extracted`; and a note
 * speaks for one holding of a claim, which a later life of the recoverer does not have.
 */
import { z } from 'zod'
import { isBackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { Claim } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { daemonBox } from '../region/layout.js'
import type { Region } from '../region/region.js'
import { decodeNote, draftsLeftIn, noteLastsMs, noteSchema, noteStore, noteStoreLeftIn, readNoteStore, stateOf, type AdoptionNote, type AdoptionSource, type AdoptionState } from './adoption-notes.js'
import { hasBeenExtracted, readFence, toldExtracted } from './control-words.js'

const witnessSchema = z.strictObject({
  /** Whose note it is, and of which of its regions. */
  of: z.string().min(1).max(64),
  ofIncarnation: z.string().regex(/^[0-9a-f]{1,16}$/),
  note: noteSchema,
})

export type Witness = z.infer<typeof witnessSchema>

/** What a daemon's box says of recoveries: of its own, and of those of others that it has read of. */
export interface Written {
  readonly notes: readonly AdoptionNote[]
  readonly witnessed: readonly Witness[]
}

export const nothingWritten: Written = { notes: [], witnessed: [] }

const idOf = ({ of, ofIncarnation, note }: Witness): string => ['witness', of, ofIncarnation, note.node, note.incarnation, note.target].join('/')

/** @param payloads of the store of the notes; what is neither is left out */
export function decodeWritten(payloads: readonly Uint8Array[]): Written {
  return { notes: payloads.flatMap((payload) => decodeNote(payload) ?? []), witnessed: payloads.flatMap((payload) => decodeWitness(payload) ?? []) }
}

function decodeWitness(payload: Uint8Array): Witness | undefined {
  try {
    return witnessSchema.safeParse(JSON.parse(Buffer.from(payload).toString('utf8'))).data
  } catch {
    return undefined
  }
}

/**
 * Reads what another node has written.
 * @returns isFinal: it is fenced, and everybody finds what is found here; where it is fenced and not final, its notes may still change
 * @throws what reading throws
 */
export async function readWritten(memory: RemoteMemory, header: RegionHeader): Promise<Written & { readonly isFenced: boolean; readonly isFinal: boolean }> {
  const isFenced = (await readFence(memory, 'node')) !== 0
  // A fence may come in the middle of writing a note: what its recoverer found there holds, for everybody.
  const isFinal = isFenced && (await hasBeenExtracted(memory, daemonBox))
  const payloads = await readNoteStore(memory, header, isFinal ? await toldExtracted(memory, daemonBox) : undefined)
  return { ...decodeWritten(payloads), isFenced, isFinal }
}

/** What an earlier region of this node says that the next one has to say, too. */
export function writtenIn(region: Region): Written {
  return { notes: draftsLeftIn(region), witnessed: decodeWritten(noteStoreLeftIn(region)).witnessed }
}

/**
 * What is known of the note of the node that holds this claim.
 * @param numberOf gives a node's number in claim words
 */
export function stateByWitness(witnessed: readonly Witness[], source: AdoptionSource, claim: Claim, numberOf: (node: string) => number): AdoptionState | undefined {
  return stateOf(witnessed.flatMap(({ of, note }) => (numberOf(of) === claim.recoverer ? [note] : [])), source, claim)
}

/** What this node bears witness of. */
export class Witnesses {
  readonly #box: BoxOwner
  /** By their incarnation, regions whose notes were read. */
  readonly #isRead = new Set<bigint>()

  /** @param box the daemon's own */
  constructor(box: BoxOwner) {
    this.#box = box
  }

  all(): Witness[] {
    const store = this.#box.sessions.store(noteStore)
    return [...store.sessions.keys()].flatMap((id) => this.#read(id) ?? [])
  }

  /**
   * To be called before the claim on the node says `adopted`, with what its memory says for ever.
   * @throws BackdoorsError FENCED, CLOSED
   */
  bear({ node, incarnation }: Pick<RegionHeader, 'node' | 'incarnation'>, { notes, witnessed }: Written): void {
    const own = notes.map((note) => ({ of: node, ofIncarnation: incarnation.toString(16), note }))
    this.tellOn([...own, ...witnessed])
  }

  /**
   * To be called by those who watch a node that another one recovers: should that one's memory be lost, they can tell as well as it could.
   * Nothing is done before all is fixed, and once it has been done.
   * @throws BackdoorsError FENCED, CLOSED, and what reading throws
   */
  async read(memory: RemoteMemory, header: RegionHeader): Promise<void> {
    if (this.#isRead.has(header.incarnation) || (await readFence(memory, 'node')) === 0 || !(await hasBeenExtracted(memory, daemonBox))) return
    this.bear(header, await readWritten(memory, header))
    this.#isRead.add(header.incarnation)
  }

  /** What others bore witness of, or an earlier region of this node. @throws BackdoorsError FENCED, CLOSED */
  tellOn(witnessed: readonly Witness[]): void {
    const store = this.#box.sessions.store(noteStore)
    for (const witness of witnessed) if (!store.sessions.has(idOf(witness))) this.#write(witness)
  }

  /** Where it finds no room, sessions do not either: they are told of. */
  #write(witness: Witness): void {
    const { sessions } = this.#box
    try {
      sessions.commit(sessions.store(noteStore), idOf(witness), Buffer.from(JSON.stringify(witness)), { ttlMs: noteLastsMs, schemaVersion: 1 })
    } catch (error) {
      if (!isBackdoorsError(error, 'BOX_FULL')) throw error
    }
  }

  /** What fails its CRC counts as not there. */
  #read(id: string): Witness | undefined {
    const { sessions } = this.#box
    try {
      const version = sessions.get(sessions.store(noteStore), id)
      return version && decodeWitness(version.payload)
    } catch (error) {
      if (isBackdoorsError(error, 'RECORD_CORRUPT')) return undefined
      throw error
    }
  }
}
