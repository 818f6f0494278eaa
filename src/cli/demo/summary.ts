/** The demo's judgement: from the clients' ledgers, and what was seen of the failure, to figures and a verdict. */
import type { Canary } from '../../safeguards.js'
import type { SessionLedger, Violation } from './ledger.js'
import type { Observations } from './observer.js'
import type { DemoOptions, Failure } from './options.js'

export interface Evidence {
  readonly options: DemoOptions
  readonly failedNode: string
  /** CLOCK_MONOTONIC in milliseconds. */
  readonly failedAtMs: number
  readonly ledgers: readonly SessionLedger[]
  /** Ids of the sessions whose next commit was half written. */
  readonly halfWritten: readonly string[]
  readonly observations: Observations
  /** The longest that a client of the failed node waited for an answer after the failure. */
  readonly longestWaitMs: number
  /** What the node said, woken again, to requests that had been on their way to it. */
  readonly woken: { readonly refused: number; readonly acknowledged: number } | undefined
}

/** What `--json` prints. Times are milliseconds since the failure. */
export interface Judgement {
  readonly ok: boolean
  /** Why not; empty where `ok`. */
  readonly faults: readonly string[]
  readonly failure: Failure
  readonly canary: Canary | null
  readonly nodes: number
  readonly seed: number
  readonly sessions: number
  readonly requests: number
  readonly failedNode: string
  readonly failedSessions: number
  readonly recovered: number
  readonly lost: number
  readonly servedTwice: number
  readonly invented: number
  readonly halfWritten: { readonly planted: number; readonly discarded: number }
  readonly verdict: string | null
  readonly detectedBy: string | null
  readonly recoveredBy: string | null
  readonly detectMs: number | null
  readonly recoverMs: number | null
  readonly firstClientMs: number | null
  readonly lastClientMs: number | null
  readonly longestWaitMs: number
  readonly woken: Evidence['woken'] | null
}

/** Findings that are told in full. */
const toldFindings = 5

export function judge(evidence: Evidence): Judgement {
  const { options, ledgers, observations, failedAtMs } = evidence
  const { detected, recovered } = observations
  const since = (atMs: number | undefined): number | null => (atMs === undefined ? null : round(atMs - failedAtMs))
  const failed = ledgers.filter((ledger) => ledger.wasOnFailedNode)
  const servedAgainAtMs = failed.flatMap(({ recovery }) => (recovery ? [recovery.atMs] : [])).sort((a, b) => a - b)
  const planted = new Set(evidence.halfWritten)
  const counts = { lost: count(ledgers, 'lost'), servedTwice: count(ledgers, 'servedTwice'), invented: count(ledgers, 'invented') }
  const figures = {
    failedSessions: failed.length,
    recovered: failed.filter(isRecovered).length,
    ...counts,
    halfWritten: { planted: planted.size, discarded: failed.filter((ledger) => planted.has(ledger.session) && isRecovered(ledger)).length },
  }
  const faults = [...faultsOf(figures, observations, options.canary === 'crc'), ...ledgers.flatMap(({ findings }) => findings.map(({ what }) => what)).slice(0, toldFindings)]
  return {
    ok: faults.length === 0,
    faults,
    failure: options.failure,
    canary: options.canary ?? null,
    nodes: options.nodes,
    seed: options.seed,
    sessions: ledgers.length,
    requests: ledgers.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
    failedNode: evidence.failedNode,
    ...figures,
    verdict: detected?.verdict ?? null,
    detectedBy: detected?.by ?? null,
    recoveredBy: recovered?.by ?? null,
    detectMs: since(detected?.atMs),
    recoverMs: since(recovered?.atMs),
    firstClientMs: since(servedAgainAtMs[0]),
    lastClientMs: since(servedAgainAtMs.at(-1)),
    longestWaitMs: round(evidence.longestWaitMs),
    woken: evidence.woken ?? null,
  }
}

const round = (ms: number): number => Math.round(ms * 10) / 10

const count = (ledgers: readonly SessionLedger[], violation: Violation): number => ledgers.filter((ledger) => ledger.has(violation)).length

const isRecovered = (ledger: SessionLedger): boolean => ledger.recovery !== undefined && !ledger.has('lost') && !ledger.has('invented')

type Figures = Pick<Judgement, 'failedSessions' | 'recovered' | 'lost' | 'servedTwice' | 'invented' | 'halfWritten'>

function faultsOf(figures: Figures, { detected, recovered: announced }: Observations, isCrcOff: boolean): string[] {
  const { failedSessions, recovered, lost, servedTwice, invented, halfWritten } = figures
  const faults: [boolean, string][] = [
    [failedSessions === 0, 'the failed node had no sessions'],
    // On a busy machine the fence may come first; what is shown by them is shown then by another run.
    [isCrcOff && halfWritten.planted === 0, 'no half-written commit could be planted before the node was fenced'],
    [detected === undefined, 'nobody saw the failure'],
    [announced === undefined, 'nobody announced the recovery of its sessions'],
    [recovered < failedSessions, `${failedSessions - recovered} of ${failedSessions} sessions were not recovered`],
    [lost > 0, `${lost} sessions lost acknowledged requests`],
    [servedTwice > 0, `${servedTwice} sessions were served twice`],
    [invented > 0, `${invented} sessions came back in a state that nobody made`],
  ]
  return faults.flatMap(([holds, fault]) => (holds ? [fault] : []))
}
