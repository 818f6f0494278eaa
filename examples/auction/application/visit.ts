/**
 * What the application keeps of a visitor: one session, committed as a whole. Login, cart, bids in progress and watch list
 * are one value, so that whoever recovers it finds all of them as they were at one moment.
 */

/** A bid that has been entered and not been placed. */
export interface Draft {
  readonly item: number
  readonly cents: number
}

export interface CartLine {
  readonly item: number
  readonly quantity: number
}

/** Something that shall happen in the database exactly once. `key` comes with the form, `user` is the account that does it. */
export type Step =
  | { readonly kind: 'bid'; readonly key: string; readonly user: number; readonly item: number; readonly cents: number }
  | { readonly kind: 'checkout'; readonly key: string; readonly user: number; readonly lines: readonly CartLine[] }
  | ({ readonly kind: 'sell'; readonly key: string; readonly user: number } & Offer)

/** An item that somebody puts up for auction. */
export interface Offer {
  readonly title: string
  readonly description: string
  readonly category: number
  readonly startCents: number
  /** Null where it cannot be bought at once. */
  readonly buyNowCents: number | null
}

/** What a step led to. It is written by the step's own transaction, and the same however often it is asked for. */
export type StepResult =
  | { readonly kind: 'bid'; readonly isAccepted: boolean; readonly highestCents: number }
  | { readonly kind: 'checkout'; readonly lines: readonly BoughtLine[] }
  | { readonly kind: 'sell'; readonly item: number }

export interface BoughtLine extends CartLine {
  /** Of all its pieces together. */
  readonly cents: number
  /** False where there were not enough of them left. */
  readonly isBought: boolean
}

/** A form that has been dealt with: its answer, for whoever sends it again. */
export interface Done {
  readonly key: string
  readonly outcome: 'accepted' | 'refused'
  /** In words, shown on the page that follows. */
  readonly notice: string
  /** Path of that page. */
  readonly path: string
}

export interface Visit {
  readonly user: { readonly id: number; readonly name: string } | null
  readonly drafts: readonly Draft[]
  readonly cart: readonly CartLine[]
  readonly watched: readonly number[]
  /** Committed before the database is asked, and gone when its result is committed. */
  readonly pending: Step | null
  /** The newest forms, oldest first. */
  readonly done: readonly Done[]
}

/** A form may be sent again until so many others have been. */
const keptForms = 12

export const emptyVisit: Visit = { user: null, drafts: [], cart: [], watched: [], pending: null, done: [] }

export const findDone = (visit: Visit, key: string): Done | undefined => visit.done.find((done) => done.key === key)

export function withDone(visit: Visit, done: Done): Visit {
  return { ...visit, done: [...visit.done, done].slice(-keptForms) }
}

export function withDraft(visit: Visit, { item, cents }: Draft): Visit {
  return { ...visit, drafts: [...visit.drafts.filter((draft) => draft.item !== item), { item, cents }] }
}

export function withoutDraft(visit: Visit, item: number): Visit {
  return { ...visit, drafts: visit.drafts.filter((draft) => draft.item !== item) }
}

export function withCartLine(visit: Visit, { item, quantity }: CartLine): Visit {
  return { ...visit, cart: [...visit.cart.filter((line) => line.item !== item), { item, quantity }] }
}

export function withoutCartLine(visit: Visit, item: number): Visit {
  return { ...visit, cart: visit.cart.filter((line) => line.item !== item) }
}

export function withWatched(visit: Visit, item: number, isWatched: boolean): Visit {
  const others = visit.watched.filter((watched) => watched !== item)
  return { ...visit, watched: isWatched ? [...others, item] : others }
}

/** The visit once its pending step has led to `result`. Pure: whoever finishes the step comes to the same visit. */
export function finished(visit: Visit, step: Step, result: StepResult): Visit {
  const { key } = step
  const rest = { ...visit, pending: null }
  if (step.kind === 'bid' && result.kind === 'bid') {
    const notice = result.isAccepted ? `Your bid of ${money(step.cents)} is placed.` : `Your bid of ${money(step.cents)} was too low: it takes more than ${money(result.highestCents)}.`
    return withDone(withoutDraft(rest, step.item), { key, outcome: result.isAccepted ? 'accepted' : 'refused', notice, path: `/item/${step.item}` })
  }
  if (step.kind === 'checkout' && result.kind === 'checkout') {
    const bought = result.lines.filter(({ isBought }) => isBought)
    const total = bought.reduce((sum, { cents }) => sum + cents, 0)
    const missed = result.lines.length - bought.length
    const notice = `You have bought ${bought.length === 1 ? 'one item' : `${bought.length} items`} for ${money(total)}.${missed > 0 ? ` ${missed} of your items were sold out.` : ''}`
    return withDone({ ...rest, cart: [] }, { key, outcome: bought.length > 0 ? 'accepted' : 'refused', notice, path: '/receipt' })
  }
  if (result.kind === 'sell') return withDone(rest, { key, outcome: 'accepted', notice: 'Your item is up for auction.', path: `/item/${result.item}` })
  throw new Error(`A step "${step.kind}" cannot lead to a result of "${result.kind}".`)
}

export const money = (cents: number): string => `€ ${(cents / 100).toLocaleString('en-GB', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`
