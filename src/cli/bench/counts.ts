/** Options of benchmarks that are numbers of things. */
import { InvalidArgumentError } from 'commander'

/**
 * @param least 0 or 1; whatever else commander hands on beside the text means 1
 * @throws InvalidArgumentError, of which commander makes the command line's own word
 */
export function parseCount(text: string, least: unknown = 1): number {
  const count = Number(text)
  const lowest = least === 0 ? 0 : 1
  if (Number.isInteger(count) && count >= lowest && count <= 1e9) return count
  throw new InvalidArgumentError(`It has to be a whole number from ${lowest} to 1,000,000,000.`)
}

/** With commas between. */
export const parseCounts = (text: string): number[] => text.split(',').map((count) => parseCount(count))
