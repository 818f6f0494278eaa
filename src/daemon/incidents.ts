/** What went wrong with the watched, from suspicion to announcement, for people who look at it later. Pure: time comes with what is told. */
import type { RecoveryReport, RecoveryTarget } from '../recovery/recover.js'
import type { RecoveryStep } from '../region/control.js'
import { isBackdoorsError } from '../errors.js'
import type { BoxVerdict, BoxVerdictKind, Evidence, NodeVerdict, NodeVerdictKind } from '../monitor/verdict.js'

type VerdictKind = NodeVerdictKind | BoxVerdictKind

/** One verdict, as it was told. */
export interface VerdictRecord {
  readonly peer: string
  /** Left out where the verdict is on the whole node. */
  readonly server?: string
  readonly verdict: VerdictKind
  /** By the watcher's monotonic clock, in milliseconds. */
  readonly atMs: number
  readonly evidence: Evidence
}

/**
 * `standing`: the verdict stands, and is nobody's to recover, or not yet. `passed`: the subject was alive again before anything was
 * done. `failed`: the last attempt at a recovery failed; it may be tried again. The others are a recovery's own.
 */
export type IncidentOutcome = 'standing' | 'passed' | 'recovering' | 'failed' | RecoveryReport['outcome']

export type SessionCounts = Readonly<Pick<RecoveryReport, 'found' | 'adopted' | 'known' | 'refused' | 'expired' | 'corrupt' | 'stale'>>

/** Times are milliseconds of the watcher's monotonic clock. */
export interface Incident {
  readonly id: number
  readonly peer: string
  readonly server?: string
  /** When it began by this machine's wall clock, for people only. */
  readonly startedAt: string
  /** The last sign of life that was sampled, where the evidence is a sensor. */
  readonly lastMovedAtMs?: number
  readonly suspectedAtMs: number
  /** The verdicts on its subject while it lasted, the first of them what it began with. */
  readonly verdicts: readonly VerdictRecord[]
  /** Of the last attempt at a recovery. */
  readonly steps: readonly { readonly step: RecoveryStep; readonly atMs: number }[]
  readonly attempts: number
  readonly outcome: IncidentOutcome
  readonly sessions?: SessionCounts
  /** Sessions that were there and are not here: they found no room, or no valid version, or only an older one. */
  readonly lost?: number
  /** Why an attempt failed. */
  readonly error?: { readonly code: string; readonly message: string }
  readonly aliveAgainAtMs?: number
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }
type Draft = Mutable<Omit<Incident, 'verdicts' | 'steps'>> & { verdicts: VerdictRecord[]; steps: { step: RecoveryStep; atMs: number }[] }

interface Kept {
  /** The node, or one owner of one box of it. */
  readonly subject: string
  readonly incident: Draft
}

const maxIncidents = 200
const maxVerdicts = 1000
/** One peer that flaps must not push out what was said of the others. */
const maxVerdictsPerPeer = 32
const maxVerdictsPerIncident = 16
const maxMessageLength = 400

export class IncidentLog {
  readonly #wallMs: () => number
  readonly #kept: Kept[] = []
  readonly #history: VerdictRecord[] = []
  #nextId = 1
  #revision = 0

  /** @param wallMs milliseconds since 1970, only ever shown */
  constructor(wallMs: () => number = Date.now) {
    this.#wallMs = wallMs
  }

  /** Changes whenever anything here does. */
  get revision(): number {
    return this.#revision
  }

  /** How many incidents there have ever been; the oldest may have been forgotten. */
  get total(): number {
    return this.#nextId - 1
  }

  /** The last 200, oldest first. A copy. */
  get incidents(): Incident[] {
    return this.#kept.map(({ incident }) => ({ ...incident, verdicts: [...incident.verdicts], steps: [...incident.steps] }))
  }

