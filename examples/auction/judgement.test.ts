import { describe, expect, it } from 'vitest'
import { judge, type Evidence } from './judgement.js'
import { parseFlags, type AuctionFlags } from './options.js'
import { summaryText } from './summary.js'

const flags: AuctionFlags = { users: '50', seconds: '20', failure: 'kill', port: '0' }
const users: Evidence['users'] = {
  ok: true, users: 2, trueStories: 2, pages: 9, bids: 3, purchases: 1, offers: 0, lost: 0, twice: 0, invented: 0, broken: 0,
  sentAgain: 0, connections: 2, waits: { p50: 1, p99: 2, longest: 3 }, findings: [],
}
const observations = { detected: { by: 'b', atMs: 150, verdict: 'os-stalled' }, recovered: { by: 'b', atMs: 160.04, sessions: 4 } }
const whole: Evidence = {
  options: parseFlags(flags, () => 7), users, askedAgain: 5,
  failures: [{ node: 'a', atMs: 100, observations }, { node: 'b', atMs: 100, between: { key: 'k', kind: 'bid' }, observations }],
  finished: [{ node: 'c', key: 'k', kind: 'bid', wasDone: true }],
}

describe('the judgement', () => {
  it('is good where every story stayed true and both failures were recovered from', () => {
    const judgement = judge(whole)
    expect(judgement).toMatchObject({ ok: true, faults: [], seed: 7, interrupted: { finished: 1, wereInDatabase: 1 } })
    expect(judgement.failures).toEqual([
      { node: 'a', instant: 'random', detectMs: 50, recoverMs: 60, recoveredBy: 'b', visits: 4 },
      { node: 'b', instant: 'between-commits', detectMs: 50, recoverMs: 60, recoveredBy: 'b', visits: 4 },
    ])
    expect(summaryText(judgement, (_, text) => text)).toContain('OK: the story of each of 2 users stayed true.')
    expect(summaryText(judgement, (_, text) => text)).toContain('--users 2 --seconds 20 --failure kill --seed 7\n')
  })

  it.each<[string, Partial<Evidence>, string]>([
    ['a story did not stay true', { users: { ...users, ok: false, trueStories: 1, findings: ['user-1: a bid is not there'] } }, '1 of 2 users\' stories did not stay true'],
    ['nobody recovered a node', { failures: [{ node: 'a', atMs: 100, observations: {} }] }, 'nobody recovered the visits of node a'],
    ['no node failed between the two commits of a step', { failures: whole.failures.slice(0, 1) }, 'no node failed between the two commits of a step: none of its users began one in time; run it again'],
    ['nobody finished the step between its commits', { finished: [] }, 'nobody finished the bid that node b had committed to the database alone'],
  ])('is bad where %s', (_, part, fault) => {
    const judgement = judge({ ...whole, ...part })
    expect(judgement.ok).toBe(false)
    expect(judgement.faults[0]).toBe(fault)
    expect(summaryText(judgement, (_style, text) => text)).toContain(`FAILED: ${fault}`)
  })
})

it.each([
  [{ failure: 'burn' }, '--failure takes kill or stop, not "burn".'],
  [{ users: '0' }, '--users takes a whole number from 1 to 2000, not "0".'],
  [{ seconds: '1e3' }, '--seconds takes a whole number from 5 to 3600, not "1e3".'],
  [{ seed: '-1' }, '--seed takes a whole number from 0 to 9007199254740991, not "-1".'],
])('options %j are refused', (part, message) => {
  expect(() => parseFlags({ ...flags, ...part }, () => 1)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }) as Error)
})
