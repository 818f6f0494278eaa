import type { IncomingMessage, ServerResponse } from 'node:http'
import { checkpoint, continuationOf } from 'backdoors'

/** What there is to tell, by number from 1 on: the same at every node, as in a table of a database. */
export interface Feed {
  /** Resolves when there is an event of this number. */
  event(number: number): Promise<string>
}

/**
 * Tells a browser's `EventSource` every event once. When this machine fails, the next one is given the request again, and goes on behind
 * the last checkpoint: the client does not even connect anew.
 */
export async function serveEvents(request: IncomingMessage, response: ServerResponse, feed: Feed): Promise<void> {
  const state = continuationOf(request)?.state
  const last = Number(state === undefined ? request.headers['last-event-id'] : Buffer.from(state).toString())
  const told = Number.isSafeInteger(last) ? last : 0
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  response.flushHeaders()
  for (let number = told + 1; !response.destroyed; number++) {
    response.write(`id: ${number}\ndata: ${await feed.event(number)}\n\n`)
    checkpoint(response, Buffer.from(String(number)))
  }
}