  /** The last 32 verdicts on each peer, 1000 in all, oldest first. */
  get history(): VerdictRecord[] {
    return [...this.#history]
  }

  /** Incidents that are neither recovered nor over. */
  get unresolved(): number {
    return this.#kept.filter(({ incident: { outcome, aliveAgainAtMs } }) => aliveAgainAtMs === undefined && (outcome === 'standing' || outcome === 'recovering' || outcome === 'failed')).length
  }

  /** The peer is watched no more: whatever stood of it is nobody's concern here any more. */
  unwatched(peer: string, atMs: number): void {
    for (const { incident } of this.#kept) if (incident.peer === peer && incident.aliveAgainAtMs === undefined) end(incident, atMs)
  }

  verdict(peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    const server = 'box' in verdict ? { server: verdict.name } : {}
    const record: VerdictRecord = { peer, ...server, verdict: verdict.kind, atMs: evidence.atUs / 1000, evidence }
    this.#remember(record)
    const subject = subjectOf(peer, 'box' in verdict ? verdict : undefined)
    const last = this.#last(subject)
    const incident = last?.aliveAgainAtMs === undefined ? last : undefined
    if (verdict.kind === 'alive') end(incident, record.atMs)
    else if (incident === undefined) this.#begin(subject, record)
    else if (incident.verdicts.length < maxVerdictsPerIncident) incident.verdicts.push(record)
  }

  step(peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number): void {
    const incident = this.#of(peer, target)
    if (incident === undefined) return
    // Each attempt begins with a suspicion of its own.
    if (step === 'suspected') {
      incident.steps = []
      incident.attempts++
    }
    incident.steps.push({ step, atMs })
    incident.outcome = 'recovering'
    this.#revision++
  }

  report(report: RecoveryReport): void {
    const incident = this.#of(report.peer, report.target)
    if (incident === undefined) return
    const { found, adopted, known, refused, expired, corrupt, stale, outcome } = report
    incident.outcome = outcome
    if (outcome === 'announced') Object.assign(incident, { sessions: { found, adopted, known, refused, expired, corrupt, stale }, lost: refused + corrupt + stale })
    this.#revision++
  }

  /** The recovery may go on all the same, where only a fence that is not required has failed. */
  failure(peer: string, target: RecoveryTarget, error: unknown): void {
    const incident = this.#of(peer, target)
    if (incident === undefined) return
    const message = error instanceof Error ? error.message : String(error)
    incident.error = { code: isBackdoorsError(error) ? error.code : 'UNKNOWN', message: message.slice(0, maxMessageLength) }
    incident.outcome = 'failed'
    this.#revision++
  }

  #remember(record: VerdictRecord): void {
    this.#revision++
    this.#history.push(record)
    const ofPeer = this.#history.filter(({ peer }) => peer === record.peer)
    const [oldest] = ofPeer.length > maxVerdictsPerPeer ? ofPeer : this.#history.length > maxVerdicts ? this.#history : []
    if (oldest) this.#history.splice(this.#history.indexOf(oldest), 1)
  }

  #begin(subject: string, record: VerdictRecord): void {
    const { peer, server, atMs, evidence: { sensor } } = record
    const incident: Draft = {
      id: this.#nextId++, peer, ...(server === undefined ? {} : { server }),
      startedAt: new Date(this.#wallMs()).toISOString(),
      ...(sensor === undefined ? {} : { lastMovedAtMs: atMs - sensor.ageUs / 1000 }),
      suspectedAtMs: atMs, verdicts: [record], steps: [], attempts: 0, outcome: 'standing',
    }
    this.#kept.push({ subject, incident })
    if (this.#kept.length > maxIncidents) this.#kept.shift()
  }

  #last(subject: string): Draft | undefined {
    return this.#kept.findLast((kept) => kept.subject === subject)?.incident
  }

  #of(peer: string, target: RecoveryTarget): Draft | undefined {
    return this.#last(subjectOf(peer, target.kind === 'box' ? target : undefined))
  }
}

function end(incident: Draft | undefined, atMs: number): void {
  if (incident === undefined) return
  incident.aliveAgainAtMs = atMs
  if (incident.outcome === 'standing') incident.outcome = 'passed'
}

const subjectOf = (peer: string, box: { readonly box: number; readonly generation: number } | undefined): string => (box === undefined ? peer : `${peer}/${box.box}/${box.generation}`)
