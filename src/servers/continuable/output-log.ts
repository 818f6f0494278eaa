/** What a server has sent: how far, and of the response under way as much as is needed to make it anew and compare it. */
import { Digest } from './digest.js'
import { BodyScanner, responseBody, scanHead, statusOf, type BodyKind, type HttpHead } from './http-framing.js'
import type { InputLog, RequestMark } from './input-log.js'

const noHead: HttpHead = { bad: false, contentLength: -1, chunked: false, upgrade: false }

/** Positions are bytes of the stream since the connection was accepted. */
export class OutputLog {
  /** After the last byte that was handed on. */
  end: number
  /** Where that begins which would have to be made anew. */
  start: number
  /** The head of the response under way, with the interim responses before it. */
  head: Buffer | undefined
  /** Of what would have to be made anew, but for the head. */
  readonly digest = new Digest()
  /** A checkpoint was made in the response under way: its head lies before `start`. */
  checkpointed = false
  contentBefore = 0
  /** Bytes went out that are neither an answer to a request nor such as can be followed. */
  bad = false
  readonly body = new BodyScanner()
  readonly #input: InputLog
  readonly #head: HttpHead = { ...noHead }
  readonly #http: boolean
  /** Where the head lies in the bytes being looked at: it is copied only where it is needed after them. */
  #headFrom = 0
  #headTo = 0
  /** The response whose bytes are looked at: undefined before its first one. */
  #request: RequestMark | undefined
  #inBody = false

  constructor(input: InputLog, at: number, http: boolean) {
    this.#input = input
    this.end = at
    this.start = at
    this.#http = http
  }

  /** Is the response under way past its head? */
  get pastHead(): boolean {
    return !this.#http || this.#inBody
  }

  /** The response to the first request is complete, and the last that was handed on. */
  get complete(): boolean {
    return this.#request === undefined && this.#input.requests[0]?.answered === true
  }

  /** A response is under way while what is known of the one before it no longer suffices to make that one anew. */
  get blocked(): boolean {
    return this.#request !== undefined && this.#input.requests[0]?.answered === true
  }

  /**
   * Looks at what is handed on next.
   * @param literal the bytes are kept as they are, so that requests whose answers end in them are done with at once
   */
  add(bytes: Uint8Array, start: number, end: number, literal: boolean): void {
    let at = start
    while (at < end && !this.bad) at = this.#http ? this.#message(bytes, at, end, literal) : this.#opaque(bytes, at, end)
    this.end += end - at
    this.#keepHead(bytes)
  }

  /** Everything up to here is done with, for requests that have been answered: all that was handed on has come to the kernel. */
  settle(): void {
    const { requests } = this.#input
    for (let first = requests[0]; first?.answered && first.end >= 0; first = requests[0]) {
      this.#input.shift()
      // The next response may be under way already: then what is known is of that one.
      if (this.#request === undefined) this.#forget(first.responseEnd)
    }
  }

  /** What came before `end` is not made anew. */
  checkpoint(): void {
    this.start = this.end
    this.digest.reset()
    this.checkpointed = true
    this.contentBefore = this.#http ? this.body.content : this.end
  }

  /** Goes on in a response whose head was sent by another machine, behind its checkpoint. */
  resume(contentBefore: number): void {
    this.checkpointed = true
    this.contentBefore = contentBefore
    this.body.skip(contentBefore)
  }

  #opaque(bytes: Uint8Array, at: number, end: number): number {
    this.digest.add(bytes, at, end)
    this.end += end - at
    return end
  }

  #message(bytes: Uint8Array, at: number, end: number, literal: boolean): number {
    if (!this.#inBody) return this.#begin(bytes, at, end, literal)
    const next = this.body.consume(bytes, at, end)
    this.end += next - at
    this.bad ||= this.body.bad
    // A response that is kept as it is needs no digest; one that was answered before its request has come may need it.
    if (!this.body.done || !this.#complete(literal)) this.digest.add(bytes, at, next)
    return next
  }

  #begin(bytes: Uint8Array, at: number, end: number, literal: boolean): number {
    const request = this.#request ?? this.#input.unanswered
    const next = scanHead(bytes, at, end, this.#head)
    const status = statusOf(bytes, at, end)
    if (request === undefined || next < 0 || status === 0 || this.#head.bad) {
      this.bad = true
      this.end += end - at
      return end
    }
    if (this.#request === undefined) {
      this.#forget(this.end)
      this.#request = request
    }
    if (this.#headTo !== at) this.#keepHead(bytes)
    if (this.#headTo === 0) this.#headFrom = at
    this.#headTo = next
    this.end += next - at
    if (status < 200 && status !== 101) return next
    const kind: BodyKind = this.#input.upgrade === request ? 'close' : responseBody(this.#head, status, request.method === 'HEAD')
    this.body.begin(kind, this.#head.contentLength)
    this.#inBody = true
    if (this.body.done) this.#complete(literal)
    return next
  }

  /** @returns whether all of it is done with */
  #complete(literal: boolean): boolean {
    const request = this.#request as RequestMark
    request.answered = true
    request.responseEnd = this.end
    this.#request = undefined
    this.#inBody = false
    if (!literal || request !== this.#input.requests[0] || request.end < 0) return false
    this.#input.shift()
    this.#forget(this.end)
    return true
  }

  /** The bytes being looked at are the caller's, and others the next time. */
  #keepHead(bytes: Uint8Array): void {
    if (this.#headTo > 0) {
      const part = Buffer.from(bytes.subarray(this.#headFrom, this.#headTo))
      this.head = this.head === undefined ? part : Buffer.concat([this.head, part])
    }
    this.#headFrom = this.#headTo = 0
  }

  #forget(at: number): void {
    this.start = at
    this.head = undefined
    this.#headFrom = this.#headTo = 0
    this.checkpointed = false
    this.contentBefore = 0
    this.digest.reset()
  }
}
