/** How a control connection ended: evidence for verdicts, so what was seen is told apart with care. */
import type { BackdoorsError } from '../../errors.js'

export type CloseReason =
  /** One side said `bye`. */
  | 'closed-orderly'
  /** The connection was ended without a `bye` (FIN or RST): the peer's program is gone, its machine answers. */
  | 'reset'
  /** Nothing was heard for the deadline, or the network found no way: the machine may be gone too. */
  | 'silent'
  /** The peer broke the protocol and was cut off. */
  | 'misbehaved'
  /** Cut off by us: revoked, struck from the peer list, or replaced by a newer connection of the same peer. */
  | 'dismissed'

export interface Closure {
  readonly reason: CloseReason
  readonly by: 'us' | 'peer'
  /** What was seen, in words. */
  readonly detail: string
  /** How long before the end the peer was last heard, in milliseconds. */
  readonly lastHeardAgoMs: number
  readonly error?: BackdoorsError
}

/** Errors of a socket that mean *no answer*; with every other one the machine, or something on it, has answered. */
const silentErrnos: ReadonlySet<string> = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN'])

export function isSilence(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException
  return code !== undefined && silentErrnos.has(code)
}
