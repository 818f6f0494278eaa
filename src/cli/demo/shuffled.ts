import type { Random } from '../../fabric/mock/random.js'

/** A shuffled copy (Fisher and Yates). */
export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const copy = [...items]
  for (let at = copy.length - 1; at > 0; at--) {
    const other = Math.floor(random.float() * (at + 1))
    const item = copy[at] as T
    copy[at] = copy[other] as T
    copy[other] = item
  }
  return copy
}
