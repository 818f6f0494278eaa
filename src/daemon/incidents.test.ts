import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../errors.js'
import type { BoxVerdict, Evidence, NodeVerdict, ObservedSensor } from '../monitor/verdict.js'
import type { RecoveryReport, RecoveryTarget } from '../recovery/recover.js'
import { recoverySteps } from '../region/control.js'
import { IncidentLog } from './incidents.js'

const node: RecoveryTarget = { kind: 'node' }
const os: ObservedSensor = { name: 'os', counter: 7, pending: 1, ageUs: 60_000, deadlineUs: 50_000, stalled: true }
const stalled: NodeVerdict = { kind: 'os-stalled', seen: 'the OS sensor has not moved', sensor: os }
const alive: NodeVerdict = { kind: 'alive', seen: 'it is connected anew' }
const app = (generation: number): BoxVerdict => ({ kind: 'app-exited', box: 2, generation, name: 'shop', seen: 'the daemon has marked the process as gone' })
const seenAt = (atMs: number, verdict: NodeVerdict | BoxVerdict): Evidence => ({ by: 'a', atUs: atMs * 1000, seen: verdict.seen, ...(verdict.sensor ? { sensor: verdict.sensor } : {}) })
const report = (more: Partial<RecoveryReport> = {}): RecoveryReport =>
  ({ peer: 'b', target: node, outcome: 'announced', steps: [], boxes: [1], unsettled: [], inherited: [], found: 9, adopted: 8, known: 0, refused: 1, expired: 2, corrupt: 3, stale: 4, damagedNotes: 0, reads: 5, bytes: 6, ...more })

function log(): IncidentLog {
  return new IncidentLog(() => Date.UTC(2026, 0, 2, 3, 4, 5))
}

function tell(incidents: IncidentLog, peer: string, atMs: number, verdict: NodeVerdict | BoxVerdict): void {
  incidents.verdict(peer, verdict, seenAt(atMs, verdict))
}

describe('an incident', () => {
  it('goes from the last sign of life by suspicion and recovery to announcement', () => {
    const incidents = log()
    tell(incidents, 'b', 1000, stalled)
    for (const [i, step] of recoverySteps.entries()) incidents.step('b', node, step, 1001 + i)
    expect(incidents.incidents).toMatchObject([{ outcome: 'recovering' }])
    incidents.report(report())
    expect(incidents.incidents).toEqual([{
      id: 1, peer: 'b', startedAt: '2026-01-02T03:04:05.000Z', lastMovedAtMs: 940, suspectedAtMs: 1000, attempts: 1, outcome: 'announced',
      verdicts: [{ peer: 'b', verdict: 'os-stalled', atMs: 1000, evidence: { by: 'a', atUs: 1_000_000, seen: stalled.seen, sensor: os } }],
      steps: recoverySteps.map((step, i) => ({ step, atMs: 1001 + i })),
      sessions: { found: 9, adopted: 8, known: 0, refused: 1, expired: 2, corrupt: 3, stale: 4 }, lost: 8,
    }])
    expect(incidents.unresolved).toBe(0)
  })

  it('of a node that comes back by itself has passed', () => {
    const incidents = log()
    tell(incidents, 'b', 1000, { kind: 'daemon-stalled', seen: 'servers move' })
    expect(incidents.unresolved).toBe(1)
    tell(incidents, 'b', 1500, alive)
    expect(incidents.incidents).toMatchObject([{ outcome: 'passed', aliveAgainAtMs: 1500, steps: [], attempts: 0 }])
    expect(incidents.unresolved).toBe(0)
  })

  it('stays one while verdicts follow each other, and another comes after the node was alive', () => {
    const incidents = log()
    tell(incidents, 'b', 1, { kind: 'daemon-stalled', seen: '' })
    tell(incidents, 'b', 2, stalled)
    tell(incidents, 'b', 3, alive)
    tell(incidents, 'b', 4, alive)
    tell(incidents, 'b', 5, stalled)
    expect(incidents.incidents.map(({ id, verdicts }) => [id, verdicts.map(({ verdict }) => verdict)])).toEqual([[1, ['daemon-stalled', 'os-stalled']], [2, ['os-stalled']]])
  })

  it('is of one server, or of one life of it, or of the whole node', () => {
    const incidents = log()
    tell(incidents, 'b', 1, app(1))
    tell(incidents, 'b', 2, app(2))
    tell(incidents, 'b', 3, stalled)
    incidents.report(report({ target: { kind: 'box', box: 2, generation: 1 }, outcome: 'superseded' }))
    expect(incidents.incidents.map(({ server, outcome }) => [server, outcome])).toEqual([['shop', 'superseded'], ['shop', 'standing'], [undefined, 'standing']])
    expect(incidents.incidents[0]).not.toHaveProperty('sessions')
  })

  it('says why a recovery failed, and how often it was tried', () => {
    const incidents = log()
    tell(incidents, 'b', 1, stalled)
    incidents.step('b', node, 'suspected', 2)
    incidents.step('b', node, 'fenced', 3)
    incidents.failure('b', node, new BackdoorsError('FENCE_FAILED', 'the command said no'))
    expect(incidents.incidents).toMatchObject([{ outcome: 'failed', error: { code: 'FENCE_FAILED', message: 'the command said no' } }])
    expect(incidents.unresolved).toBe(1)
    incidents.step('b', node, 'suspected', 1002)
    expect(incidents.incidents).toMatchObject([{ outcome: 'recovering', attempts: 2, steps: [{ step: 'suspected', atMs: 1002 }] }])
    incidents.failure('b', node, 'x'.repeat(10_000))
    expect(incidents.incidents[0]?.error).toEqual({ code: 'UNKNOWN', message: 'x'.repeat(400) })
  })

  it('that nobody spoke of before is none', () => {
    const incidents = log()
    incidents.step('b', node, 'suspected', 1)
    incidents.report(report())
    incidents.failure('b', node, new Error('no'))
    expect(incidents.incidents).toEqual([])
    expect(incidents.revision).toBe(0)
  })
})

