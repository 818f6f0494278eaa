/** Which page, or which form, a request is. Forms are run once each; the same form again gets the answer of the first time. */
import type { Catalogue } from '../database/catalogue.js'
import { actions, type FormContext } from './actions.js'
import { keyIn } from './forms.js'
import { errorPage, loginPage, type Frame } from './pages.js'
import { misdirected, notFound, pageReply, RefusedRequest, seeOther, textReply, type Reply } from './reply.js'
import { style } from './style.js'
import { findDone, type Visit } from './visit.js'
import { views } from './views.js'
import type { Visits } from './visits.js'

export interface RouterOptions {
  readonly node: string
  readonly visits: Visits
  readonly catalogue: Catalogue
  /** Random text, other at each call: ids of visits and keys of forms. */
  readonly randomText: () => string
}

export interface SiteRequest {
  readonly method: string
  readonly url: string
  readonly cookie: string
  readonly body: string
}

export const cookieName = 'visit'
const origin = 'http://auction'
const visitId = /^[a-z0-9.-]{1,63}~[\w-]{16,40}$/

export function visitIn(cookie: string): string | undefined {
  const value = new RegExp(`(?:^|;\\s*)${cookieName}=([^;]*)`).exec(cookie)?.[1]
  return value !== undefined && visitId.test(value) ? value : undefined
}

export class Router {
  readonly #options: RouterOptions

  constructor(options: RouterOptions) {
    this.#options = options
  }

  /** @throws what the database or the session store throws; the request may be sent again then */
  async answer(request: SiteRequest): Promise<Reply> {
    if (!URL.canParse(request.url, origin)) return textReply(400, 'This path is no URL.')
    const url = new URL(request.url, origin)
    if (url.pathname === '/style.css') return { status: 200, headers: { 'content-type': 'text/css', 'cache-control': 'max-age=60' }, body: style }
    if (url.pathname === '/favicon.ico') return { status: 204, headers: {}, body: '' }
    const known = visitIn(request.cookie)
    const id = known ?? this.#begin()
    const reply = await this.#options.visits.with(id, async (visit) => (visit === undefined ? misdirected : this.#within(request, url, id, visit)))
    if (known !== undefined) return reply
    return { ...reply, headers: { ...reply.headers, 'set-cookie': `${cookieName}=${id}; Path=/; HttpOnly; SameSite=Lax` } }
  }

  /** A visit is committed before its visitor hears of it. */
  #begin(): string {
    const { node, visits, randomText } = this.#options
    const id = `${node}~${randomText()}`
    visits.make(id)
    return id
  }

  async #within(request: SiteRequest, url: URL, id: string, visit: Visit): Promise<Reply> {
    const { node, randomText } = this.#options
    const frame: Frame = { visit, node, newKey: randomText, done: findDone(visit, url.searchParams.get('form') ?? '') }
    try {
      if (request.method === 'POST') return await this.#form(request, url, id, visit)
      if (request.method === 'GET') return await this.#page(url, frame)
      throw new RefusedRequest(405, 'Pages are read by GET, and forms sent by POST.')
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw error
      return pageReply(errorPage(frame, error.message), error.status)
    }
  }

  async #page(url: URL, frame: Frame): Promise<Reply> {
    const [, name = '', argument = ''] = url.pathname.split('/')
    const view = Object.hasOwn(views, name) ? views[name] : undefined
    if (view === undefined) throw notFound('such page')
    if (view.needsLogin && frame.visit.user === null) return pageReply(loginPage(frame, url.pathname))
    return pageReply(await view.show({ frame, catalogue: this.#options.catalogue, argument, query: url.searchParams }))
  }

  async #form({ body }: SiteRequest, { pathname }: URL, id: string, visit: Visit): Promise<Reply> {
    const { visits, catalogue } = this.#options
    const action = Object.hasOwn(actions, pathname) ? actions[pathname] : undefined
    if (action === undefined) throw notFound('such form')
    const form = new URLSearchParams(body)
    const key = keyIn(form)
    const context: FormContext = { form, key, visit, catalogue, commit: (next) => visits.commit(id, next), step: (next, step) => visits.step(id, next, step) }
    const after = findDone(visit, key) ? visit : await action(context)
    const done = findDone(after, key)
    return seeOther(done ? `${done.path}?form=${key}` : '/login')
  }
}
