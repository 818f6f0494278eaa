/**
 * What one user knows of its own story: what it did, what it was told came of it, and so what every page has to show. The
 * example is judged from these ledgers and the database, never from what a recovery says of itself.
 */
import type { PageSeen, Row } from './page-reader.js'

/**
 * `lost`: something acknowledged is not there. `twice`: it is there more than once. `invented`: something is there that this
 * user did not do. `broken`: no page came, or none that it asked for.
 */
export const violations = ['lost', 'twice', 'invented', 'broken'] as const
export type Violation = (typeof violations)[number]

export interface Finding {
  readonly violation: Violation
  readonly what: string
}

export interface Bought {
  readonly item: number
  readonly quantity: number
  readonly cents: number
}

/** A form that changes the database. `sent`: no answer has come yet, so it may have happened or not. */
export type LedgerStep = { state: 'sent' | 'accepted' | 'refused' } & (
  | { readonly kind: 'bid'; readonly item: number; readonly cents: number }
  | { readonly kind: 'checkout'; bought: readonly Bought[] }
  | { readonly kind: 'sell'; readonly title: string; item: number }
)

export class UserLedger {
  readonly user: string
  readonly findings: Finding[] = []
  readonly cart = new Map<number, number>()
  readonly drafts = new Map<number, number>()
  readonly watched = new Set<number>()
  /** By the form's key. */
  readonly steps = new Map<string, LedgerStep>()
  isLoggedIn = false
  pages = 0
  /** The most bids it has seen on an item: histories only grow. */
  readonly #seenBids = new Map<number, number>()

  constructor(user: string) {
    this.user = user
  }

  find(violation: Violation, what: string): void {
    this.findings.push({ violation, what: `${this.user}: ${what}` })
  }

  /** The user has logged out: the site forgets what was not placed or bought. */
  logOut(): void {
    this.isLoggedIn = false
    for (const kept of [this.cart, this.drafts, this.watched]) kept.clear()
  }

  /** Compares a page with what this user did. @param name the page that was asked for */
  verify(page: PageSeen, name: string): void {
    this.pages++
    if (page.name !== name) return this.find('broken', `asked for the page "${name}" and got "${page.name}"`)
    this.#verifyHead(page)
    switch (name) {
      case 'item':
        return this.#verifyItem(page)
      case 'bids':
        return this.#verifyList(name, this.drafts, page.rows('draft'), 'cents')
      case 'cart':
        return this.#verifyCart(page)
      case 'watchlist':
        return this.#verifyList(name, new Map([...this.watched].map((item) => [item, item])), page.rows('watched'), 'item')
      case 'me':
        return this.#verifyAccount(page)
      default:
    }
  }

