/**
 * Records looked at where they were read to: a box may hold hundreds of thousands, and what is not asked for is not made. What makes a
 * record valid is checked when it is taken; its id, payload and origin become objects when somebody wants them.
 */
import { record as at } from './layout.js'
import { decodeOrigin, recordTotal, safeInteger, type SessionOrigin, type SessionVersion } from './session-record.js'
import { decodeText, viewOf } from './text.js'

/** A valid record, as long as the memory it stands in is not read into again. */
export class FoundRecord implements SessionVersion {
  /** See `ExtractedSession`. */
  remainingMs = 0
  stale = false

  /** @param text the id where it is not plain ASCII */
  constructor(
    private readonly records: ReadRecords,
    private readonly start: number,
    /** Of store and id: those of equal ones are equal. */
    readonly hash: number,
    readonly store: string,
    private text: string | undefined,
    readonly sequence: number,
  ) {}

  get id(): string {
    return (this.text ??= this.records.ascii(this.idAt, this.word(at.sessionIdBytes)))
  }

  get schemaVersion(): number {
    return this.records.view.getUint32(this.start + at.schemaVersion, true)
  }

  get committedAtMs(): number {
    return safeInteger(this.records.view, this.start + at.committedAtMs)
  }

  get ttlMs(): number {
    return this.records.view.getUint32(this.start + at.ttlMs, true)
  }

  get origin(): SessionOrigin | undefined {
    const length = this.word(at.originBytes)
    return length === 0 ? undefined : decodeOrigin(this.records.bytes.subarray(this.originAt, this.originAt + length))
  }

  get payload(): Uint8Array {
    const payloadAt = this.originAt + this.word(at.originBytes)
    return this.records.bytes.subarray(payloadAt, payloadAt + this.records.view.getUint32(this.start + at.payloadBytes, true))
  }

  /** Are both versions of one session? */
  isOf(other: FoundRecord): boolean {
    const idBytes = this.word(at.sessionIdBytes)
    if (this.hash !== other.hash || this.store !== other.store || idBytes !== other.word(at.sessionIdBytes)) return false
    const [left, right, leftAt, rightAt] = [this.records.bytes, other.records.bytes, this.idAt, other.idAt]
    for (let i = 0; i < idBytes; i++) if (left[leftAt + i] !== right[rightAt + i]) return false
    return true
  }

  private word(position: number): number {
    return this.records.view.getUint16(this.start + position, true)
  }

  private get idAt(): number {
    return this.start + at.headerBytes + this.word(at.storeBytes)
  }

  private get originAt(): number {
    return this.idAt + this.word(at.sessionIdBytes)
  }
}

/** Memory that records have been read into. */
export class ReadRecords {
  readonly view: DataView
  readonly #buffer: Buffer
  /** The store of the record before: most have the same. */
  #store: string | undefined
  #storeAt = 0
  #storeBytes = 0
  #storeHash = 0

  constructor(readonly bytes: Uint8Array) {
    this.view = viewOf(bytes)
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Length of the record that the header at `start` tells of; 0 where there can be none, or none of so few bytes. */
  totalAt(start: number, length: number): number {
    const total = length < at.headerBytes ? undefined : recordTotal(this.view, start)
    return total === undefined || total > length ? 0 : total
  }

  /** Takes a record whose length and CRC have been checked. @returns undefined where it is none all the same */
  take(start: number): FoundRecord | undefined {
    const { bytes, view } = this
    const idBytes = view.getUint16(start + at.sessionIdBytes, true)
    const originBytes = view.getUint16(start + at.originBytes, true)
    const store = this.#storeOf(start + at.headerBytes, view.getUint16(start + at.storeBytes, true))
    const idAt = start + at.headerBytes + this.#storeBytes
    const originAt = idAt + idBytes
    const sequence = safeInteger(view, start + at.sequence)
    if (store === undefined || !Number.isSafeInteger(sequence) || !Number.isSafeInteger(safeInteger(view, start + at.committedAtMs))) return undefined
    if (originBytes > 0 && decodeOrigin(bytes.subarray(originAt, originAt + originBytes)) === undefined) return undefined
    let hash = this.#storeHash
    let isPlain = true
    for (let i = idAt; i < originAt; i++) {
      const byte = bytes[i] as number
      hash = Math.imul(hash ^ byte, 0x0100_0193)
      if ((byte - 1) >>> 0 >= 0x7f) isPlain = false
    }
    const text = isPlain ? undefined : decodeText(bytes, idAt, idBytes)
    if (!isPlain && text === undefined) return undefined
    return new FoundRecord(this, start, hash, store, text, sequence)
  }

  /** The store that a record names which does not check: it may be anything. */
  claimedStore(start: number, length: number): string | undefined {
    return this.totalAt(start, length) === 0 ? undefined : this.#storeOf(start + at.headerBytes, this.view.getUint16(start + at.storeBytes, true))
  }

  ascii(start: number, length: number): string {
    return this.#buffer.toString('latin1', start, start + length)
  }

  #storeOf(start: number, length: number): string | undefined {
    if (this.#store !== undefined && length === this.#storeBytes && this.#isSame(start, this.#storeAt, length)) return this.#store
    this.#store = decodeText(this.bytes, start, length)
    this.#storeAt = start
    this.#storeBytes = length
    this.#storeHash = 0x811c_9dc5 | 0
    for (let i = start; i < start + length; i++) this.#storeHash = Math.imul(this.#storeHash ^ (this.bytes[i] as number), 0x0100_0193)
    return this.#store
  }

  #isSame(left: number, right: number, length: number): boolean {
    for (let i = 0; i < length; i++) if (this.bytes[left + i] !== this.bytes[right + i]) return false
    return true
  }
}
