/** Requests and responses over a control connection: matching, bounds and deadlines. */
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { ErrorCode } from '../../errors.js'
import type { Clock, Timer } from './clock.js'
import { maxTextLength } from './messages.js'
import type { ControlMessage } from './messages.js'

/**
 * Answers one method. What it returns is sent as JSON; what it throws is sent as code and message. `body` is
 * whatever the peer sent: JSON, but not validated.
 */
export type RequestHandler = (body: unknown, context: { readonly peer: string; readonly signal: AbortSignal }) => unknown
export type RequestHandlers = ReadonlyMap<string, RequestHandler>

type RequestMessage = Extract<ControlMessage, { type: 'request' }>
type ResponseMessage = Extract<ControlMessage, { type: 'response' }>

/** Codes that a peer's answer may carry over to our side; any other becomes PROTOCOL_ERROR, and is told in the message. */
const carriedCodes = [
  'INVALID_ARGUMENT',
  'OUT_OF_RANGE',
  'CLOSED',
  'QUEUE_FULL',
  'TIMEOUT',
  'MESSAGE_TOO_LARGE',
  'PROTOCOL_ERROR',
  'PEER_UNKNOWN',
  'PEER_UNREACHABLE',
  'REGION_NOT_FOUND',
  'FENCED',
  'ALREADY_CLAIMED',
  'CLAIM_LOST',
  'FENCE_FAILED',
  'MEMORY_LOST',
  'DAEMON_UNAVAILABLE',
] as const satisfies readonly ErrorCode[]

interface Waiting {
  readonly resolve: (body: unknown) => void
  readonly reject: (error: BackdoorsError) => void
  readonly timer: Timer
}

export interface RequestsOptions {
  readonly peer: string
  readonly clock: Clock
  readonly handlers: RequestHandlers
  /** Most requests of the peer under way here, and of ours there. */
  readonly maxRequests: number
  readonly send: (message: ControlMessage) => void
}

export class Requests {
  readonly #options: RequestsOptions
  readonly #waiting = new Map<number, Waiting>()
  readonly #ended = new AbortController()
  #nextId = 1
  #answering = 0

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  /** @throws BackdoorsError CLOSED, TIMEOUT, QUEUE_FULL, INVALID_ARGUMENT, MESSAGE_TOO_LARGE, or the code that the peer answered with. */
  async ask(method: string, body: unknown, timeoutMs: number): Promise<unknown> {
    const { peer, clock, maxRequests, send } = this.#options
    if (this.#ended.signal.aborted) throw closed(peer)
    if (this.#waiting.size >= maxRequests) {
      throw new BackdoorsError('QUEUE_FULL', `${maxRequests} requests to ${peer} are under way already: wait for one to end`, { peer })
    }
    const id = this.#nextId
    this.#nextId = this.#nextId === 0xffff_ffff ? 1 : this.#nextId + 1
    return await new Promise((resolve, reject) => {
      const timer = clock.after(timeoutMs, () => {
        this.#waiting.delete(id)
        reject(new BackdoorsError('TIMEOUT', `${peer} did not answer ${method} within ${timeoutMs} ms`, { peer }))
      })
      this.#waiting.set(id, { resolve, reject, timer })
      try {
        // `undefined` has no JSON form, and the field is not optional.
        send({ type: 'request', id, method, body: body ?? null })
      } catch (error) {
        this.#take(id)
        reject(asBackdoorsError(error, 'INVALID_ARGUMENT', `asking ${peer}`, { peer }))
      }
    })
  }

  /** The peer asks. */
  async onRequest({ id, method, body }: RequestMessage): Promise<void> {
    const { peer, handlers, maxRequests } = this.#options
    const handler = handlers.get(method)
    if (this.#answering >= maxRequests) return this.#fail(id, new BackdoorsError('QUEUE_FULL', `${maxRequests} requests are under way already`))
    if (handler === undefined) return this.#fail(id, new BackdoorsError('INVALID_ARGUMENT', `there is no method ${method} here`))
    this.#answering += 1
    try {
      const answer: unknown = await handler(body, { peer, signal: this.#ended.signal })
      if (!this.#ended.signal.aborted) this.#options.send({ type: 'response', id, ok: true, body: answer ?? null })
    } catch (error) {
      this.#fail(id, error)
    } finally {
      this.#answering -= 1
    }
  }

  /** The peer answers. An answer to nothing is one that came after its deadline, and is dropped. */
  onResponse(message: ResponseMessage): void {
    const waiting = this.#take(message.id)
    if (waiting === undefined) return
    if (message.ok) waiting.resolve(message.body)
    else waiting.reject(carriedError(this.#options.peer, message.code, message.message))
  }

  /** Ends every request under way, here and there. */
  end(): void {
    this.#ended.abort()
    for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(closed(this.#options.peer))
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    waiting?.timer.cancel()
    return waiting
  }

  #fail(id: number, error: unknown): void {
    if (this.#ended.signal.aborted) return
    // What is not ours is a fault in a handler: its text may say more about this machine than a peer should know.
    const known = isBackdoorsError(error) ? error : new BackdoorsError('DAEMON_UNAVAILABLE', 'the request failed here')
    this.#options.send({ type: 'response', id, ok: false, code: known.code, message: known.message.slice(0, maxTextLength) })
  }
}

function carriedError(peer: string, code: string, message: string): BackdoorsError {
  const carried = carriedCodes.find((candidate) => candidate === code)
  if (carried !== undefined) return new BackdoorsError(carried, `${peer} answered: ${message}`, { peer })
  return new BackdoorsError('PROTOCOL_ERROR', `${peer} answered with ${code}: ${message}`, { peer })
}

function closed(peer: string): BackdoorsError {
  return new BackdoorsError('CLOSED', `the control connection to ${peer} is closed`, { peer })
}
