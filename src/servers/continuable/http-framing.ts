/**
 * Where the messages of an HTTP/1.1 stream begin and end (RFC 9112, sections 2, 6 and 7), in either direction.
 *
 * Only what every parser reads in the same way is understood; anything else is `bad`, and its connection is not continued: two readers
 * that differ about where a request ends must never both be believed.
 */

const cr = 13
const lf = 10
const space = 32
const tab = 9
const lengthName = 'content-length:'

export type BodyKind = 'none' | 'length' | 'chunked' | 'close'

export interface HttpHead {
  bad: boolean
  /** -1 without one. */
  contentLength: number
  chunked: boolean
  /** The header `Upgrade` is there. */
  upgrade: boolean
}

/**
 * Reads one head.
 * @param into is filled in; valid where the head is complete
 * @returns the offset after its empty line, -1 while that has not come
 */
export function scanHead(bytes: Uint8Array, start: number, end: number, into: HttpHead): number {
  into.bad = false
  into.contentLength = -1
  into.chunked = false
  into.upgrade = false
  let line = start
  for (let i = start; i < end; i++) {
    if (bytes[i] !== lf) continue
    const after = i + 1
    if (i === line || bytes[i - 1] !== cr) into.bad = true
    if (i - 1 === line || i === line) return after
    if (line !== start) scanLine(bytes, line, i - 1, into)
    line = after
  }
  return -1
}

function scanLine(bytes: Uint8Array, start: number, end: number, into: HttpHead): void {
  const first = bytes[start] as number
  // A line that goes on in the next one was never read by all in the same way.
  if (first === space || first === tab) into.bad = true
  const letter = first | 0x20
  if (letter === 0x63 && isNamed(bytes, start, end, lengthName)) setLength(bytes, start, end, into)
  else if (letter === 0x74 && isNamed(bytes, start, end, 'transfer-encoding:')) {
    if (into.chunked || into.contentLength >= 0 || valueOf(bytes, start, end).toLowerCase() !== 'chunked') into.bad = true
    into.chunked = true
  } else if (letter === 0x75 && isNamed(bytes, start, end, 'upgrade:')) into.upgrade = true
}

/** 1 to 15 digits, with spaces and tabs on either side. */
function setLength(bytes: Uint8Array, start: number, end: number, into: HttpHead): void {
  let from = start + lengthName.length
  let to = end
  while (from < to && isBlank(bytes[from] as number)) from++
  while (to > from && isBlank(bytes[to - 1] as number)) to--
  let length = 0
  let isNumber = to > from && to - from <= 15
  for (let i = from; i < to && isNumber; i++) {
    const digit = (bytes[i] as number) - 0x30
    isNumber = digit >= 0 && digit <= 9
    length = 10 * length + digit
  }
  if (!isNumber || into.contentLength >= 0 || into.chunked) into.bad = true
  into.contentLength = isNumber ? length : 0
}

const isBlank = (byte: number): boolean => byte === space || byte === tab

function isNamed(bytes: Uint8Array, start: number, end: number, name: string): boolean {
  if (end - start < name.length) return false
  for (let i = 0; i < name.length - 1; i++) if (((bytes[start + i] as number) | 0x20) !== (name.charCodeAt(i) | 0x20)) return false
  return bytes[start + name.length - 1] === 0x3a
}

const textOf = (bytes: Uint8Array, start: number, end: number): string => Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')

function valueOf(bytes: Uint8Array, start: number, end: number): string {
  const line = textOf(bytes, start, end)
  return line.slice(line.indexOf(':') + 1).replace(/^[ \t]+|[ \t]+$/g, '')
}

/** `GET`, or what else stands before the first space; of a response, `HTTP/1.1`. */
export function firstWord(bytes: Uint8Array, start: number, end: number): string {
  // Most requests are this one, and a string would have to be made of each.
  if (end - start > 3 && bytes[start] === 0x47 && bytes[start + 1] === 0x45 && bytes[start + 2] === 0x54 && bytes[start + 3] === space) return 'GET'
  let i = start
  while (i < end && bytes[i] !== space) i++
  return textOf(bytes, start, i)
}

/** Of a head that begins `HTTP/1.1 200`; 0 where it does not. */
export function statusOf(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 12) return 0
  const digit = (i: number): number => (bytes[start + i] as number) - 0x30
  const status = 100 * digit(9) + 10 * digit(10) + digit(11)
  return status >= 100 && status <= 999 && bytes[start] === 0x48 ? status : 0
}

