/**
 * When a recoverer fails, too: whether its claim may be taken over. The claim word decides, as it does among racing recoverers:
 * who takes it over moves it to the next term, and whatever the predecessor still does with it fails. So nobody has to be fenced for
 * a recovery that was not yet `adopted`: a recoverer that was merely slow loses its claim, and serves nothing.
 *
 * From `adopted` on the sessions are in the predecessor's own region, and recovered from there, unless it failed before it had
 * said so in its note (`adoption-notes.ts`). That can be told of one that was fenced, once its recoverer has said how far
 * it read; and of one that lives and has given the recovery up. Who cannot read its region looks for a witness (`witness.ts`).
 */
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { claimGeneration, isBefore, type Claim } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { isSettled, stateOf, type AdoptionNotes, type AdoptionSource, type AdoptionState } from './adoption-notes.js'
import { concludeClaim, readClaim, readClaims } from './control-words.js'
import { touchEveryMs } from './recover.js'
import { readWritten, stateByWitness, type Witnesses } from './witness.js'

/** A claim that has not moved for so long is none that somebody is at work on, in milliseconds: what its holder says is worth a read of all that it adopted. */
const restsAfterMs = 2 * touchEveryMs

/**
 * `leave`: the recovery is its holder's, and over. `wait`: it may still become anybody's. `conclude`: its holder has failed, and whoever
 * recovers him has all of it: the claim alone does not say so yet.
 */
export type Succession = 'leave' | 'wait' | 'take-over' | 'conclude'

/** A region that this node can read. */
export interface ReadableRegion {
  readonly memory: RemoteMemory
  readonly header: RegionHeader
}

/** A node that holds a claim. */
export interface Predecessor {
  /** It does not work any more, as far as this node can see. */
  readonly isDown: boolean
  /** Its region, where this node can read it. */
  readonly link: ReadableRegion | undefined
}

export interface SuccessionOptions {
  /** This node's number. */
  readonly recoverer: number
  readonly notes: AdoptionNotes
  readonly witnesses: Witnesses
  /** Undefined of a number that is no peer of this node's. */
  readonly predecessor: (number: number) => Predecessor | undefined
  /** The regions of others, as far as they can be read. @param all from now on those of all members are to be */
  readonly readable: (all: boolean) => readonly ReadableRegion[]
  /** The number of a node in claim words. */
  readonly numberOf: (node: string) => number
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
    const { recoverer, notes, predecessor, takeOverAfterMs, readable } = this.#options
    if (claim.step === 'announced') {
      this.#seen.delete(keyOf(source))
      return 'leave'
    }
    if (claim.recoverer === recoverer) {
      if (isBefore(claim.step, 'adopted')) return 'leave'
      const state = stateOf(notes.all(), source, claim)
      // Without a note it is of an earlier life, of which nothing is left here: others may have read it.
      if (state === undefined) return await this.#judgeByWitness(source, claim, readable(true))
      return isSettled({ state }) ? 'leave' : 'take-over'
    }
    const holder = predecessor(claim.recoverer)
    const standsForMs = this.#standsForMs(source, claim)
    const hasFailed = atOnce || (holder?.isDown ?? false) || standsForMs >= takeOverAfterMs
    if (isBefore(claim.step, 'adopted')) return hasFailed ? 'take-over' : 'wait'
    if (!hasFailed && standsForMs < restsAfterMs) return 'wait'
    // What it says itself needs little patience: one that is back up has given up what it had not confirmed.
    const direct = holder?.link && (await judgeAdopted(holder.link, source, claim).catch(() => undefined))
    if (direct !== undefined && direct !== 'says-nothing') return direct
    // Who cannot read it cannot tell: others may have been able to, and so may this node later.
    return hasFailed ? await this.#judgeByWitness(source, claim, readable(direct === undefined)) : 'wait'
  }

  async #judgeByWitness(source: AdoptionSource, claim: Claim, regions: readonly ReadableRegion[]): Promise<Succession> {
    const { witnesses, numberOf } = this.#options
    const own = stateByWitness(witnesses.all(), source, claim, numberOf)
    if (own !== undefined) return judgeFenced(own)
    for (const { memory, header } of regions) {
      const state = await readWritten(memory, header).then(({ witnessed }) => stateByWitness(witnessed, source, claim, numberOf), () => undefined)
      if (state !== undefined) return judgeFenced(state)
    }
    return 'wait'
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

/** Its claim says `adopted`: does its note say so, too? */
async function judgeAdopted({ memory, header }: ReadableRegion, source: AdoptionSource, claim: Claim): Promise<Succession | 'says-nothing'> {
  const written = await readWritten(memory, header)
  const state = stateOf(written.notes, source, claim)
  if (written.isFinal) return judgeFenced(state)
  // What stands in one that is fenced and has not been read yet may change.
  if (written.isFenced) return 'wait'
  // One that lives may say that it has given the recovery up; or it is a later life, which does not know.
  if (state === undefined) return 'says-nothing'
  return state === 'abandoned' ? 'take-over' : 'wait'
}

/** What becomes of the claim of one that was fenced. @param state of its note, as everybody has to read it */
function judgeFenced(state: AdoptionState | undefined): Succession {
  if (state === 'adopted') return 'conclude'
  return state === undefined || state === 'incomplete' ? 'leave' : 'take-over'
}

/**
 * What has become of a recovery that another node holds, and whether this one should step in. A claim that its holder can move no more,
 * though all is done, is moved for him.
 * @throws what reading throws
 */
export async function lookAtClaim({ memory, header }: ReadableRegion, source: AdoptionSource, generation: number, judge: (source: AdoptionSource, claim: Claim) => Promise<Succession>): Promise<Exclude<Succession, 'conclude'>> {
  const claim = await readClaim(memory, source.target)
  // Another generation is recovered by now: that is for whoever sees it fail.
  if (claim === undefined || claim.generation !== claimGeneration(generation)) return 'leave'
  const succession = await judge(source, claim)
  if (succession !== 'conclude') return succession
  // As long as others have not come to an end with a box of the node, its memory is needed.
  if (source.target === 'node' && (await readClaims(memory, header.plan.boxCount)).some((each) => each !== undefined && each.step !== 'announced' && each.recoverer !== claim.recoverer)) return 'wait'
  await concludeClaim(memory, source.target, claim)
  return 'leave'
}
