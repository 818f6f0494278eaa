/** What a client has sent and is not done with: the bytes themselves, and, in HTTP, the requests in them. */
import { BodyScanner, firstWord, requestBody, scanHead, type HttpHead } from './http-framing.js'

/** A request whose head has come. */
export interface RequestMark {
  readonly number: number
  readonly method: string
  /** Position of its first byte. */
  readonly start: number
  readonly headEnd: number
  /** Position after its last byte; -1 while that has not come. */
  end: number
  /** The last byte of its response has been handed on. */
  answered: boolean
  /** Position after that byte. */
  responseEnd: number
}

/** A part of the input, from its first byte to the one after its last. */
export interface Span {
  readonly from: number
  readonly end: number
}

const firstBytes = 1024

/** Positions are bytes of the stream since the connection was accepted. */
export class InputLog {
  readonly requests: RequestMark[] = []
  /** After the last byte that came. */
  end: number
  /** A message was read that another reader may read otherwise. */
  bad = false
  /** More came than is kept: bytes are missing from what is kept. */
  overflow = false
  /** The request that asked for another protocol: after it, bytes are no longer HTTP. */
  upgrade: RequestMark | undefined
  /** Number of the next request. */
  next: number
  readonly #limit: number
  readonly #isHttp: boolean
  readonly #mayUpgrade: (method: string, head: string) => boolean
  readonly #head: HttpHead = { bad: false, contentLength: -1, chunked: false, upgrade: false }
  readonly #body = new BodyScanner()
  #bytes: Buffer = Buffer.allocUnsafeSlow(firstBytes)
  /** The kept bytes are `#bytes` from `#from` to `#to`. */
  #from = 0
  #to = 0
  /** A view of them, as they were when they were last copied. */
  #kept: Uint8Array | undefined
  #keptFrom = 0
  /** Position up to which messages are known; in a head, its first byte. */
  #scanned: number

  constructor(options: { readonly at: number; readonly next: number; readonly limit: number; readonly http: boolean; readonly mayUpgrade: (method: string, head: string) => boolean }) {
    this.end = options.at
    this.#scanned = options.at
    this.next = options.next
    this.#limit = options.limit
    this.#isHttp = options.http
    this.#mayUpgrade = options.mayUpgrade
  }

  /** Position of the first kept byte. */
  get start(): number {
    return this.end - (this.#to - this.#from)
  }

  get length(): number {
    return this.#to - this.#from
  }

  /** The first request whose response is still to be handed on, or is not over. */
  get unanswered(): RequestMark | undefined {
    const [first] = this.requests
    return first?.answered === true ? this.requests.find(({ answered }) => !answered) : first
  }

  copy(into: Uint8Array, at: number): number {
    const length = this.#to - this.#from
    if (length === 0) return 0
    // One request is often as long as the one before: then the view of it is there already.
    if (this.#kept?.length !== length || this.#keptFrom !== this.#from) {
      this.#kept = new Uint8Array(this.#bytes.buffer, this.#from, length)
      this.#keptFrom = this.#from
    }
    into.set(this.#kept, at)
    return length
  }

  /** A copy of the kept bytes from position `start` on. */
  slice(start: number, end = this.end): Buffer {
    const shift = this.#from - this.start
    return Buffer.from(this.#bytes.subarray(start + shift, end + shift))
  }

  add(bytes: Uint8Array): void {
    if (this.length + bytes.length > this.#bytes.length - this.#from) this.#makeRoom(bytes.length)
    this.#bytes.set(bytes, this.#to)
    this.#to += bytes.length
    this.end += bytes.length
    if (this.#isHttp && this.upgrade === undefined) this.#scan()
    if (this.length > this.#limit) this.overflow = true
    if (this.overflow) this.#forget()
  }

  /** Those before `position` are done with. */
  drop(position: number): void {
    const count = Math.min(position - this.start, this.length)
    if (count <= 0) return
    this.#from += count
    if (this.#from === this.#to) this.#from = this.#to = 0
  }

  /** The first request is done with. */
  shift(): void {
    const request = this.requests.shift()
    if (request === undefined) return
    this.drop(request.end)
    // With nothing under way, all that is still needed is there again.
    if (this.requests.length === 0 && this.#body.done) this.overflow = this.length > this.#limit
  }

  /**
   * In a protocol without requests: these are done with, in their order. What is kept before one of them moves up to its end: its last
   * byte keeps its position, and so does all that comes later.
   */
  checkpoint(spans: readonly Span[]): void {
    for (const { from, end } of spans) {
      if (from === 0) {
        this.drop(end)
        this.overflow = this.start > end
      } else if (!this.overflow) {
        this.#bytes.copyWithin(this.#from + end - from, this.#from, this.#from + from - this.start)
        this.#from += end - from
      }
    }
  }

  #makeRoom(more: number): void {
    const needed = this.length + more
    const target = needed <= this.#bytes.length ? this.#bytes : Buffer.allocUnsafeSlow(Math.max(needed, Math.min(2 * this.#bytes.length, needed + (64 << 10))))
    this.#bytes.copy(target, 0, this.#from, this.#to)
    this.#to -= this.#from
    this.#from = 0
    this.#bytes = target
    this.#kept = undefined
  }

  /** Of bodies that are too large, nothing is kept; of a head, what is needed to read it. */
  #forget(): void {
    this.drop(this.#isHttp && this.upgrade === undefined ? this.#scanned : this.end)
  }

  #scan(): void {
    while (this.#scanned < this.end && !this.bad) {
      const shift = this.#from - this.start
      const at = this.#scanned + shift
      if (!this.#body.done) {
        this.#scanned = this.#body.consume(this.#bytes, at, this.#to) - shift
        this.bad ||= this.#body.bad
        const request = this.requests.at(-1)
        if (this.#body.done && request !== undefined) request.end = this.#scanned
        continue
      }
      // Empty lines before a request are nothing (RFC 9112, section 2.2).
      if (this.#bytes[at] === 13 || this.#bytes[at] === 10) {
        this.#scanned++
        continue
      }
      const headEnd = scanHead(this.#bytes, at, this.#to, this.#head)
      if (headEnd < 0) return
      this.#begin(at, headEnd, shift)
      if (this.upgrade !== undefined) return
    }
  }

  #begin(at: number, headEnd: number, shift: number): void {
    this.bad ||= this.#head.bad
    const method = firstWord(this.#bytes, at, headEnd)
    const end = headEnd - shift
    const request: RequestMark = { number: this.next++, method, start: this.#scanned, headEnd: end, end: -1, answered: false, responseEnd: -1 }
    this.requests.push(request)
    this.#scanned = end
    this.#body.begin(requestBody(this.#head), this.#head.contentLength)
    if (this.#body.done) request.end = end
    if ((this.#head.upgrade || method === 'CONNECT') && this.#mayUpgrade(method, this.#bytes.toString('latin1', at, headEnd))) this.upgrade = request
  }
}
