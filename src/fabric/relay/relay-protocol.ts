/**
 * How one process reads memory that another one reaches: the command line, through the daemon of its machine.
 *
 * A stream of frames, each a length (4 bytes, big-endian) and so many bytes. First the client says which memory, and is told
 * of it, as JSON. Then every frame of the client's is a batch, of 12 bytes a range: offset (8 bytes, little-endian) and length
 * (4 bytes); it is answered, in order, by a byte of 0 and the ranges' bytes one after another, or a byte of 1 and an error as JSON.
 */
import { z } from 'zod'
import { BackdoorsError, errorCodes, type ErrorCode } from '../../errors.js'
import type { MemoryRange } from '../remote-memory.js'

export const rangeBytes = 12
/** Ranges of one batch, and bytes that they ask for. */
export const mostRanges = 16_384
export const mostBatchBytes = 8 << 20
export const mostRequestBytes = mostRanges * rangeBytes
export const mostAnswerBytes = mostBatchBytes + 1
export const statuses = { ok: 0, failed: 1 } as const

const byteCount = z.int().min(0)
export const relayHello = z.strictObject({ memory: z.string().min(1).max(63) })
export const relayWelcome = z.strictObject({
  peer: z.string().min(1).max(63),
  length: byteCount,
  map: z.array(z.strictObject({ physical: byteCount, length: byteCount, offset: byteCount })).max(64),
  notes: z.array(byteCount).max(16),
})
export const relayError = z.object({ code: z.string(), message: z.string() })
export const relayAnswer = z.union([relayWelcome, z.strictObject({ error: relayError })])

export type RelayWelcome = z.output<typeof relayWelcome>

export function frame(payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(4 + payload.length)
  bytes.writeUInt32BE(payload.length, 0)
  bytes.set(payload, 4)
  return bytes
}

export const jsonFrame = (value: unknown): Buffer => frame(Buffer.from(JSON.stringify(value)))

export function encodeRanges(ranges: readonly MemoryRange[]): Buffer {
  const bytes = Buffer.allocUnsafe(ranges.length * rangeBytes)
  for (const [i, { offset, length }] of ranges.entries()) {
    bytes.writeBigUInt64LE(BigInt(offset), i * rangeBytes)
    bytes.writeUInt32LE(length, i * rangeBytes + 8)
  }
  return bytes
}

/** @throws BackdoorsError PROTOCOL_ERROR, MESSAGE_TOO_LARGE where it asks for more than a batch may */
export function decodeRanges(bytes: Buffer): MemoryRange[] {
  if (bytes.length % rangeBytes !== 0 || bytes.length === 0) throw new BackdoorsError('PROTOCOL_ERROR', `A batch of ${bytes.length} bytes is no list of ranges.`)
  let total = 0
  const ranges: MemoryRange[] = []
  for (let at = 0; at < bytes.length; at += rangeBytes) {
    const range = { offset: Number(bytes.readBigUInt64LE(at)), length: bytes.readUInt32LE(at + 8) }
    total += range.length
    ranges.push(range)
  }
  if (total > mostBatchBytes) throw new BackdoorsError('MESSAGE_TOO_LARGE', `A batch asks for ${total} bytes: ${mostBatchBytes} at most.`, { length: total })
  return ranges
}

export const errorOf = ({ code, message }: z.output<typeof relayError>): BackdoorsError =>
  new BackdoorsError((errorCodes as readonly string[]).includes(code) ? (code as ErrorCode) : 'PROTOCOL_ERROR', message)
