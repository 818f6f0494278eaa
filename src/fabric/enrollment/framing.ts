/** Frames of the control connection: a length of 4 bytes, big-endian, then so many bytes of UTF-8 JSON. */
import { BackdoorsError } from '../../errors.js'

/** Longest JSON text in a frame, in bytes. */
export const maxMessageBytes = 65_536
export const lengthBytes = 4

/**
 * Puts a message into a frame.
 * @throws BackdoorsError MESSAGE_TOO_LARGE, INVALID_ARGUMENT if the value has no JSON form.
 */
export function encodeFrame(message: unknown): Buffer {
  const text = stringify(message)
  const length = Buffer.byteLength(text)
  if (length > maxMessageBytes) {
    throw new BackdoorsError('MESSAGE_TOO_LARGE', `a message of ${length} bytes exceeds the limit of ${maxMessageBytes}`, { length })
  }
  const frame = Buffer.allocUnsafe(lengthBytes + length)
  frame.writeUInt32BE(length, 0)
  frame.write(text, lengthBytes)
  return frame
}

function stringify(message: unknown): string {
  try {
    return JSON.stringify(message)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new BackdoorsError('INVALID_ARGUMENT', `a message has to be plain JSON: ${reason}`, { cause })
  }
}

/**
 * Cuts a stream of bytes into the texts of its frames. It holds one frame's worth of bytes and what came in
 * the same piece, and judges a length as soon as its 4 bytes are there.
 */
export class FrameDecoder {
  readonly #mostBytes: number
  #pieces: Buffer[] = []
  #held = 0

  /** @param mostBytes longest frame that is taken, without its length */
  constructor(mostBytes = maxMessageBytes) {
    this.#mostBytes = mostBytes
  }

  /** Bytes held that do not make a whole frame yet, or that nobody has asked for. */
  get heldBytes(): number {
    return this.#held
  }

  push(piece: Buffer): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#held += piece.length
  }

  /**
   * The next frame's text, if all of it is here.
   * @throws BackdoorsError MESSAGE_TOO_LARGE, PROTOCOL_ERROR for an empty frame; the stream is then beyond use.
   */
  next(): Buffer | undefined {
    if (this.#held < lengthBytes) return undefined
    const length = this.#peekLength()
    if (length === 0) throw new BackdoorsError('PROTOCOL_ERROR', 'the peer sent an empty frame', { length })
    if (length > this.#mostBytes) {
      throw new BackdoorsError('MESSAGE_TOO_LARGE', `the peer announced a message of ${length} bytes, more than the limit of ${this.#mostBytes}`, { length })
    }
    if (this.#held < lengthBytes + length) return undefined
    return this.#take(lengthBytes + length).subarray(lengthBytes)
  }

  #peekLength(): number {
    const [first] = this.#pieces
    const whole = first !== undefined && first.length >= lengthBytes ? first : this.#join()
    return whole.readUInt32BE(0)
  }

  #take(count: number): Buffer {
    const all = this.#join()
    const rest = all.subarray(count)
    this.#pieces = rest.length > 0 ? [rest] : []
    this.#held = rest.length
    return all.subarray(0, count)
  }

  #join(): Buffer {
    const [only, ...others] = this.#pieces
    const all = only !== undefined && others.length === 0 ? only : Buffer.concat(this.#pieces)
    this.#pieces = [all]
    return all
  }
}
