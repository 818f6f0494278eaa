/** The ledger against the site's own pages: what is true passes, and each kind of untruth is noticed. */
import { beforeEach, describe, expect, it } from 'vitest'
import { bidsPage, cartPage, mePage, watchPage } from '../application/list-pages.js'
import { homePage, itemPage } from '../application/pages.js'
import type { Html } from '../application/html.js'
import type { Visit } from '../application/visit.js'
import { bid, frameOf, item } from '../testing/items.js'
import { UserLedger, type Finding } from './ledger.js'
import { PageSeen } from './page-reader.js'

const user = { id: 1, name: 'user-1' }
const seen = (page: Html): PageSeen => new PageSeen(page.text)
const itemSeen = (bids: readonly ReturnType<typeof bid>[], visit: Partial<Visit> = {}): PageSeen =>
  seen(itemPage(frameOf({ user, ...visit }), { item: { ...item, highestCents: bids[0]?.cents ?? null }, history: bids }))

let ledger: UserLedger
const violations = (): Finding['violation'][] => ledger.findings.map(({ violation }) => violation)

beforeEach(() => {
  ledger = new UserLedger('user-1')
  ledger.isLoggedIn = true
})

describe('an item’s history', () => {
  beforeEach(() => {
    ledger.steps.set('k1', { kind: 'bid', item: 7, cents: 900, state: 'accepted' })
  })

  it('with each own bid once is true', () => {
    ledger.verify(itemSeen([bid('user-2', 950), bid('user-1', 900)]), 'item')
    expect(ledger.findings).toEqual([])
  })

  it('without an acknowledged bid has lost it', () => {
    ledger.verify(itemSeen([bid('user-2', 950)]), 'item')
    expect(ledger.findings).toEqual([{ violation: 'lost', what: 'user-1: the bid of 900 on item 7 is not there' }])
  })

  it('with a bid twice has it twice', () => {
    ledger.verify(itemSeen([bid('user-1', 900), bid('user-1', 900)]), 'item')
    expect(violations()).toContain('twice')
  })

  it('with a bid that nobody made has invented it', () => {
    ledger.verify(itemSeen([bid('user-1', 1000), bid('user-1', 900)]), 'item')
    expect(violations()).toEqual(['invented'])
  })

  it('with a bid that was refused has invented it', () => {
    ledger.steps.set('k2', { kind: 'bid', item: 7, cents: 800, state: 'refused' })
    ledger.verify(itemSeen([bid('user-1', 900), bid('user-1', 800)]), 'item')
    expect(violations()).toEqual(['invented'])
  })

  it('may have a bid that was sent and not answered, or not', () => {
    ledger.steps.set('k2', { kind: 'bid', item: 7, cents: 950, state: 'sent' })
    ledger.verify(itemSeen([bid('user-1', 900)]), 'item')
    ledger.verify(itemSeen([bid('user-1', 950), bid('user-1', 900)]), 'item')
    expect(ledger.findings).toEqual([])
  })

  it('that has become shorter has lost somebody’s bid', () => {
    ledger.verify(itemSeen([bid('user-2', 950), bid('user-1', 900)]), 'item')
    ledger.verify(itemSeen([bid('user-1', 900)]), 'item')
    expect(violations()).toEqual(['lost'])
  })
})

describe('the visit', () => {
  it('that has lost its login, or has another’s, is noticed', () => {
    ledger.verify(seen(homePage(frameOf(), [], [])), 'home')
    ledger.verify(seen(homePage(frameOf({ user: { id: 2, name: 'user-2' } }), [], [])), 'home')
    expect(violations()).toEqual(['lost', 'invented'])
  })

  it('that holds what was put in is true', () => {
    ledger.cart.set(7, 2)
    ledger.drafts.set(7, 1200)
    ledger.watched.add(7)
    const frame = frameOf({ user, cart: [{ item: 7, quantity: 2 }], drafts: [{ item: 7, cents: 1200 }], watched: [7] })
    ledger.verify(seen(cartPage(frame, [item])), 'cart')
    ledger.verify(seen(bidsPage(frame, [item])), 'bids')
    ledger.verify(seen(watchPage(frame, [item])), 'watchlist')
    expect(ledger.findings).toEqual([])
  })

  it.each([
    ['a cart that lost a line', { cart: [] }, ['lost', 'lost']],
    ['a cart with another quantity', { cart: [{ item: 7, quantity: 1 }] }, ['lost']],
    ['a cart with a line too many', { cart: [{ item: 7, quantity: 2 }, { item: 8, quantity: 1 }] }, ['invented', 'invented']],
  ] as const)('%s is noticed', (_, visit, expected) => {
    ledger.cart.set(7, 2)
    ledger.verify(seen(cartPage(frameOf({ user, ...visit }), [item, { ...item, id: 8 }])), 'cart')
    expect(violations()).toEqual(expected)
  })

  it('that answers with another page is broken', () => {
    ledger.verify(seen(homePage(frameOf({ user }), [], [])), 'cart')
    expect(violations()).toEqual(['broken'])
  })
})

describe('the account', () => {
  const purchase = { key: 'k1', item: 7, title: 'Globe', quantity: 2, cents: 4000 }

  it('is compared with what was bought and put up', () => {
    ledger.steps.set('k1', { kind: 'checkout', state: 'accepted', bought: [{ item: 7, quantity: 2, cents: 4000 }] })
    ledger.steps.set('k2', { kind: 'sell', state: 'accepted', title: 'A "box"', item: 8 })
    const own = { ...item, id: 8, title: 'A "box"' }
    ledger.verify(seen(mePage(frameOf({ user }), [], [purchase], [own])), 'me')
    expect(ledger.findings).toEqual([])
    ledger.verify(seen(mePage(frameOf({ user }), [], [], [])), 'me')
    expect(violations()).toEqual(['lost', 'lost'])
    ledger.findings.length = 0
    ledger.verify(seen(mePage(frameOf({ user }), [], [purchase, purchase], [own, own])), 'me')
    expect(violations()).toEqual(['twice', 'invented', 'twice'])
  })
})

describe('the page reader', () => {
  it('reads back what the templates escape, and finds each form with its key', () => {
    const page = itemSeen([bid('user-2', 900)])
    expect(page.row('shown')).toMatchObject({ title: 'Brass <globe> & "stand"', id: '7', least: '950', 'buy-now': '2000' })
    expect(page.form('/watch')?.fields).toEqual({ key: expect.stringContaining('key-of') as string, item: '7' })
    expect(page.form('/unwatch')).toBeUndefined()
    expect(page.rows('bid')).toHaveLength(1)
  })
})
