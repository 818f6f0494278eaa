/**
 * Stands between a server that makes a response anew and the client that has a part of it already: compares what is repeated with what
 * was decided, lets nothing of it through that the client has, and nothing at all before the comparison is over.
 */
import { Digest } from './digest.js'
import { sameHead, scanHead, statusOf, type HttpHead } from './http-framing.js'
import type { OutputLog } from './output-log.js'

export interface Expected {
  /** Of the response under way, as it was sent; undefined where the protocol has none. */
  readonly head: Buffer | undefined
  /** The head lies before `start`. */
  readonly checkpointed: boolean
  readonly contentBefore: number
  /** Positions: what is compared, and what has been written of it. */
  readonly start: number
  readonly end: number
  readonly written: number
  readonly crc32c: number
  readonly crc32: number
}

export type Passed = { readonly same: false } | { readonly same: true; readonly held: Buffer; readonly rest: Buffer }

export class Gate {
  /** Called with whatever comes, before it is looked at. */
  onBytes: () => void = () => undefined
  readonly #expected: Expected
  readonly #volatile: ReadonlySet<string>
  /** Follows what is made anew, as if it were sent. */
  readonly #output: OutputLog
  readonly #digest = new Digest()
  readonly #held: Buffer[] = []
  #heads: Buffer = Buffer.alloc(0)
  #inHead: boolean
  #at: number

  /** @param output at `expected.start`, with nothing under way */
  constructor(expected: Expected, output: OutputLog, volatile: ReadonlySet<string>) {
    this.#expected = expected
    this.#output = output
    this.#volatile = volatile
    this.#inHead = expected.head !== undefined
    this.#at = expected.start
  }

  /** Where only interim responses were sent: their length. */
  get interimBytes(): number | undefined {
    const { head } = this.#expected
    return head === undefined || endOfHeads(head) !== undefined ? undefined : head.length
  }

  /** @returns undefined while there is more to compare */
  take(bytes: Buffer): Passed | undefined {
    this.onBytes()
    let rest = bytes
    if (this.#inHead) {
      this.#heads = Buffer.concat([this.#heads, bytes])
      const { interimBytes } = this
      if (interimBytes !== undefined && this.#heads.length < interimBytes) return undefined
      const end = interimBytes ?? endOfHeads(this.#heads)
      if (end === undefined) return undefined
      if (end < 0 || !this.#takeHead(this.#heads.subarray(0, end))) return { same: false }
      rest = this.#heads.subarray(end)
      this.#heads = Buffer.alloc(0)
    }
    return this.#takeBody(rest)
  }

  #takeHead(head: Buffer): boolean {
    const { head: sent, checkpointed, contentBefore, start, written } = this.#expected
    if (sent === undefined || !sameHead(sent, head, this.#volatile)) return false
    this.#inHead = false
    this.#output.add(sent, 0, sent.length, false)
    if (this.#output.bad) return false
    if (checkpointed) {
      this.#output.end = this.#output.start = start
      this.#output.resume(contentBefore)
    } else {
      this.#at = start + sent.length
      if (written < this.#at) this.#held.push(sent.subarray(Math.max(0, written - start)))
    }
    return !this.#output.bad
  }

  #takeBody(bytes: Buffer): Passed | undefined {
    const { end, written } = this.#expected
    const length = Math.min(bytes.length, end - this.#at)
    if (length > 0) {
      // Past the end of its response, nothing more of it can come.
      if (this.#output.complete) return { same: false }
      this.#digest.add(bytes, 0, length)
      this.#output.add(bytes, 0, length, false)
      if (this.#output.bad) return { same: false }
      if (this.#at + length > written) this.#held.push(bytes.subarray(Math.max(0, written - this.#at), length))
      this.#at += length
    }
    if (this.#at < end) return this.#output.complete ? { same: false } : undefined
    const same = this.#digest.first === this.#expected.crc32c && this.#digest.second === this.#expected.crc32
    return same ? { same, held: Buffer.concat(this.#held), rest: bytes.subarray(length) } : { same }
  }
}

const head: HttpHead = { bad: false, contentLength: -1, chunked: false, upgrade: false }

/** @returns the offset after the final response's head; undefined while that has not come, -1 where it is none */
function endOfHeads(bytes: Buffer): number | undefined {
  for (let at = 0; ; ) {
    const end = scanHead(bytes, at, bytes.length, head)
    if (end < 0) return undefined
    const status = statusOf(bytes, at, end)
    if (status === 0) return -1
    if (status >= 200 || status === 101) return end
    at = end
  }
}