  #verifyHead(page: PageSeen): void {
    const expected = this.isLoggedIn ? this.user : ''
    if (page.user !== expected) this.find(page.user === '' ? 'lost' : 'invented', `page "${page.name}" is for "${page.user}", and "${expected}" is logged in`)
    this.#compareCount('bids in progress', page.drafts, this.drafts.size)
    this.#compareCount('lines in the cart', page.cart, this.cart.size)
    this.#compareCount('watched items', page.watched, this.watched.size)
  }

  #compareCount(what: string, seen: number, expected: number): void {
    if (seen !== expected) this.find(seen < expected ? 'lost' : 'invented', `${seen} ${what}, and there should be ${expected}`)
  }

  #verifyList(what: string, expected: ReadonlyMap<number, number>, rows: readonly Row[], field: string): void {
    const seen = new Map(rows.map((row) => [Number(row['item']), Number(row[field])]))
    if (seen.size < rows.length) this.find('twice', `an item is twice on the page "${what}"`)
    for (const [item, value] of expected) if (seen.get(item) !== value) this.find('lost', `item ${item} is ${seen.get(item) ?? 'not there'} on the page "${what}", and should be ${value}`)
    for (const item of seen.keys()) if (!expected.has(item)) this.find('invented', `item ${item} is on the page "${what}"`)
  }

  #verifyCart(page: PageSeen): void {
    this.#verifyList('cart', this.cart, page.rows('line'), 'quantity')
    const total = page.rows('line').reduce((sum, row) => sum + Number(row['cents']), 0)
    if (total !== Number(page.row('total')?.['cents'] ?? 0)) this.find('broken', 'the cart does not add up')
  }

  /** Each bid of its own stands in the history exactly once, and those of others do not go. */
  #verifyItem(page: PageSeen): void {
    const shown = page.row('shown') ?? {}
    const item = Number(shown['id'])
    const history = page.rows('bid')
    this.#verifyBids(item, history.filter((row) => row['bidder'] === this.user).map((row) => ({ item, cents: Number(row['cents']) })))
    const cents = history.map((row) => Number(row['cents']))
    if (cents.some((each, i) => i > 0 && each >= (cents[i - 1] as number))) this.find('broken', `the bids on item ${item} do not rise`)
    if (cents.length > 0 && Number(shown['cents']) !== cents[0]) this.find('broken', `the highest bid on item ${item} is not the highest of its history`)
    if (cents.length < (this.#seenBids.get(item) ?? 0)) this.find('lost', `item ${item} has had more bids than ${cents.length}`)
    this.#seenBids.set(item, cents.length)
  }

  /** @param item of one item, or of all */
  #verifyBids(item: number | undefined, seen: readonly { readonly item: number; readonly cents: number }[]): void {
    const own = [...this.steps.values()].flatMap((step) => (step.kind === 'bid' && (item === undefined || step.item === item) ? [step] : []))
    for (const bid of own) {
      const count = seen.filter((each) => each.item === bid.item && each.cents === bid.cents).length
      if (count > 1) this.find('twice', `the bid of ${bid.cents} on item ${bid.item} stands there ${count} times`)
      if (count === 0 && bid.state === 'accepted') this.find('lost', `the bid of ${bid.cents} on item ${bid.item} is not there`)
    }
    for (const bid of seen) {
      const known = own.some((each) => each.item === bid.item && each.cents === bid.cents && each.state !== 'refused')
      if (!known) this.find('invented', `a bid of ${bid.cents} on item ${bid.item} is there that it did not place`)
    }
  }

  #verifyAccount(page: PageSeen): void {
    this.#verifyBids(undefined, page.rows('bid').map((row) => ({ item: Number(row['item']), cents: Number(row['cents']) })))
    const purchases = page.rows('purchase')
    const bought = [...this.steps].flatMap(([key, step]) => (step.kind === 'checkout' && step.state === 'accepted' ? step.bought.map((line) => ({ key, ...line })) : []))
    const isSent = (key: string | undefined): boolean => this.steps.get(key ?? '')?.state === 'sent'
    const settled = purchases.filter((row) => !isSent(row['key']))
    for (const { key, item, quantity, cents } of bought) {
      const count = settled.filter((row) => row['key'] === key && Number(row['item']) === item && Number(row['quantity']) === quantity && Number(row['cents']) === cents).length
      if (count !== 1) this.find(count === 0 ? 'lost' : 'twice', `the purchase of ${quantity} of item ${item} stands there ${count} times`)
    }
    if (settled.length > bought.length) this.find('invented', `${settled.length} purchases, and it has made ${bought.length}`)
    const spent = purchases.reduce((sum, row) => sum + Number(row['cents']), 0)
    if (purchases.length > 0 && spent !== Number(page.row('total')?.['cents'])) this.find('broken', 'the purchases do not add up')
    this.#verifyOffers(page)
  }

  #verifyOffers(page: PageSeen): void {
    const offers = [...this.steps.values()].flatMap((step) => (step.kind === 'sell' ? [step] : []))
    const seen = page.rows('own').map((row) => row['title'])
    for (const { title, state } of offers) {
      const count = seen.filter((each) => each === title).length
      if (count > 1) this.find('twice', `"${title}" is up for auction ${count} times`)
      if (count === 0 && state === 'accepted') this.find('lost', `"${title}" is not up for auction`)
    }
    for (const title of seen) if (!offers.some((each) => each.title === title)) this.find('invented', `"${title ?? ''}" is up for auction`)
  }
}
