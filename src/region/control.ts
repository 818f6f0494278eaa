/**
 * The words of the control page: the only remotely writable memory, moved on by compare-and-swap alone.
 *
 * A box's **fence** word is the highest generation of the box that is fenced: its owner is fenced when the word
 * has reached the owner's generation, and a later owner is not, so nobody ever has to reset it. The node's
 * fence word is 0 or 1 and holds for the region's whole life.
 *
 * Only the low half of a fence word fences. The upper half of a box's says, once its claim is at `extracted`, how far
 * the recoverer read: the low 32 bits of the highest sequence that it found. A commit under way when the fence came is
 * found or is not, and the box's own machine cannot know which; where it has to (`src/daemon/offered-sessions.ts`), this
 * tells.
 *
 * A **claim** word says who recovers which generation, and how far:
 *
 *     bits 0–7 step | 8–23 term | 24–39 recoverer | 40–63 generation (low 24 bits)
 *
 * The term's upper 12 bits count who held the claim, one after another: with the generation they name one *holding* of it, which no other
 * claim has. The lower 4 bits are signs of life. Whoever takes a claim up that he held in an earlier try holds it anew.
 */

/** Steps of a recovery in their order; a claim word carries the index of one of the last four. */
export const recoverySteps = ['suspected', 'fenced', 'claimed', 'extracted', 'adopted', 'announced'] as const
export type RecoveryStep = (typeof recoverySteps)[number]
export type ClaimStep = Exclude<RecoveryStep, 'suspected' | 'fenced'>

/** Fences every generation; for a box whose directory entry cannot be trusted. */
export const fenceAll = 0xffff_ffff
/** The node's own fence word, once fenced. */
export const nodeGeneration = 1

export interface Claim {
  /** Number of the recovering node, 1 to 65535 (`nodeNumber`). */
  readonly recoverer: number
  /** Counts who held it, and their signs of life: `nextTerm`, `touchedTerm`. */
  readonly term: number
  readonly step: ClaimStep
  /** Low 24 bits of the generation that is being recovered. */
  readonly generation: number
}

export const isBefore = (step: RecoveryStep, other: RecoveryStep): boolean => recoverySteps.indexOf(step) < recoverySteps.indexOf(other)

const generationMask = 0xffff_ffffn

export const encodeFence = (generation: number, extracted: number): bigint => BigInt(generation) | (BigInt(extracted >>> 0) << 32n)
export const fencedGeneration = (word: bigint): number => Number(word & generationMask)
export const extractedSequence = (word: bigint): number => Number(word >> 32n)

/** Is a commit of this sequence among those that a recoverer found, who read as far as `extracted` (32 bits)? */
export const isWithin = (sequence: number, extracted: number): boolean => ((extracted - (sequence % 0x1_0000_0000)) | 0) >= 0

export const claimGeneration = (generation: number): number => generation & 0xff_ffff

const beatsOfTerm = 0x10
/** Of a claim that nobody has held before. */
export const firstTerm = 1
/** The claim is held anew: by another, or by the same one in another try. */
export const nextTerm = (term: number): number => ((term | (beatsOfTerm - 1)) + 1) & 0xffff
/** Who holds it shows that he is at work. */
export const touchedTerm = (term: number): number => term - (term % beatsOfTerm) + ((term + 1) % beatsOfTerm)
/** What tells one holding of a claim word from all others: 36 bits. */
export const holdingOf = ({ generation, term }: Pick<Claim, 'generation' | 'term'>): number => claimGeneration(generation) * (0x1_0000 / beatsOfTerm) + Math.floor(term / beatsOfTerm)

export function encodeClaim(claim: Claim): bigint {
  return (
    BigInt(recoverySteps.indexOf(claim.step)) |
    (BigInt(claim.term & 0xffff) << 8n) |
    (BigInt(claim.recoverer & 0xffff) << 24n) |
    (BigInt(claimGeneration(claim.generation)) << 40n)
  )
}

/** Undefined where the word is 0 or holds no claim at all. */
export function decodeClaim(word: bigint): Claim | undefined {
  const step = recoverySteps[Number(word & 0xffn)]
  const recoverer = Number((word >> 24n) & 0xffffn)
  if (step === undefined || step === 'suspected' || step === 'fenced' || recoverer === 0) return undefined
  return { step, recoverer, term: Number((word >> 8n) & 0xffffn), generation: Number(word >> 40n) }
}
