/** The forms: each takes a visit to its next state, which is committed before the browser hears of it. */
import type { Catalogue } from '../database/catalogue.js'
import { centsIn, itemIn, quantityIn, textIn, wholeNumber } from './forms.js'
import { badRequest, notFound } from './reply.js'
import { emptyVisit, money, withCartLine, withDone, withDraft, withoutCartLine, withoutDraft, withWatched, type Done, type Step, type Visit } from './visit.js'

export interface FormContext {
  readonly form: URLSearchParams
  readonly key: string
  readonly visit: Visit
  readonly catalogue: Catalogue
  /** @returns the visit as committed */
  commit(next: Visit): Visit
  /** Has the step done in the database, exactly once. @returns the visit afterwards, as committed */
  step(visit: Visit, step: Step): Promise<Visit>
}

/** @returns the visit as committed; it says under the form's key what came of it, or the visitor is to log in first */
export type Action = (context: FormContext) => Visit | Promise<Visit>

type LoggedIn = NonNullable<Visit['user']>

/** Pages that a login leads back to. */
const within = /^\/[a-z]+(?:\/\d+)?$/

const accepted = ({ key }: FormContext, notice: string, path: string): Done => ({ key, outcome: 'accepted', notice, path })

const forUsers = (action: (context: FormContext, user: LoggedIn) => Visit | Promise<Visit>): Action => (context) => {
  const { user } = context.visit
  return user === null ? context.visit : action(context, user)
}

const titleOf = async ({ catalogue }: FormContext, item: number): Promise<string> => {
  const found = await catalogue.item(item)
  if (found === undefined) throw notFound('such item')
  return found.title
}

export const actions: Readonly<Record<string, Action>> = {
  '/login': async (context) => {
    const { form, visit, key } = context
    const user = await context.catalogue.login(textIn(form, 'name', 40), textIn(form, 'password', 100))
    if (user === undefined) return context.commit(withDone(visit, { key, outcome: 'refused', notice: 'There is no account of this name and password.', path: '/login' }))
    const next = form.get('next') ?? ''
    // Somebody else's things are not taken over.
    const own = visit.user === null || visit.user.id === user.id ? visit : emptyVisit
    return context.commit(withDone({ ...own, user }, accepted(context, `Welcome, ${user.name}.`, within.test(next) ? next : '/')))
  },

  '/logout': (context) => context.commit(withDone({ ...emptyVisit, done: context.visit.done }, accepted(context, 'You are logged out.', '/'))),

  '/draft': forUsers(async (context) => {
    const item = itemIn(context.form)
    const cents = centsIn(context.form, 'amount')
    const title = await titleOf(context, item)
    return context.commit(withDone(withDraft(context.visit, { item, cents }), accepted(context, `Your bid of ${money(cents)} on “${title}” waits for your word.`, '/bids')))
  }),

  '/discard': forUsers((context) => context.commit(withDone(withoutDraft(context.visit, itemIn(context.form)), accepted(context, 'The bid is discarded.', '/bids')))),

  '/place': forUsers((context, { id }) => {
    const { visit, key } = context
    const draft = visit.drafts.find(({ item }) => item === itemIn(context.form))
    if (draft === undefined) throw badRequest('You have no bid in progress on this item.')
    return context.step(visit, { kind: 'bid', key, user: id, item: draft.item, cents: draft.cents })
  }),

  '/add': forUsers(async (context) => {
    const line = { item: itemIn(context.form), quantity: quantityIn(context.form) }
    const title = await titleOf(context, line.item)
    return context.commit(withDone(withCartLine(context.visit, line), accepted(context, `“${title}” is in your cart.`, '/cart')))
  }),

  '/remove': forUsers((context) => context.commit(withDone(withoutCartLine(context.visit, itemIn(context.form)), accepted(context, 'It is out of your cart.', '/cart')))),

  '/checkout': forUsers((context, { id }) => {
    const { visit, key } = context
    if (visit.cart.length === 0) throw badRequest('Your cart is empty.')
    return context.step(visit, { kind: 'checkout', key, user: id, lines: visit.cart })
  }),

  '/watch': forUsers(async (context) => {
    const item = itemIn(context.form)
    await titleOf(context, item)
    return context.commit(withDone(withWatched(context.visit, item, true), accepted(context, 'You watch this item now.', `/item/${item}`)))
  }),

  '/unwatch': forUsers((context) => context.commit(withDone(withWatched(context.visit, itemIn(context.form), false), accepted(context, 'You do not watch it any more.', '/watchlist')))),

  '/sell': forUsers(async (context, { id }) => {
    const { form, key, visit } = context
    const buyNowCents = (form.get('buyNow') ?? '').trim() === '' ? null : centsIn(form, 'buyNow')
    const category = wholeNumber(form, 'category', 1, 1_000_000)
    if (!(await context.catalogue.categories()).some((each) => each.id === category)) throw notFound('such category')
    const offer = { title: textIn(form, 'title', 80), description: textIn(form, 'description', 500), category, startCents: centsIn(form, 'start'), buyNowCents }
    return context.step(visit, { kind: 'sell', key, user: id, ...offer })
  }),
}
