/** What emulated users do next, as a table of probabilities: a Markov chain over the site's pages and forms, as RUBiS has it. */
import type { Random } from '../../../src/fabric/mock/random.js'

export const actions = [
  'login', 'home', 'categories', 'category', 'item', 'watch', 'unwatch', 'watchlist', 'enter-bid', 'bids', 'place-bid', 'discard-bid', 'add-to-cart', 'cart', 'remove-from-cart',
  'checkout', 'sell', 'me', 'logout',
] as const
export type Action = (typeof actions)[number]

/** After the action of the row comes that of the column, with this probability; each row's sum is 1. */
export const transitions: Readonly<Record<Action, Readonly<Partial<Record<Action, number>>>>> = {
  login: { home: 0.4, categories: 0.4, me: 0.2 },
  home: { categories: 0.5, item: 0.35, me: 0.08, sell: 0.04, logout: 0.03 },
  categories: { category: 0.9, home: 0.1 },
  category: { item: 0.8, category: 0.1, categories: 0.1 },
  item: { 'enter-bid': 0.45, 'add-to-cart': 0.2, watch: 0.15, category: 0.15, home: 0.05 },
  watch: { 'enter-bid': 0.5, watchlist: 0.2, categories: 0.3 },
  unwatch: { watchlist: 0.5, home: 0.5 },
  watchlist: { item: 0.6, unwatch: 0.25, categories: 0.15 },
  'enter-bid': { 'place-bid': 0.65, categories: 0.2, bids: 0.1, 'discard-bid': 0.05 },
  bids: { 'place-bid': 0.7, 'discard-bid': 0.15, categories: 0.15 },
  'place-bid': { item: 0.3, categories: 0.35, bids: 0.1, me: 0.15, home: 0.1 },
  'discard-bid': { bids: 0.5, categories: 0.5 },
  'add-to-cart': { checkout: 0.4, categories: 0.4, cart: 0.2 },
  cart: { checkout: 0.5, 'remove-from-cart': 0.2, categories: 0.3 },
  'remove-from-cart': { cart: 0.4, categories: 0.6 },
  checkout: { me: 0.4, categories: 0.6 },
  sell: { me: 0.4, home: 0.6 },
  me: { home: 0.4, categories: 0.4, sell: 0.1, bids: 0.1 },
  logout: { login: 1 },
}

/** What a user could do just now. */
export interface Situation {
  readonly isLoggedIn: boolean
  readonly drafts: number
  readonly cart: number
  readonly watched: number
  /** It has seen a page that items or categories can be chosen from. */
  readonly seesItems: boolean
  readonly seesCategories: boolean
  /** It looks at an item that can be bought at once. */
  readonly canBuy: boolean
  readonly looksAtItem: boolean
}

export function isPossible(action: Action, now: Situation): boolean {
  if (action === 'login') return !now.isLoggedIn
  if (!now.isLoggedIn) return ['home', 'categories', 'category', 'item'].includes(action) && isInSight(action, now)
  switch (action) {
    case 'place-bid':
    case 'discard-bid':
      return now.drafts > 0
    case 'remove-from-cart':
    case 'checkout':
      return now.cart > 0
    case 'unwatch':
      return now.watched > 0
    case 'add-to-cart':
      return now.canBuy
    case 'enter-bid':
    case 'watch':
      return now.looksAtItem
    default:
      return isInSight(action, now)
  }
}

const isInSight = (action: Action, { seesItems, seesCategories }: Situation): boolean => (action === 'item' ? seesItems : action === 'category' ? seesCategories : true)

/** Draws from what is possible after `last`; where nothing of its row is, the user goes home, or logs in. */
export function nextAction(last: Action, now: Situation, random: Random): Action {
  const possible = Object.entries(transitions[last]).filter(([action]) => isPossible(action as Action, now)) as [Action, number][]
  const total = possible.reduce((sum, [, probability]) => sum + probability, 0)
  let drawn = random.float() * total
  for (const [action, probability] of possible) {
    drawn -= probability
    if (drawn < 0) return action
  }
  return now.isLoggedIn ? 'home' : 'login'
}
