/** What a simulated connection does to the operations that pass it. */
import type { WorkCompletionCode } from '../../errors.js'
import type { Random } from './random.js'

/** Times in microseconds of virtual time, probabilities from 0 to 1, each drawn for each operation anew. */
export interface Conditions {
  /** One way, at least; and so much more at most (drawn evenly). */
  readonly delayUs: number
  readonly jitterUs: number
  /** An operation fails with one of `failures`. A write or compare-and-swap may then have been done, or not. */
  readonly failProbability: number
  readonly failures: readonly WorkCompletionCode[]
  /** An operation never comes back; it ends in TIMEOUT after `timeoutUs`. The same doubt about writes. */
  readonly loseProbability: number
  readonly timeoutUs: number
  /** The bytes of a read come from several instants, up to `tearSpreadUs` apart, whole only by 8 aligned bytes. */
  readonly tearProbability: number
  readonly tearSpreadUs: number
  /** The link is cut: operations fail with WC_RETRY_EXC_ERR, as they do at a dead peer. */
  readonly cut: boolean
  /** How long the sender repeats a request before it gives up a silent peer. */
  readonly retryUs: number
  /**
   * As with a real queue pair, the first failure ends the connection: what is under way and all that follows fails
   * with the same code, and whoever goes on needs another MockMemory.
   */
  readonly breaksOnFailure: boolean
  /** A wake-up of the watcher comes late, by up to `lateUs`. */
  readonly lateProbability: number
  readonly lateUs: number
}

/** A healthy connection: nothing fails, but time passes. */
export const calmConditions: Conditions = {
  delayUs: 1,
  jitterUs: 1,
  failProbability: 0,
  failures: ['WC_RETRY_EXC_ERR'],
  loseProbability: 0,
  timeoutUs: 100_000,
  tearProbability: 0,
  tearSpreadUs: 20,
  cut: false,
  retryUs: 1_000,
  breaksOnFailure: false,
  lateProbability: 0,
  lateUs: 0,
}

/** How an operation is going to end unless the peer dies or the caller closes first. */
export type Fate =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly status: WorkCompletionCode; readonly executed: boolean }
  | { readonly kind: 'lost'; readonly executed: boolean }

export function drawFate(random: Random, conditions: Conditions): Fate {
  if (random.chance(conditions.loseProbability)) return { kind: 'lost', executed: random.chance(0.5) }
  if (!random.chance(conditions.failProbability)) return { kind: 'done' }
  return { kind: 'failed', status: random.pick(conditions.failures), executed: random.chance(0.5) }
}

export const drawDelayUs = (random: Random, { delayUs, jitterUs }: Conditions): number =>
  jitterUs > 0 ? delayUs + random.integer(0, jitterUs) : delayUs
