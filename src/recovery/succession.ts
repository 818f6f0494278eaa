/**
 * When a recoverer fails, too: whether its claim may be taken over. The claim word decides, as it does among racing recoverers:
 * who takes it over moves it to the next term, and whatever the predecessor still does with it fails. So nobody has to be fenced for
 * a recovery that was not yet `adopted`: a recoverer that was merely slow loses its claim, and serves nothing.
 *
 * From `adopted` on the sessions are in the predecessor's own region, and recovered from there, unless it failed before it had
 * said so in its note (`adoption-notes.ts`). That can be told of one that was fenced, once its recoverer has said how far
 * it read; and of one that lives and has given the recovery up.
 */
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { claimGeneration, isBefore, type Claim } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { daemonBox } from '../region/layout.js'
import { readNotes, stateOf, type AdoptionNotes, type AdoptionSource, type AdoptionState } from './adoption-notes.js'
import { hasBeenExtracted, readClaim, readFence, toldExtracted } from './control-words.js'

/** `leave`: the recovery is its holder's, and over. `wait`: it may still become anybody's. */
export type Succession = 'leave' | 'wait' | 'take-over'

/** A node that holds a claim. */
export interface Predecessor {
  /** It does not work any more, as far as this node can see. */
  readonly isDown: boolean
  /** Its region, where this node can read it. */
  readonly link: { readonly memory: RemoteMemory; readonly header: RegionHeader } | undefined
}

export interface SuccessionOptions {
  /** This node's number. */
  readonly recoverer: number
  readonly notes: AdoptionNotes
  /** Undefined of a number that is no peer of this node's. */
  readonly predecessor: (number: number) => Predecessor | undefined
  /** A claim that has not moved for so long is taken over whoever holds it, in milliseconds. */
  readonly takeOverAfterMs: number
  readonly nowMs: () => number
}

export class Successions {
  readonly #options: SuccessionOptions
  /** By what is claimed: the claim as last seen, and since when it has been like that. */
  readonly #seen = new Map<string, { readonly claim: string; readonly sinceMs: number }>()

  constructor(options: SuccessionOptions) {
    this.#options = options
  }

  /**
   * May this node take over the claim that was read? Of its own claims it is asked as well: an earlier life of its daemon may
   * have held them.
   * @param atOnce without waiting to see whether its holder is at work: this node holds the claim on the whole node
   */
  async judge(source: AdoptionSource, claim: Claim, atOnce = false): Promise<Succession> {
    const { recoverer, notes, predecessor, takeOverAfterMs } = this.#options
    if (claim.step === 'announced') {
      this.#seen.delete(keyOf(source))
      return 'leave'
    }
    if (claim.recoverer === recoverer) return isBefore(claim.step, 'adopted') ? 'leave' : judgeOwn(stateOf(notes.all(), source))
    const holder = predecessor(claim.recoverer)
    const hasFailed = atOnce || (holder?.isDown ?? false) || this.#standsForMs(source, claim) >= takeOverAfterMs
    if (!hasFailed) return 'wait'
    if (isBefore(claim.step, 'adopted')) return 'take-over'
    if (holder?.link === undefined) return 'wait'
    // Who cannot read it cannot tell: others may be able to, and so may this node later.
    return await judgeAdopted(holder.link, source).catch(() => 'wait')
  }

  #standsForMs(source: AdoptionSource, claim: Claim): number {
    const nowMs = this.#options.nowMs()
    const key = keyOf(source)
    const text = JSON.stringify(claim)
    const seen = this.#seen.get(key)
    if (seen?.claim === text) return nowMs - seen.sinceMs
    this.#seen.set(key, { claim: text, sinceMs: nowMs })
    return 0
  }
}

const keyOf = ({ node, incarnation, target }: AdoptionSource): string => [node, incarnation, target].join('/')

/** A claim of its own that says `adopted`. Without a note it is of an earlier life, of which nothing is left here: others may know. */
function judgeOwn(state: AdoptionState | undefined): Succession {
  if (state === undefined) return 'wait'
  return state === 'adopted' ? 'leave' : 'take-over'
}

/** Its claim says `adopted`: does its note say so, too? */
async function judgeAdopted({ memory, header }: NonNullable<Predecessor['link']>, source: AdoptionSource): Promise<Succession> {
  const isFenced = (await readFence(memory, 'node')) !== 0
  // A fence may come in the middle of writing the note: what its recoverer found there holds, for everybody.
  if (isFenced && !(await hasBeenExtracted(memory, daemonBox))) return 'wait'
  const notes = await readNotes(memory, header, isFenced ? await toldExtracted(memory, daemonBox) : undefined)
  const state = stateOf(notes, source)
  if (isFenced) return state === undefined || state === 'adopted' ? 'leave' : 'take-over'
  return state === 'abandoned' ? 'take-over' : 'wait'
}

/** What has become of a recovery that another node holds, and whether this one should step in. @throws what reading throws */
export async function lookAtClaim(memory: RemoteMemory, source: AdoptionSource, generation: number, judge: (source: AdoptionSource, claim: Claim) => Promise<Succession>): Promise<Succession> {
  const claim = await readClaim(memory, source.target)
  // Another generation is recovered by now: that is for whoever sees it fail.
  if (claim === undefined || claim.generation !== claimGeneration(generation)) return 'leave'
  return await judge(source, claim)
}
