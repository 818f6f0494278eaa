/** Which operations a fault strikes. */
import { BackdoorsError } from '../../errors.js'
import type { Random } from '../mock/random.js'
import type { MemoryRange } from '../remote-memory.js'

/** An operation as a fault sees it. A `readMany` and a run of a prepared read are one operation each. */
export interface FaultableOperation {
  readonly kind: 'read' | 'write' | 'compareAndSwap'
  readonly ranges: readonly MemoryRange[]
  /** Counts the operations of the decorated memory, from 1. */
  readonly number: number
}

/** Every nth operation, each with a probability, or those that a predicate picks. */
export type Trigger =
  | { readonly every: number }
  | { readonly probability: number }
  | { readonly when: (operation: FaultableOperation) => boolean }

export interface FaultOptions {
  readonly strike: Trigger
  readonly random: Random
}

/** @throws BackdoorsError INVALID_ARGUMENT for a trigger that makes no sense. */
export function makeTrigger({ strike, random }: FaultOptions): (operation: FaultableOperation) => boolean {
  if ('when' in strike) return strike.when
  if ('every' in strike) {
    if (!Number.isSafeInteger(strike.every) || strike.every < 1) {
      throw new BackdoorsError('INVALID_ARGUMENT', `every ${String(strike.every)}th operation cannot fail; give 1 or more`, { field: 'every' })
    }
    return ({ number }) => number % strike.every === 0
  }
  if (!(strike.probability >= 0 && strike.probability <= 1)) {
    throw new BackdoorsError('INVALID_ARGUMENT', `a probability of ${String(strike.probability)} is not from 0 to 1`, { field: 'probability' })
  }
  return () => random.chance(strike.probability)
}
