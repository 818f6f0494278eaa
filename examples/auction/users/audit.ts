/** The last question, put to the database itself: does it hold what the users were told, each thing once, and nothing else? */
import type { UserLedger } from './ledger.js'

/** What the users' forms have left in the database; `key` is the form's. */
export interface Rows {
  readonly bids: readonly { readonly key: string; readonly user: string; readonly item: number; readonly cents: number }[]
  readonly purchases: readonly { readonly key: string; readonly user: string; readonly item: number; readonly quantity: number; readonly cents: number }[]
  readonly items: readonly { readonly key: string; readonly user: string; readonly id: number; readonly title: string }[]
  /** Items of which more or fewer pieces are left than were not bought. */
  readonly wrongStocks: readonly number[]
  /** Items whose bids did not rise in the order in which they were placed. */
  readonly fallingBids: readonly number[]
}

interface Entry {
  readonly key: string
  readonly user: string
  /** What it is of, in words that are the same in ledger and database. */
  readonly what: string
}

/** Writes what is wrong into the ledgers. @returns what is wrong and nobody's */
export function audit(ledgers: readonly UserLedger[], rows: Rows): string[] {
  const entries = entriesOf(rows)
  const faults: string[] = []
  const byUser = new Map(ledgers.map((ledger) => [ledger.user, ledger]))
  for (const ledger of ledgers) auditUser(ledger, entries.filter(({ user }) => user === ledger.user))
  for (const { user, what } of entries) if (!byUser.has(user)) faults.push(`${what} of ${user}, who was not there`)
  for (const item of rows.wrongStocks) faults.push(`the pieces of item ${item} do not add up`)
  for (const item of rows.fallingBids) faults.push(`the bids on item ${item} do not rise`)
  return faults
}

const bidText = (item: number, cents: number): string => `a bid of ${cents} on item ${item}`
const purchaseText = ({ item, quantity, cents }: { item: number; quantity: number; cents: number }): string => `a purchase of ${quantity} of item ${item} for ${cents}`
const offerText = (id: number, title: string): string => `the offer ${id} of "${title}"`

function entriesOf({ bids, purchases, items }: Rows): Entry[] {
  return [
    ...bids.map(({ key, user, item, cents }) => ({ key, user, what: bidText(item, cents) })),
    ...purchases.map(({ key, user, ...line }) => ({ key, user, what: purchaseText(line) })),
    ...items.map(({ key, user, id, title }) => ({ key, user, what: offerText(id, title) })),
  ]
}

function auditUser(ledger: UserLedger, entries: readonly Entry[]): void {
  const told = [...ledger.steps].flatMap(([key, step]) => (step.state === 'accepted' ? toldBy(step).map((what) => ({ key, what })) : []))
  for (const { key, what } of told) {
    const count = entries.filter((entry) => entry.key === key && entry.what === what).length
    if (count === 0) ledger.find('lost', `${what} was acknowledged, and the database does not have it`)
    if (count > 1) ledger.find('twice', `${what} is in the database ${count} times`)
  }
  for (const { key, what } of entries) {
    // What nobody has answered may have happened.
    if (ledger.steps.get(key)?.state === 'sent' || told.some((each) => each.key === key && each.what === what)) continue
    const isCopy = told.some((each) => each.what === what)
    ledger.find(isCopy ? 'twice' : 'invented', `${what} is in the database ${isCopy ? 'once more, by another form' : 'and was never acknowledged'}`)
  }
}

function toldBy(step: UserLedger['steps'] extends Map<string, infer S> ? S : never): string[] {
  if (step.kind === 'bid') return [bidText(step.item, step.cents)]
  return step.kind === 'checkout' ? step.bought.map(purchaseText) : [offerText(step.item, step.title)]
}
