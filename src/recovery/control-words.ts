/** Fencing and claiming: compare-and-swap on the control page of the node that failed. */
import { BackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { claimGeneration, decodeClaim, encodeClaim, encodeFence, extractedSequence, fencedGeneration, firstTerm, holdingOf, isBefore, nextTerm, touchedTerm, type Claim, type ClaimStep } from '../region/control.js'
import { control, controlPairOffset } from '../region/layout.js'
import type { Succession } from './succession.js'

/** A word that others move too is tried this often before that is an error. */
const maxTries = 64

/**
 * Raises a fence word to `generation`, if it is not that high already. When this resolves, everything that is
 * read afterwards by the same path was written before the owner could see the fence, or will never be
 * acknowledged by it.
 * @returns the word as it was before
 * @throws BackdoorsError FENCE_FAILED, and what compare-and-swap throws
 */
export async function raiseFence(memory: RemoteMemory, box: number | 'node', generation: number): Promise<number> {
  const offset = controlPairOffset(box) + control.fence
  let expected = 0n
  for (let attempt = 0; attempt < maxTries; attempt++) {
    if (fencedGeneration(expected) >= generation) return fencedGeneration(expected)
    const before = await memory.compareAndSwap(offset, expected, encodeFence(generation, 0))
    if (before === expected) return fencedGeneration(before)
    expected = before
  }
  throw fenceUnstable(memory.peer, offset)
}

const fenceUnstable = (peer: string, offset: number): BackdoorsError =>
  new BackdoorsError('FENCE_FAILED', `The fence word of ${peer} would not hold still for ${maxTries} tries: its memory is being written over.`, { peer, offset })

/**
 * Tells the machine of a fenced box how far its recoverer has read. To be called before the claim moves on to
 * `extracted`, and never after.
 * @throws BackdoorsError CLAIM_LOST where a later generation has been fenced, and what compare-and-swap throws
 */
export async function tellExtracted(memory: RemoteMemory, box: number, generation: number, sequence: number): Promise<void> {
  const offset = controlPairOffset(box) + control.fence
  let expected = encodeFence(generation, 0)
  for (let attempt = 0; attempt < maxTries; attempt++) {
    const before = await memory.compareAndSwap(offset, expected, encodeFence(generation, sequence))
    if (before === expected) return
    if (fencedGeneration(before) !== generation) throw new BackdoorsError('CLAIM_LOST', `Box ${box} of node ${memory.peer} was fenced anew before its recovery had read it.`, { peer: memory.peer, offset, box })
    expected = before
  }
  throw fenceUnstable(memory.peer, offset)
}

/** What was told by `tellExtracted`. */
export async function toldExtracted(memory: RemoteMemory, box: number): Promise<number> {
  const word = await memory.read(controlPairOffset(box) + control.fence, 8)
  return extractedSequence(new DataView(word.buffer, word.byteOffset, 8).getBigUint64(0, true))
}

/** Has the recoverer of the box's fenced generation read what there is, and said how far? */
export async function hasBeenExtracted(memory: RemoteMemory, box: number): Promise<boolean> {
  const bytes = await memory.read(controlPairOffset(box), control.pairBytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const claim = decodeClaim(view.getBigUint64(control.claim, true))
  const fenced = fencedGeneration(view.getBigUint64(control.fence, true))
  return claim?.generation === claimGeneration(fenced) && !isBefore(claim.step, 'extracted')
}

/** The highest generation that is fenced; 0 where none is. */
export async function readFence(memory: RemoteMemory, box: number | 'node'): Promise<number> {
  const word = await memory.read(controlPairOffset(box) + control.fence, 8)
  return fencedGeneration(new DataView(word.buffer, word.byteOffset, 8).getBigUint64(0, true))
}

/** Who recovers it, and how far that is; undefined where nobody does. */
export async function readClaim(memory: RemoteMemory, box: number | 'node'): Promise<Claim | undefined> {
  const word = await memory.read(controlPairOffset(box) + control.claim, 8)
  return decodeClaim(new DataView(word.buffer, word.byteOffset, 8).getBigUint64(0, true))
}

/**
 * Moves a claim on to `announced` for its holder, who had adopted all that it is about and failed before he could say so: nobody needs
 * the memory any more. Where the claim has moved meanwhile, nothing is done.
 */
export async function concludeClaim(memory: RemoteMemory, box: number | 'node', held: Claim): Promise<void> {
  await memory.compareAndSwap(controlPairOffset(box) + control.claim, encodeClaim(held), encodeClaim({ ...held, step: 'announced' }))
}

/** The claims of so many boxes. @throws what reading throws */
export async function readClaims(memory: RemoteMemory, boxCount: number): Promise<(Claim | undefined)[]> {
  const bytes = await memory.read(controlPairOffset(0), boxCount * control.pairBytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: boxCount }, (_, box) => decodeClaim(view.getBigUint64(box * control.pairBytes + control.claim, true)))
}

export interface ClaimOptions {
  /** This node's number. */
  readonly recoverer: number
  /** Asked of a claim that is held already, by whomever: may it be taken over (`succession.ts`)? */
  readonly judge: (held: Claim) => Promise<Succession>
  /** False only to show what the claim is worth (`safeguards.ts`). */
  readonly obeyed?: boolean
}

/** Claims are the business of who holds them, unless it is told otherwise. */
export const noSuccession = (own: number) => async ({ recoverer, step }: Claim): Promise<Succession> => (recoverer === own || step === 'announced' ? 'leave' : 'wait')

/** The recovery of one generation, as this node holds it. */
export class ClaimHolder {
  readonly #offset: number
  #claim: Claim
  #last: Promise<unknown> = Promise.resolve()

  private constructor(
    private readonly memory: RemoteMemory,
    private readonly box: number | 'node',
    /** In full; the claim word has room for the low 24 bits only. */
    readonly generation: number,
    claim: Claim,
    private readonly obeyed: boolean,
  ) {
    this.#claim = claim
    this.#offset = controlPairOffset(box) + control.claim
  }

  get step(): ClaimStep {
    return this.#claim.step
  }

  get holding(): number {
    return holdingOf(this.#claim)
  }

  /**
   * Claims the recovery of `generation` for `recoverer`: one compare-and-swap decides among all who try. A claim
   * that this recoverer already holds is taken up where it stands; below `adopted` it is held anew, for what anybody has read of
   * an earlier life's notes does not hold for this one.
   * @throws BackdoorsError ALREADY_CLAIMED, CLAIM_UNSETTLED, and what compare-and-swap and `judge` throw
   */
  static async take(memory: RemoteMemory, box: number | 'node', generation: number, { recoverer, judge, obeyed = true }: ClaimOptions): Promise<ClaimHolder> {
    let wanted: Claim = { recoverer, term: firstTerm, step: 'claimed', generation: claimGeneration(generation) }
    const offset = controlPairOffset(box) + control.claim
    let expected = 0n
    for (let attempt = 0; attempt < maxTries; attempt++) {
      const before = await memory.compareAndSwap(offset, expected, encodeClaim(wanted))
      if (before === expected || !obeyed) return new ClaimHolder(memory, box, generation, wanted, obeyed)
      const held = decodeClaim(before)
      if (held?.generation === wanted.generation) {
        const succession = await judge(held)
        const isOwn = succession === 'leave' && held.recoverer === recoverer
        if (isOwn && !isBefore(held.step, 'adopted')) return new ClaimHolder(memory, box, generation, held, obeyed)
        if (succession === 'conclude' && box !== 'node') {
          await concludeClaim(memory, box, held)
          continue
        }
        if (succession === 'wait' || succession === 'conclude') throw new BackdoorsError('CLAIM_UNSETTLED', `Node number ${held.recoverer} recovers ${describe(memory.peer, box)} (step ${held.step}), or did.`, { peer: memory.peer, offset })
        if (succession === 'leave' && !isOwn) throw new BackdoorsError('ALREADY_CLAIMED', `Node number ${held.recoverer} has recovered ${describe(memory.peer, box)} (step ${held.step}).`, { peer: memory.peer, offset })
        // How far the predecessor said it read is kept to: others may rely on it already.
        wanted = { ...wanted, term: nextTerm(held.term), step: isBefore(held.step, 'extracted') ? 'claimed' : 'extracted' }
      }
      expected = before
    }
    throw new BackdoorsError('FENCE_FAILED', `The claim word of ${describe(memory.peer, box)} would not hold still for ${maxTries} tries: its memory is being written over.`, { peer: memory.peer, offset })
  }

  /** @throws BackdoorsError CLAIM_LOST where another has moved the word: whatever was not adopted is theirs */
  advance(step: ClaimStep): Promise<void> {
    return this.#afterThat(() => this.#move({ ...this.#claim, step }))
  }

  /** Shows that its holder is at work: others take over what does not move. A claim that is lost is told by the next `advance`. */
  touch(): Promise<void> {
    return this.#afterThat(() => this.#move({ ...this.#claim, term: touchedTerm(this.#claim.term) })).catch(() => undefined)
  }

  /** The word is moved by one at a time, from what it was. */
  #afterThat(move: () => Promise<void>): Promise<void> {
    const moved = this.#last.then(move)
    this.#last = moved.catch(() => undefined)
    return moved
  }

  async #move(next: Claim): Promise<void> {
    const before = await this.memory.compareAndSwap(this.#offset, encodeClaim(this.#claim), encodeClaim(next))
    if (before !== encodeClaim(this.#claim) && this.obeyed) {
      throw new BackdoorsError('CLAIM_LOST', `The claim on ${describe(this.memory.peer, this.box)} was taken over before step ${next.step}.`, { peer: this.memory.peer, offset: this.#offset })
    }
    this.#claim = next
  }
}

const describe = (peer: string, box: number | 'node'): string => (box === 'node' ? `node ${peer}` : `box ${box} of node ${peer}`)
