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

export function decodeOrigin(bytes: Uint8Array): SessionOrigin | undefined {
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
export const recordLength = (bytes: Uint8Array): number | undefined => (bytes.length < at.headerBytes ? undefined : recordTotal(viewOf(bytes), 0))

/** As `recordLength`, of the header at `start`, which is there. */
export function recordTotal(view: DataView, start: number): number | undefined {
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
export function decodeRecord(bytes: Uint8Array, seed: number, verifyCrc = true): SessionVersion | undefined {
  const total = recordLength(bytes)
  if (total === undefined || total > bytes.length) return undefined
  const view = viewOf(bytes)
  if (verifyCrc && view.getUint32(at.crc, true) !== crc32c(bytes, 4, total - 4, seed)) return undefined
  const storeBytes = view.getUint16(at.storeBytes, true)
  const originBytes = view.getUint16(at.originBytes, true)
  const idAt = at.headerBytes + storeBytes
  const originAt = idAt + view.getUint16(at.sessionIdBytes, true)
  const store = decodeText(bytes, at.headerBytes, storeBytes)
  const id = decodeText(bytes, idAt, originAt - idAt)
  const origin = originBytes === 0 ? undefined : decodeOrigin(bytes.subarray(originAt, originAt + originBytes))
  const sequence = safeInteger(view, at.sequence)
  const committedAtMs = safeInteger(view, at.committedAtMs)
  const sound = Number.isSafeInteger(sequence) && Number.isSafeInteger(committedAtMs) && (originBytes === 0 || origin !== undefined)
  if (store === undefined || id === undefined || !sound) return undefined
  return { store, id, sequence, schemaVersion: view.getUint32(at.schemaVersion, true), committedAtMs, ttlMs: view.getUint32(at.ttlMs, true), origin, payload: bytes.subarray(originAt + originBytes, total) }
}

/** 64 bits as a number: exact, or no safe integer. */
export const safeInteger = (view: DataView, position: number): number => view.getUint32(position + 4, true) * 0x1_0000_0000 + view.getUint32(position, true)
