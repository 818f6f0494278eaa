/** The buffer in which records are put together, one for all connections of a server: a commit copies it, and needs no buffer of its own. */
const firstBytes = 16 << 10
/** Views of up to this length are made once and kept. */
const keptViews = 4096

export class Scratch {
  bytes!: Buffer
  /** The same, as the header of a record is written. */
  words!: Uint32Array
  #records!: (Uint8Array | undefined)[]
  #literals!: (Buffer | undefined)[]

  constructor() {
    this.#use(Buffer.allocUnsafeSlow(firstBytes))
  }

  /** Makes room for so many bytes, and keeps the first `kept` as they are. */
  reserve(bytes: number, kept: number): void {
    if (bytes <= this.bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.ceil(Math.max(bytes, 2 * this.bytes.length) / 4) * 4)
    this.bytes.copy(larger, 0, 0, kept)
    this.#use(larger)
  }

  /** The first `length` bytes. */
  take(length: number): Uint8Array {
    if (length >= keptViews) return this.bytes.subarray(0, length)
    return (this.#records[length] ??= this.bytes.subarray(0, length))
  }

  /** `length` bytes from `start` on, which is the same in each call. */
  literal(start: number, length: number): Buffer {
    if (length >= keptViews) return this.bytes.subarray(start, start + length)
    return (this.#literals[length] ??= this.bytes.subarray(start, start + length))
  }

  /** What was put together is the kernel's until it has taken all of it: the next record is another buffer's. */
  leave(): void {
    this.#use(Buffer.allocUnsafeSlow(firstBytes))
  }

  #use(bytes: Buffer): void {
    this.bytes = bytes
    this.words = new Uint32Array(bytes.buffer, 0, bytes.length / 4)
    this.#records = []
    this.#literals = []
  }
}