describe('what is kept', () => {
  it('is the last 200 incidents', () => {
    const incidents = log()
    for (let i = 0; i < 300; i++) tell(incidents, `n${i}`, i, stalled)
    expect(incidents.incidents.map(({ id }) => id)).toEqual(Array.from({ length: 200 }, (_, i) => i + 101))
    expect(incidents.total).toBe(300)
  })

  it('is the last 32 verdicts on each peer: one that flaps does not push out the others', () => {
    const incidents = log()
    tell(incidents, 'b', 0, stalled)
    for (let i = 1; i <= 3000; i++) tell(incidents, 'c', i, i % 2 ? stalled : alive)
    const { history } = incidents
    expect(history.filter(({ peer }) => peer === 'c').map(({ atMs }) => atMs)).toEqual(Array.from({ length: 32 }, (_, i) => 2969 + i))
    expect(history[0]).toMatchObject({ peer: 'b', verdict: 'os-stalled' })
  })

  it('is 1000 verdicts in all, and 16 of one incident', () => {
    const incidents = log()
    for (let peer = 0; peer < 100; peer++) for (let i = 0; i < 20; i++) tell(incidents, `n${peer}`, i, i % 2 ? stalled : { kind: 'daemon-stalled', seen: '' })
    expect(incidents.history).toHaveLength(1000)
    expect(incidents.incidents.every(({ verdicts }) => verdicts.length === 16)).toBe(true)
  })

  it('changes its revision with everything that is told, and what was handed out stays as it was', () => {
    const incidents = log()
    const revisions = [incidents.revision]
    const then = (run: () => void): void => {
      run()
      revisions.push(incidents.revision)
    }
    then(() => tell(incidents, 'b', 1, stalled))
    const before = incidents.incidents
    then(() => incidents.step('b', node, 'suspected', 2))
    then(() => incidents.report(report()))
    then(() => incidents.failure('b', node, new Error('no')))
    then(() => tell(incidents, 'b', 9, alive))
    expect(new Set(revisions).size).toBe(revisions.length)
    expect(before).toMatchObject([{ outcome: 'standing', steps: [] }])
  })
})
