/** What a handler may ask of a request, or of a connection, on a continuable server. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { BackdoorsError } from '../../errors.js'
import { connectionOf } from './connection-of.js'
import type { Connection } from './connection.js'
import type { ContinuableWebSocket } from './web-sockets.js'
import { keyOf } from './take-over-connection.js'

const numberKey = Symbol('backdoors.request')

interface Marked {
  [numberKey]?: number
}

/** From where a response goes on that another machine began. */
export interface Continuation {
  /** As the last `checkpoint` had it. */
  readonly state: Uint8Array | undefined
  /** Bytes of the response's content, or of the stream where there are no responses, that came before that checkpoint. */
  readonly bytes: number
}

/** The server is about to be given this request. @param isUpgrade what comes after it is no longer HTTP */
export function markRequest(request: IncomingMessage, connection: Connection, isUpgrade: boolean): void {
  const { input } = connection
  const number = connection.handed++
  ;(request as Marked)[numberKey] = number
  if (number < input.next && (input.upgrade?.number === number) === isUpgrade) return
  // The parser has found what was not there for us: whatever the reason, the two must not differ. It is known before the handler acts.
  connection.giveUp('not-continuable')
  connection.commit()
}

/**
 * Names one request over the whole cluster: the same when it is given again on another machine, and never another's. A handler that
 * keeps it with what it does, in a session or as a key in a database, does that once.
 * @throws BackdoorsError INVALID_ARGUMENT where the request's server is not continuable
 *
 * @example
 * await sql`insert into orders (key, item) values (${requestKey(request)}, ${item}) on conflict do nothing`
 */
export function requestKey(request: IncomingMessage): string {
  const connection = connectionOf(request.socket)
  const number = (request as Marked)[numberKey]
  if (connection === undefined || number === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'This request did not come by a continuable server: it has no key.', { field: 'request' })
  return keyOf(connection.id, connection.nonce, number)
}

/** Was it begun on another machine, which failed before its response was decided? */
export function isReplay(request: IncomingMessage): boolean {
  const connection = connectionOf(request.socket)
  return connection !== undefined && ((request as Marked)[numberKey] ?? Infinity) < connection.replayedBefore
}

/** From where to go on, for a request or a connection that had a checkpoint on the machine that failed; else undefined. */
export function continuationOf(of: IncomingMessage | Socket): Continuation | undefined {
  const isRequest = 'socket' in of && 'headers' in of
  const continuation = connectionOf(isRequest ? of.socket : of)?.continuation
  if (continuation === undefined || (isRequest && (of as Marked)[numberKey] !== continuation.request)) return undefined
  return { state: continuation.state, bytes: continuation.bytes }
}

/**
 * Says how far a long answer has come: everything that was written so far stands, and is not made anew. When the machine dies, the
 * request is given to another server again, whose handler goes on from `continuationOf(request)`; on a server that is not HTTP, only input
 * that comes after this is given again; of a WebSocket, only messages that its handlers were not given yet.
 * @param state at most what a session holds; yours
 * @returns whether it holds: not before the head of the response was sent, nor on a connection that is not continuable
 */
export function checkpoint(of: ServerResponse | Socket | ContinuableWebSocket, state?: Uint8Array): boolean {
  const socket = 'statusCode' in of ? of.socket : of
  return socket !== null && connectionOf(socket)?.checkpoint(state) === true
}