export const requestBody = (head: HttpHead): BodyKind => (head.chunked ? 'chunked' : head.contentLength > 0 ? 'length' : 'none')

export function responseBody(head: HttpHead, status: number, toHead: boolean): BodyKind {
  if (toHead || status < 200 || status === 204 || status === 304) return 'none'
  if (head.chunked) return 'chunked'
  if (head.contentLength < 0) return 'close'
  return head.contentLength > 0 ? 'length' : 'none'
}

const enum Step { SizeStart, Size, Extension, SizeLf, Data, DataCr, DataLf, TrailerStart, Trailer, TrailerLf, EndLf }

/** Follows one body to its end. */
export class BodyScanner {
  done = true
  bad = false
  /** Bytes of content that went by, without what a transfer coding adds. */
  content = 0
  #kind: BodyKind = 'none'
  #remaining = 0
  #step = Step.SizeStart

  begin(kind: BodyKind, length: number): void {
    this.#kind = kind
    this.#remaining = length
    this.#step = Step.SizeStart
    this.content = 0
    this.done = kind === 'none'
  }

  /** Takes it that so much content has gone by already, and in chunks whole ones. */
  skip(content: number): void {
    this.content = content
    if (this.#kind !== 'length') return
    this.#remaining -= content
    if (this.#remaining < 0) this.bad = true
    this.done = this.#remaining <= 0
  }

  /** @returns the offset after the last byte that is the body's */
  consume(bytes: Uint8Array, start: number, end: number): number {
    if (this.done) return start
    if (this.#kind === 'chunked') return this.#consumeChunks(bytes, start, end)
    const length = this.#kind === 'close' ? end - start : Math.min(end - start, this.#remaining)
    this.content += length
    if (this.#kind === 'length') {
      this.#remaining -= length
      this.done = this.#remaining === 0
    }
    return start + length
  }

  #consumeChunks(bytes: Uint8Array, start: number, end: number): number {
    let i = start
    while (i < end && !this.done) {
      if (this.#step === Step.Data) {
        const length = Math.min(end - i, this.#remaining)
        this.content += length
        this.#remaining -= length
        i += length
        if (this.#remaining === 0) this.#step = Step.DataCr
      } else {
        this.#byte(bytes[i++] as number)
      }
    }
    return i
  }

  #byte(byte: number): void {
    switch (this.#step) {
      case Step.SizeStart:
        this.#remaining = 0
        return this.#size(byte)
      case Step.Size:
        if (byte === cr) this.#step = Step.SizeLf
        else if (byte === 0x3b) this.#step = Step.Extension
        else this.#size(byte)
        return
      case Step.Extension:
        if (byte === cr) this.#step = Step.SizeLf
        return
      case Step.SizeLf:
        return this.#expect(byte, lf, this.#remaining === 0 ? Step.TrailerStart : Step.Data)
      case Step.DataCr:
        return this.#expect(byte, cr, Step.DataLf)
      case Step.DataLf:
        return this.#expect(byte, lf, Step.SizeStart)
      case Step.TrailerStart:
        this.#step = byte === cr ? Step.EndLf : Step.Trailer
        return
      case Step.Trailer:
        if (byte === cr) this.#step = Step.TrailerLf
        return
      case Step.TrailerLf:
        return this.#expect(byte, lf, Step.TrailerStart)
      case Step.EndLf:
        this.#expect(byte, lf, Step.SizeStart)
        this.done = true
        return
      case Step.Data:
        return
    }
  }

  #size(byte: number): void {
    const letter = byte | 0x20
    const digit = byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
    if (digit < 0 || this.#remaining > 2 ** 40) this.bad = true
    this.#remaining = this.#remaining * 16 + Math.max(digit, 0)
    this.#step = Step.Size
  }

  #expect(byte: number, expected: number, next: Step): void {
    if (byte !== expected) this.bad = true
    this.#step = next
  }
}

/** Are two heads the same but for these headers, whose values are different each time? @param volatile names in lower case */
export function sameHead(a: Buffer, b: Buffer, volatile: ReadonlySet<string>): boolean {
  const lines = (head: Buffer): string => {
    const all = head.toString('latin1').split('\r\n')
    return all.filter((line) => !volatile.has(line.slice(0, Math.max(0, line.indexOf(':'))).toLowerCase())).join('\r\n')
  }
  return lines(a) === lines(b)
}
