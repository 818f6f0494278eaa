import { isIP } from 'node:net'
import { BackdoorsError } from '../errors.js'

/** Longest name of a node or a cluster, in characters: one DNS label's worth. */
export const maxNameLength = 63
const namePattern = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/

/**
 * A node's name stands in its certificate, in file names and in logs, so its alphabet is small. What reads as
 * an IP address is no name: TLS would treat it as one.
 */
export function isNodeName(name: unknown): name is string {
  return typeof name === 'string' && name.length <= maxNameLength && namePattern.test(name) && isIP(name) === 0
}

/** @throws BackdoorsError INVALID_ARGUMENT if `name` cannot name a node (or, by the same rule, a cluster). */
export function assertName(name: unknown, field: 'node' | 'cluster'): asserts name is string {
  if (isNodeName(name)) return
  const shown = JSON.stringify(String(name).slice(0, 80))
  throw new BackdoorsError(
    'INVALID_ARGUMENT',
    `${shown} cannot name a ${field}: use 1 to ${maxNameLength} characters of a-z, 0-9, "." and "-", a letter or digit first and last, and not an IP address`,
    { field },
  )
}
