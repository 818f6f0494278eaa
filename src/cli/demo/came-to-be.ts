import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../../native/clock.js'

/** Between two looks, in milliseconds. */
const lookEveryMs = 5

/**
 * Waits for a condition that others bring about.
 * @param isOver nothing is to be waited for any more
 * @returns whether it came to be, within the limit and before all was over
 */
export async function cameToBe(condition: () => boolean, limitMs: number, isOver: () => boolean): Promise<boolean> {
  const deadlineMs = monotonicMs() + limitMs
  while (!condition()) {
    if (isOver() || monotonicMs() > deadlineMs) return false
    await sleep(lookEveryMs)
  }
  return true
}
