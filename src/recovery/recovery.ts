/** What a recovery is told, and what it tells: its options and its report. */
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { Claim, RecoveryStep } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import type { ReadArena } from '../region/read-arena.js'
import type { ExtractedSession } from '../region/region-reader.js'
import type { SessionOrigin } from '../region/session-record.js'
import type { Safeguards } from '../safeguards.js'
import type { AdoptionNotes, AdoptionSource } from './adoption-notes.js'
import type { Succession } from './succession.js'
import type { Witnesses } from './witness.js'

export type RecoveryTarget =
  | { readonly kind: 'node' }
  | { readonly kind: 'box'; readonly box: number; readonly generation: number }

/** A session on its way to its new home. */
export interface RecoveredSession extends ExtractedSession {
  /** Where it was found. */
  readonly origin: SessionOrigin
  /** Where it had been before, if it had been adopted there. */
  readonly adoptedFrom: SessionOrigin | undefined
}

export interface AdoptionResult {
  readonly adopted: number
  /** Were here already, from an earlier run of the same recovery. */
  readonly known: number
  /** Found no room: they stay in the dead node's memory. */
  readonly refused: number
}

export interface RecoveryOptions {
  /** The dead node's lent region, on the queue pair that was kept for this. */
  readonly memory: RemoteMemory
  readonly header: RegionHeader
  readonly target: RecoveryTarget
  /** This node's number (1 to 65535) for claim words. */
  readonly recoverer: number
  /** Commits the sessions into this node's own region. They must not be served before `announce` is called. */
  readonly adopt: (sessions: readonly RecoveredSession[]) => Promise<AdoptionResult>
  /** What is written down beside what is adopted, so that a recoverer that fails can be succeeded. */
  readonly notes?: AdoptionNotes
  /** What others had under way, as it was read here. */
  readonly witnesses?: Witnesses
  /** May a claim that is held already be taken over? Default: never. */
  readonly judgeClaim?: (source: AdoptionSource, held: Claim, atOnce?: boolean) => Promise<Succession>
  /** Further fencing, run before the claim. A rejection ends the recovery. */
  readonly fenceExternally?: () => Promise<void>
  /** Lets the sessions be served, and moves the clients here. */
  readonly announce: (report: RecoveryReport) => Promise<void>
  readonly onStep?: (step: RecoveryStep, atMs: number) => void
  /** Milliseconds of any monotonic clock. */
  readonly nowMs: () => number
  /** Waits so many milliseconds. Default: the event loop's timers. */
  readonly pause?: (ms: number) => Promise<void>
  /** What is read from the dead node stands there until it is adopted; it is the caller's to reset. Default: new memory. */
  readonly arena?: ReadArena
  readonly safeguards?: Safeguards
}

export interface RecoveryReport {
  readonly peer: string
  readonly target: RecoveryTarget
  /**
   * `announced`: recovered here. `claimed-by-other`: somebody else does it, or did. `superseded`: the server restarted
   * before the fence and serves its sessions itself. `closed`: there is nothing to recover.
   */
  outcome: 'announced' | 'claimed-by-other' | 'superseded' | 'closed'
  readonly steps: { step: RecoveryStep; atMs: number }[]
  readonly boxes: number[]
  /** What others recover and have not come to an end with: it may be taken over, should they fail. */
  readonly unsettled: RecoveryTarget[]
  /** Nodes whose sessions it had adopted in its turn: their clients have to find this node, too. */
  readonly inherited: string[]
  found: number
  adopted: number
  known: number
  refused: number
  expired: number
  /** Entries without any valid version, and sessions of which only an older version was. */
  corrupt: number
  stale: number
  /** Notes of the dead node on its own recoveries (`adoption-notes.ts`) that are damaged in part or in whole: no sessions. */
  damagedNotes: number
  /** RDMA reads and bytes of the extraction. */
  reads: number
  bytes: number
}
