/** What the connections of a server have in common, and what each begins with. */
import type { ResetReason } from '../../recovery/tcp/connection.js'
import type { SessionStore } from '../session-store.js'
import type { Protocol } from './record.js'
import type { Scratch } from './scratch.js'

/** Why nothing more is kept of a connection: it would be reset, or its server may no longer answer. */
export type GivenUp = ResetReason | 'FENCED' | 'CLOSED'

export interface Common {
  readonly store: SessionStore<Uint8Array>
  /** Ids of those that are this server's, and not on their way to it. */
  readonly live: Set<string>
  /** Incarnation of this machine's region. */
  readonly life: bigint
  readonly scratch: Scratch
  readonly maxInputBytes: number
  readonly maxLiteralBytes: number
  readonly volatile: ReadonlySet<string>
  readonly mayUpgrade: (method: string, head: string) => boolean
  readonly gaveUp: (reason: GivenUp) => void
}

/** Where a connection is when this machine gets it. */
export interface Beginning {
  readonly protocol: Protocol
  readonly id: string
  readonly nonce: bigint
  readonly base: { readonly read: number; readonly written: number }
  readonly inputAt: number
  readonly outputAt: number
  readonly nextRequest: number
}
