/** From all users' ledgers to figures, and whether every story has stayed true. */
import type { Rows } from './audit.js'
import { violations, type UserLedger, type Violation } from './ledger.js'

export interface UsersEvidence {
  readonly ledgers: readonly UserLedger[]
  readonly rows: Rows
  /** What the audit found that is nobody's. */
  readonly faults: readonly string[]
  readonly answers: readonly { readonly waitedMs: number; readonly sentAgain: number }[]
  readonly connections: number
}

export interface UsersJudgement extends Readonly<Record<Violation, number>> {
  readonly ok: boolean
  readonly users: number
  /** Users whose story stayed true from first to last. */
  readonly trueStories: number
  /** Pages that were checked. */
  readonly pages: number
  /** Rows that the users' forms left in the database. */
  readonly bids: number
  readonly purchases: number
  readonly offers: number
  /** Requests that a client sent again. */
  readonly sentAgain: number
  readonly connections: number
  /** From a request's first sending to its answer, in milliseconds. */
  readonly waits: { readonly p50: number; readonly p99: number; readonly longest: number }
  readonly findings: readonly string[]
}

const toldFindings = 20

export function judgeUsers({ ledgers, rows, faults, answers, connections }: UsersEvidence): UsersJudgement {
  const findings = ledgers.flatMap((ledger) => ledger.findings)
  const counts = Object.fromEntries(violations.map((violation) => [violation, findings.filter((finding) => finding.violation === violation).length])) as Record<Violation, number>
  const trueStories = ledgers.filter((ledger) => ledger.findings.length === 0).length
  const waits = answers.map(({ waitedMs }) => waitedMs).sort((a, b) => a - b)
  const quantile = (share: number): number => Math.round((waits[Math.min(waits.length - 1, Math.floor(waits.length * share))] ?? 0) * 10) / 10
  const pages = ledgers.reduce((sum, ledger) => sum + ledger.pages, 0)
  return {
    ok: trueStories === ledgers.length && faults.length === 0 && pages > 0,
    users: ledgers.length,
    trueStories,
    pages,
    bids: rows.bids.length,
    purchases: rows.purchases.length,
    offers: rows.items.length,
    ...counts,
    sentAgain: answers.reduce((sum, answer) => sum + answer.sentAgain, 0),
    connections,
    waits: { p50: quantile(0.5), p99: quantile(0.99), longest: quantile(1) },
    findings: [...faults, ...findings.map(({ what }) => what)].slice(0, toldFindings),
  }
}
