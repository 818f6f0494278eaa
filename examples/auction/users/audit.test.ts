import { beforeEach, describe, expect, it } from 'vitest'
import { audit, type Rows } from './audit.js'
import { judgeUsers } from './judgement.js'
import { UserLedger } from './ledger.js'

const bid = { key: 'k1', user: 'user-1', item: 7, cents: 900 }
const none: Rows = { bids: [], purchases: [], items: [], wrongStocks: [], fallingBids: [] }
const whole: Rows = {
  ...none, bids: [bid],
  purchases: [{ key: 'k2', user: 'user-1', item: 8, quantity: 2, cents: 300 }, { key: 'k2', user: 'user-1', item: 9, quantity: 1, cents: 50 }],
  items: [{ key: 'k3', user: 'user-1', id: 130, title: 'Box' }],
}

let ledger: UserLedger
beforeEach(() => {
  ledger = new UserLedger('user-1')
  ledger.pages = 5
  ledger.steps.set('k1', { kind: 'bid', item: 7, cents: 900, state: 'accepted' })
  ledger.steps.set('k2', { kind: 'checkout', state: 'accepted', bought: [{ item: 8, quantity: 2, cents: 300 }, { item: 9, quantity: 1, cents: 50 }] })
  ledger.steps.set('k3', { kind: 'sell', title: 'Box', item: 130, state: 'accepted' })
  ledger.steps.set('k4', { kind: 'bid', item: 7, cents: 100, state: 'refused' })
  ledger.steps.set('k5', { kind: 'bid', item: 7, cents: 950, state: 'sent' })
})

const violations = (): string[] => ledger.findings.map(({ violation }) => violation)
const judged = (rows: Rows): boolean => judgeUsers({ ledgers: [ledger], rows, faults: audit([ledger], rows), answers: [{ waitedMs: 1, sentAgain: 0 }], connections: 1 }).ok

describe('the audit', () => {
  it('finds nothing where the database holds what was acknowledged', () => {
    expect(judged(whole)).toBe(true)
    expect(ledger.findings).toEqual([])
  })

  it('lets what nobody answered be there or not', () => {
    expect(judged({ ...whole, bids: [bid, { ...bid, key: 'k5', cents: 950 }] })).toBe(true)
  })

  it.each<[string, Rows, string[]]>([
    ['a lost bid', { ...whole, bids: [] }, ['lost']],
    ['a bid of another amount', { ...whole, bids: [{ ...bid, cents: 901 }] }, ['lost', 'invented']],
    ['a double bid', { ...whole, bids: [bid, bid] }, ['twice']],
    ['a double bid by another form', { ...whole, bids: [bid, { ...bid, key: 'k9' }] }, ['twice']],
    ['an invented bid', { ...whole, bids: [bid, { ...bid, key: 'k9', cents: 2000 }] }, ['invented']],
    ['a bid that was refused', { ...whole, bids: [bid, { ...bid, key: 'k4', cents: 100 }] }, ['invented']],
    ['half a purchase', { ...whole, purchases: whole.purchases.slice(1) }, ['lost']],
    ['a double purchase', { ...whole, purchases: [...whole.purchases, ...whole.purchases] }, ['twice', 'twice']],
    ['a lost offer', { ...whole, items: [] }, ['lost']],
  ])('notices %s', (_, rows, expected) => {
    expect(judged(rows)).toBe(false)
    expect(violations()).toEqual(expected)
  })

  it.each<[string, Rows, string]>([
    ['a bid of somebody who was not there', { ...whole, bids: [bid, { ...bid, user: 'user-9' }] }, 'a bid of 900 on item 7 of user-9, who was not there'],
    ['pieces that do not add up', { ...whole, wrongStocks: [8] }, 'the pieces of item 8 do not add up'],
    ['bids that do not rise', { ...whole, fallingBids: [7] }, 'the bids on item 7 do not rise'],
  ])('notices %s, though no user’s story is touched', (_, rows, fault) => {
    expect(audit([ledger], rows)).toEqual([fault])
    expect(judged(rows)).toBe(false)
    expect(ledger.findings).toEqual([])
  })
})

it('users who saw no page prove nothing', () => {
  expect(judgeUsers({ ledgers: [new UserLedger('user-1')], rows: none, faults: [], answers: [], connections: 0 }).ok).toBe(false)
})
