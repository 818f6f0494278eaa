/**
 * Where the messages of a WebSocket begin and end in what its client sends (RFC 6455, section 5).
 *
 * As strict as the standard, for a server: anything it forbids is `bad`, and its connection is not continued. Two readers that differ about
 * where a message ends must never both be believed.
 */

export type FrameKind = 'message' | 'ping' | 'pong' | 'close'

/** A message or a control frame that has come whole. Positions are bytes of the stream since the connection was accepted. */
export interface Whole {
  readonly kind: FrameKind
  /** Its first byte, where what comes before it is a message that has not come whole; else 0: all before it goes with it. */
  readonly from: number
  /** After its last byte. */
  readonly end: number
}

const kinds: readonly (FrameKind | undefined)[] = ['message', 'message', 'message', undefined, undefined, undefined, undefined, undefined, 'close', 'ping', 'pong']
const close = 8
const mostControlBytes = 125
const maskBytes = 4
const mostHeaderBytes = 10

export class FrameScanner {
  bad = false
  /** A close frame has come: nothing after it means anything. */
  closed = false
  /** Position of the next byte. */
  #at: number
  /** The frame's first bytes, while they are not all there: two, and what the length takes. */
  readonly #header = Buffer.alloc(mostHeaderBytes)
  #have = 0
  #need = 2
  #frameAt = 0
  /** Of the mask and the payload, bytes still to come; -1 in a header. */
  #remaining = -1
  /** A message was begun whose last frame has not come. */
  #inMessage = false

  constructor(at: number) {
    this.#at = at
  }

  /** @param whole is told of each in the order of their ends */
  scan(bytes: Uint8Array, whole: (one: Whole) => void): void {
    for (let i = 0; i < bytes.length && !this.bad && !this.closed;) {
      if (this.#remaining < 0) {
        if (this.#have === 0) this.#frameAt = this.#at
        this.#header[this.#have++] = bytes[i++] as number
        this.#at++
        if (this.#have === this.#need) this.#takeHeader()
        // A frame with a mask is never over with its header.
        continue
      }
      const length = Math.min(bytes.length - i, this.#remaining)
      i += length
      this.#at += length
      this.#remaining -= length
      if (this.#remaining === 0) this.#end(whole)
    }
  }

  #takeHeader(): void {
    const [first = 0, second = 0] = this.#header
    const short = second & 0x7f
    if (this.#have === 2) {
      this.bad = !this.#isSound(first, second)
      this.#need = short === 126 ? 4 : short === 127 ? mostHeaderBytes : 2
      if (this.bad || this.#need > 2) return
    }
    const length = short === 126 ? this.#header.readUInt16BE(2) : short === 127 ? Number(this.#header.readBigUInt64BE(2)) : short
    // The shortest form is the only one (section 5.2).
    if ((short === 126 && length < 126) || (short === 127 && length <= 0xffff) || !Number.isSafeInteger(length)) this.bad = true
    this.#remaining = maskBytes + length
  }

  #isSound(first: number, second: number): boolean {
    const opcode = first & 0x0f
    const isFinal = (first & 0x80) !== 0
    const length = second & 0x7f
    if ((first & 0x70) !== 0 || (second & 0x80) === 0 || kinds[opcode] === undefined) return false
    if (opcode >= close) return isFinal && length <= mostControlBytes && !(opcode === close && length === 1)
    return (opcode === 0) === this.#inMessage
  }

  #end(whole: (one: Whole) => void): void {
    const first = this.#header[0] as number
    const opcode = first & 0x0f
    this.#have = 0
    this.#need = 2
    this.#remaining = -1
    if (opcode < close) {
      this.#inMessage = (first & 0x80) === 0
      if (this.#inMessage) return
    }
    this.closed = opcode === close
    whole({ kind: kinds[opcode] as FrameKind, from: this.#inMessage ? this.#frameAt : 0, end: this.#at })
  }
}
