import { BackdoorsError } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { maxNameBytes, maxSessionIdBytes, record as at } from './layout.js'
import { decodeText, encodeName, viewOf } from './text.js'

/** Where a session was before it was adopted: what keeps it from being adopted twice. */
export interface SessionOrigin {
  readonly node: string
  readonly incarnation: bigint
  readonly box: number
  readonly sequence: number
}

/** One version of a session, as found valid in a box. */
export interface SessionVersion {
  readonly store: string
  readonly id: string
  readonly sequence: number
  readonly schemaVersion: number
  /** Milliseconds of the committing node's monotonic clock. */
  readonly committedAtMs: number
  /** 0 = without end. */
  readonly ttlMs: number
  readonly origin: SessionOrigin | undefined
  /** A view into the bytes the record was decoded from. */
  readonly payload: Uint8Array
}

/**
 * What a record stores in 32 bits has to be 32 bits: else this writer would go by another number than its readers.
 * @throws BackdoorsError INVALID_ARGUMENT
 */
export function checkWord(field: 'ttlMs' | 'schemaVersion', value: number): void {
  if (value >>> 0 === value) return
  throw new BackdoorsError('INVALID_ARGUMENT', `${field} must be a whole number below 2^32, not ${value}.`, { field })
}

const originFixedBytes = 20

/**
 * Incarnation u64, sequence u64, box u32, then the node's name.
 * @throws BackdoorsError INVALID_ARGUMENT where the node's name is none
 */
export function encodeOrigin(origin: SessionOrigin): Uint8Array {
  const name = encodeName('origin node', origin.node, maxNameBytes)
  const bytes = new Uint8Array(originFixedBytes + name.length)
  const view = viewOf(bytes)
  view.setBigUint64(0, origin.incarnation, true)
  view.setBigUint64(8, BigInt(origin.sequence), true)
  view.setUint32(16, origin.box, true)
  bytes.set(name, originFixedBytes)
  return bytes
}

function decodeOrigin(bytes: Uint8Array): SessionOrigin | undefined {
  if (bytes.length <= originFixedBytes || bytes.length > originFixedBytes + maxNameBytes) return undefined
  const view = viewOf(bytes)
  const node = decodeText(bytes, originFixedBytes, bytes.length - originFixedBytes)
  const sequence = Number(view.getBigUint64(8, true))
  if (!node || !Number.isSafeInteger(sequence)) return undefined
  return { node, incarnation: view.getBigUint64(0, true), box: view.getUint32(16, true), sequence }
}

/** One text for each origin, for sets and maps. */
export const originKey = (origin: SessionOrigin, store: string, id: string): string =>
  [origin.node, origin.incarnation.toString(16), origin.box, origin.sequence, store, id].join('\0')

/** Length of the record that the header at the start of `bytes` tells of; undefined where there can be none. */
export const recordLength = (bytes: Uint8Array): number | undefined => (bytes.length < at.headerBytes ? undefined : lengthAt(viewOf(bytes), 0))

function lengthAt(view: DataView, start: number): number | undefined {
  const storeBytes = view.getUint16(start + at.storeBytes, true)
  const sessionIdBytes = view.getUint16(start + at.sessionIdBytes, true)
  if (storeBytes === 0 || storeBytes > maxNameBytes || sessionIdBytes === 0 || sessionIdBytes > maxSessionIdBytes) return undefined
  return at.headerBytes + storeBytes + sessionIdBytes + view.getUint16(start + at.originBytes, true) + view.getUint32(start + at.payloadBytes, true)
}

/**
 * Decodes and checks the record at the start of `bytes`, which may be anything.
 * @param verifyCrc off only to show what the check is worth (`safeguards.ts`)
 * @returns undefined where there is no valid record
 */
export const decodeRecord = (bytes: Uint8Array, seed: number, verifyCrc = true): SessionVersion | undefined =>
  new RecordDecoder(bytes, seed, verifyCrc).decode(0, bytes.length)

/** Decodes many records that stand in the same bytes: each takes as few objects as it is made of. */
export class RecordDecoder {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #seed: number
  readonly #verifyCrc: boolean
  /** The store of the record before: most have the same. */
  #store: string | undefined
  #storeAt = 0
  #storeBytes = 0

  constructor(bytes: Uint8Array, seed: number, verifyCrc = true) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
    this.#seed = seed
    this.#verifyCrc = verifyCrc
  }

  /** As `decodeRecord`, of the `length` bytes from `start` on, which lie within. */
  decode(start: number, length: number): SessionVersion | undefined {
    const total = length < at.headerBytes ? undefined : lengthAt(this.#view, start)
    if (total === undefined || total > length) return undefined
    const [bytes, view] = [this.#bytes, this.#view]
    if (this.#verifyCrc && view.getUint32(start + at.crc, true) !== crc32c(bytes, start + 4, total - 4, this.#seed)) return undefined
    const storeBytes = view.getUint16(start + at.storeBytes, true)
    const sessionIdBytes = view.getUint16(start + at.sessionIdBytes, true)
    const originBytes = view.getUint16(start + at.originBytes, true)
    const originAt = start + at.headerBytes + storeBytes + sessionIdBytes
    const store = this.#storeOf(start + at.headerBytes, storeBytes)
    const id = decodeText(bytes, start + at.headerBytes + storeBytes, sessionIdBytes)
    const origin = originBytes === 0 ? undefined : decodeOrigin(bytes.subarray(originAt, originAt + originBytes))
    const sequence = this.#integerAt(start + at.sequence)
    const committedAtMs = this.#integerAt(start + at.committedAtMs)
    const sound = Number.isSafeInteger(sequence) && Number.isSafeInteger(committedAtMs) && (originBytes === 0 || origin !== undefined)
    if (!store || !id || !sound) return undefined
    return {
      store,
      id,
      sequence,
      schemaVersion: view.getUint32(start + at.schemaVersion, true),
      committedAtMs,
      ttlMs: view.getUint32(start + at.ttlMs, true),
      origin,
      payload: bytes.subarray(originAt + originBytes, start + total),
    }
  }

  #storeOf(start: number, length: number): string | undefined {
    if (this.#store !== undefined && length === this.#storeBytes && this.#isSame(start, this.#storeAt, length)) return this.#store
    this.#store = decodeText(this.#bytes, start, length)
    this.#storeAt = start
    this.#storeBytes = length
    return this.#store
  }

  #isSame(left: number, right: number, length: number): boolean {
    for (let i = 0; i < length; i++) if (this.#bytes[left + i] !== this.#bytes[right + i]) return false
    return true
  }

  /** 64 bits as a number: exact, or no safe integer. */
  #integerAt(position: number): number {
    return this.#view.getUint32(position + 4, true) * 0x1_0000_0000 + this.#view.getUint32(position, true)
  }
}
