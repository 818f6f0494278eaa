import type { Socket } from 'node:net'
import type { ResetReason } from '../recovery/tcp/connection.js'

/** A client's connection that a failed server had, and that stands on this machine now. All counts are in bytes of the failed machine's life of it. */
export interface RestoredConnection {
  /** As `connectionName` has it: the id of its session. */
  readonly name: string
  /** Incarnation of the failed machine's region, in hexadecimal without leading zeros: whose counts these are. */
  readonly life: string
  /** Paused: nothing has been read from it. `unread` bytes wait in its receive queue before whatever the client sends. */
  readonly socket: Socket
  /** That the failed server had read: the next byte from `socket` is the one after them. */
  readonly read: number
  /** That the failed server had written: they reach the client, whether it had them already or not. */
  readonly written: number
  readonly unread: number
  /** Of `written`, those at its end that the client had not acknowledged. */
  readonly unacknowledged: number
}

/** What became of it. A server that resets it says why. */
export interface ConnectionOutcome {
  readonly name: string
  readonly reset?: ResetReason | undefined
}

/** Is given connections as they come over, and says of each, once, what became of it. */
export type OnRestored = (connection: RestoredConnection) => Promise<ConnectionOutcome>
