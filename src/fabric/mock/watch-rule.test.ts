import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { WatchedCell, WatchEvent, WatchPlan } from '../remote-memory.js'
import { type CellSample, type Moment, WatchRule } from './watch-rule.js'

const cell: WatchedCell = { counterOffset: 0, deadlineUs: 100 }
const plan: WatchPlan = { cells: [cell], intervalUs: 10, unreachableAfterUs: 50 }
const at = (atUs: number, lateUs = 0): Moment => ({ atUs, lateUs })
const busy = (counter: number): CellSample[] => [{ counter, pending: 1 }]
const idle = (counter: number): CellSample[] => [{ counter, pending: 0 }]

/** A read that takes 2 µs. */
const see = (rule: WatchRule, postedUs: number, samples: CellSample[], lateUs = 0): WatchEvent[] =>
  rule.succeeded(at(postedUs, lateUs), at(postedUs + 2, lateUs), samples)

describe('WatchRule', () => {
  it('counts from the completion that first saw a value to the post that last saw it', () => {
    const rule = new WatchRule(plan, at(0))
    expect(see(rule, 0, busy(7))).toEqual([])
    expect(see(rule, 101, busy(7))).toEqual([])
    expect(rule.cells[0]).toEqual({ counter: 7, pending: 1, ageUs: 99, stalled: false })
    expect(see(rule, 102, busy(7))).toEqual([{ kind: 'stalled', cell: 0, counter: 7, lastChangeUs: 2, atUs: 104 }])
  })

  it('does not take a slow round trip for a standstill', () => {
    const rule = new WatchRule(plan, at(0))
    see(rule, 0, busy(7))
    expect(rule.succeeded(at(10), at(5_000), busy(7))).toEqual([])
    expect(rule.cells[0]?.ageUs).toBe(8)
  })

  it('tells each edge once', () => {
    const rule = new WatchRule(plan, at(0))
    const kinds = [[0, 1], [200, 1], [300, 1], [310, 2], [320, 2], [330, 3], [500, 3], [510, 3]].flatMap(([us, counter]) =>
      see(rule, us as number, busy(counter as number)).map(({ kind }) => kind),
    )
    expect(kinds).toEqual(['stalled', 'moved', 'stalled'])
  })

  it('holds the age at 0 while nothing is pending, and begins when work is first seen', () => {
    const rule = new WatchRule(plan, at(0))
    for (const us of [0, 500, 1_000]) expect(see(rule, us, idle(1))).toEqual([])
    expect(see(rule, 5_000, busy(1))).toEqual([])
    expect(rule.cells[0]?.ageUs).toBe(0)
    expect(see(rule, 5_101, busy(1))).toEqual([])
    expect(see(rule, 5_102, busy(1))).toMatchObject([{ kind: 'stalled', lastChangeUs: 5_002 }])
    expect(see(rule, 5_110, idle(1))).toEqual([{ kind: 'moved', cell: 0, counter: 1, atUs: 5_112 }])
    expect(rule.cells[0]).toEqual({ counter: 1, pending: 0, ageUs: 0, stalled: false })
  })

  it('does not count time in which the watcher was late', () => {
    const rule = new WatchRule(plan, at(0))
    see(rule, 0, busy(1))
    expect(see(rule, 10_000, busy(1), 9_950)).toEqual([])
    expect(rule.cells[0]?.ageUs).toBe(48)
    expect(see(rule, 10_052, busy(1), 9_950)).toMatchObject([{ kind: 'stalled' }])
  })

  it('tells that the memory is unreachable when reads have failed for so long, with their first error', () => {
    const rule = new WatchRule(plan, at(0))
    see(rule, 8, busy(1))
    expect(rule.failed(at(30), 'WC_RETRY_EXC_ERR')).toEqual([])
    expect(rule.failed(at(59), 'WC_WR_FLUSH_ERR')).toEqual([])
    expect(rule.failed(at(60), 'WC_WR_FLUSH_ERR')).toEqual([{ kind: 'unreachable', status: 'WC_RETRY_EXC_ERR', sinceUs: 10, atUs: 60 }])
    expect(rule.failed(at(900), 'WC_WR_FLUSH_ERR')).toEqual([])
    expect(rule.reachable).toBe(false)
  })

  it('tells TIMEOUT where a read does not come back', () => {
    const rule = new WatchRule(plan, at(100))
    expect(rule.stillPending(at(149))).toEqual([])
    expect(rule.stillPending(at(150))).toEqual([{ kind: 'unreachable', status: 'TIMEOUT', sinceUs: 100, atUs: 150 }])
  })

  it('finds no memory unreachable for its own delay', () => {
    const rule = new WatchRule(plan, at(0))
    expect(rule.stillPending(at(10_000, 9_960))).toEqual([])
    expect(rule.stillPending(at(10_010, 9_960))).toMatchObject([{ kind: 'unreachable' }])
  })

  it('begins ages anew when the memory is reachable again', () => {
    const rule = new WatchRule(plan, at(0))
    see(rule, 0, busy(1))
    rule.failed(at(1_000), 'WC_RETRY_EXC_ERR')
    expect(see(rule, 2_000, busy(1))).toEqual([{ kind: 'reachable', atUs: 2_002 }])
    expect(rule.cells[0]?.ageUs).toBe(0)
    expect(see(rule, 2_102, busy(1))).toMatchObject([{ kind: 'stalled', lastChangeUs: 2_002 }])
  })

  it('keeps the history of cells at the same offsets, and of no others', () => {
    const rule = new WatchRule(plan, at(0))
    see(rule, 0, busy(1))
    see(rule, 90, busy(1))
    rule.update({ ...plan, cells: [{ ...cell, pendingOffset: 4 }, { ...cell, deadlineUs: 80 }] })
    expect(see(rule, 95, [...busy(1), ...busy(1)])).toMatchObject([{ kind: 'stalled', cell: 1, lastChangeUs: 2 }])
    expect(rule.cells.map(({ ageUs }) => ageUs)).toEqual([0, 93])
  })

  it('never condemns a counter that was not the same, busy and read for its whole deadline', () => {
    const step = fc.record({ gapUs: fc.nat(60), tripUs: fc.nat(20), counter: fc.nat(2), pending: fc.nat(1), lateUs: fc.nat(60), fails: fc.boolean() })
    const property = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const rule = new WatchRule(plan, at(0))
      let [nowUs, lateUs] = [0, 0]
      // When the present run of equal, busy samples began, by a model that knows nothing of the rule.
      let run: { counter: number; from: Moment } | undefined
      for (const { gapUs, tripUs, counter, pending, lateUs: late, fails } of steps) {
        nowUs += gapUs
        lateUs += Math.min(late, gapUs)
        const posted = at(nowUs, lateUs)
        nowUs += tripUs
        const completed = at(nowUs, lateUs)
        if (fails) {
          rule.failed(completed, 'WC_RETRY_EXC_ERR')
          continue
        }
        if (pending === 0) run = undefined
        else if (run?.counter !== counter) run = { counter, from: completed }
        const stalled = rule.succeeded(posted, completed, [{ counter, pending }]).find(({ kind }) => kind === 'stalled')
        if (stalled === undefined) continue
        expect(run).toBeDefined()
        const { from } = run as { from: Moment }
        expect(posted.atUs - from.atUs - (posted.lateUs - from.lateUs)).toBeGreaterThanOrEqual(cell.deadlineUs)
      }
    })
    fc.assert(property, { numRuns: 1_000 })
  })
})
