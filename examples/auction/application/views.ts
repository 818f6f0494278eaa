/** The pages by their names, and what each reads of the database. */
import type { Catalogue } from '../database/catalogue.js'
import type { Html } from './html.js'
import * as pages from './pages.js'
import * as lists from './list-pages.js'
import { notFound } from './reply.js'

export interface ViewContext {
  readonly frame: pages.Frame
  readonly catalogue: Catalogue
  /** What follows the page's name in the path. */
  readonly argument: string
  readonly query: URLSearchParams
}

export interface View {
  readonly needsLogin?: boolean
  readonly show: (context: ViewContext) => Promise<Html>
}

/** @throws RefusedRequest */
const numberIn = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw notFound('such page')
  return Number(text)
}

const itemOf = async ({ catalogue, argument }: ViewContext): Promise<pages.FullItem> => {
  const id = numberIn(argument)
  const [item, history] = await Promise.all([catalogue.item(id), catalogue.history(id)])
  if (item === undefined) throw notFound('such item')
  // Two queries: what is said of the bids is what the history says, should somebody bid in between.
  return { item: { ...item, highestCents: history[0]?.cents ?? null, bids: history.length }, history }
}

const userOf = ({ frame }: ViewContext): number => frame.visit.user?.id ?? 0

export const views: Readonly<Record<string, View>> = {
  '': { show: async ({ frame, catalogue }) => pages.homePage(frame, ...(await Promise.all([catalogue.busiest(), catalogue.categories()]))) },
  login: { show: async ({ frame }) => pages.loginPage(frame, '/') },
  categories: { show: async ({ frame, catalogue }) => pages.categoriesPage(frame, await catalogue.categories()) },
  category: {
    show: async ({ frame, catalogue, argument, query }) => {
      const id = numberIn(argument)
      const page = numberIn(query.get('page') ?? '0')
      const [categories, items] = await Promise.all([catalogue.categories(), catalogue.category(id, page)])
      const category = categories.find((each) => each.id === id)
      if (category === undefined) throw notFound('such category')
      return pages.categoryPage(frame, category, items, page)
    },
  },
  item: { show: async (context) => pages.itemPage(context.frame, await itemOf(context)) },
  bid: { needsLogin: true, show: async (context) => pages.bidPage(context.frame, await itemOf(context)) },
  bids: { needsLogin: true, show: async ({ frame, catalogue }) => lists.bidsPage(frame, await catalogue.items(frame.visit.drafts.map(({ item }) => item))) },
  cart: { needsLogin: true, show: async ({ frame, catalogue }) => lists.cartPage(frame, await catalogue.items(frame.visit.cart.map(({ item }) => item))) },
  watchlist: { needsLogin: true, show: async ({ frame, catalogue }) => lists.watchPage(frame, await catalogue.items(frame.visit.watched)) },
  receipt: {
    needsLogin: true,
    show: async (context) => {
      const key = context.query.get('form') ?? ''
      return lists.receiptPage(context.frame, (await context.catalogue.purchasesOf(userOf(context))).filter((each) => each.key === key))
    },
  },
  sell: { needsLogin: true, show: async ({ frame, catalogue }) => pages.sellPage(frame, await catalogue.categories()) },
  me: {
    needsLogin: true,
    show: async (context) => {
      const { catalogue, frame } = context
      const user = userOf(context)
      return lists.mePage(frame, ...(await Promise.all([catalogue.bidsOf(user), catalogue.purchasesOf(user), catalogue.itemsOf(user)])))
    },
  },
}
