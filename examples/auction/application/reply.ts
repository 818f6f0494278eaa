/** What the application answers. */
import type { Html } from './html.js'

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The request is not one that this site's pages make. */
export class RefusedRequest extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export const badRequest = (message: string): RefusedRequest => new RefusedRequest(400, message)
export const notFound = (what: string): RefusedRequest => new RefusedRequest(404, `There is no ${what}.`)

export const pageReply = (page: Html, status = 200): Reply => ({ status, headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }, body: `<!doctype html>\n${page.text}` })

/** Without a visit, or without a page: for whoever sent the request, not for one who reads. */
export const textReply = (status: number, text: string, headers: Readonly<Record<string, string>> = {}): Reply => ({ status, headers: { ...headers, 'content-type': 'text/plain' }, body: `${text}\n` })

/** After a form: the browser gets the page, and a reload sends nothing again. */
export const seeOther = (path: string): Reply => ({ status: 303, headers: { location: path }, body: '' })

/** The visit is not on this node: whoever forwards requests asks the others. */
export const misdirected = textReply(421, 'This visit is not here.')
