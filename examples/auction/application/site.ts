/** The application as an HTTP server: reads requests whole, and answers after the commit, or, once fenced, not at all. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { readBody } from '../http.js'
import { textReply, type Reply } from './reply.js'
import type { Router } from './router.js'

export interface SiteOptions {
  readonly router: Router
  readonly isFenced: () => boolean
  /** A request failed on this side. It may be sent again where the database is away, or this node has been fenced. */
  readonly onFailed: (error: unknown) => void
}

/** Connections that say nothing are kept for so long, in milliseconds: clients without retries count on them. */
const idleMs = 600_000
const unavailable = textReply(503, 'This could not be finished now; send it again.', { 'retry-after': '1' })
const broken = textReply(500, 'This cannot be finished; something is wrong here.')
/** Mistakes of a program, which each node would make again: neither the database nor the session store throws such an error. */
const mistakes = [TypeError, RangeError, ReferenceError, SyntaxError]

export function createSite(options: SiteOptions): Server {
  const server = createServer({ keepAliveTimeout: idleMs, noDelay: true }, (request, response) => void serve(options, request, response))
  return server
}

async function serve({ router, isFenced, onFailed }: SiteOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  let reply: Reply
  try {
    const body = await readBody(request)
    if (body === undefined) return void request.destroy()
    reply = await router.answer({ method: request.method ?? '', url: request.url ?? '/', cookie: request.headers.cookie ?? '', body: body.toString('utf8') })
  } catch (error) {
    onFailed(error)
    reply = mistakes.some((mistake) => error instanceof mistake) ? broken : unavailable
  }
  // Another node serves these visits now: nothing that this one says may be believed, and whoever asked asks there.
  if (isFenced()) return void request.destroy()
  response.writeHead(reply.status, { ...reply.headers, 'content-length': Buffer.byteLength(reply.body) }).end(reply.body)
}
