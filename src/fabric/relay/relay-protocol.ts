/**
 * How one process reads memory that another one reaches: the command line, through the daemon of its machine.
 *
 * A stream of frames, each a length (4 bytes, big-endian) and so many bytes. First the client says which memory, and is told
 * of it, as JSON. Then every frame of the client's is a batch: the number of a slot (4 bytes, little-endian; all ones for none),
 * and 12 bytes a range: offset (8 bytes, little-endian) and length (4 bytes). It is answered, in order, by a byte of 0 and the
 * ranges' bytes one after another, or a byte of 1 and an error as JSON.
 *
 * A client that asks for it is given a window: memory that the server writes and the client maps. What is read into one of its
 * slots is not in the answer but there, until the client names that slot again: a whole machine goes through here, and each
 * copy of it costs. The window is a sealed memfd of the server's, which cannot be cut off under who maps it.
 */
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange } from '../remote-memory.js'

export const rangeBytes = 12
export const slotNumberBytes = 4
/** Of a window, and the bytes of each: several reads on their way fill the wire. */
export const windowSlots = 4
export const slotBytes = 4 << 20
const noSlot = 0xffff_ffff
/** Ranges of one batch, and bytes that they ask for. */
export const mostRanges = 16_384
export const mostBatchBytes = 8 << 20
export const mostRequestBytes = slotNumberBytes + mostRanges * rangeBytes
export const mostAnswerBytes = mostBatchBytes + 1
export const statuses = { ok: 0, failed: 1 } as const

export function frame(payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(4 + payload.length)
  bytes.writeUInt32BE(payload.length, 0)
  bytes.set(payload, 4)
  return bytes
}

export const jsonFrame = (value: unknown): Buffer => frame(Buffer.from(JSON.stringify(value)))

/** What a client wants read, and into which slot of its window; by the connection where that is undefined. */
export interface Batch {
  readonly ranges: readonly MemoryRange[]
  readonly slot: number | undefined
}

export function encodeBatch({ ranges, slot }: Batch): Buffer {
  const bytes = Buffer.allocUnsafe(slotNumberBytes + ranges.length * rangeBytes)
  bytes.writeUInt32LE(slot ?? noSlot, 0)
  for (const [i, { offset, length }] of ranges.entries()) {
    bytes.writeBigUInt64LE(BigInt(offset), slotNumberBytes + i * rangeBytes)
    bytes.writeUInt32LE(length, slotNumberBytes + i * rangeBytes + 8)
  }
  return bytes
}

/** @throws BackdoorsError PROTOCOL_ERROR, MESSAGE_TOO_LARGE where it asks for more than a batch, or a slot, may have */
export function decodeBatch(bytes: Buffer): Batch {
  if ((bytes.length - slotNumberBytes) % rangeBytes !== 0 || bytes.length <= slotNumberBytes) throw new BackdoorsError('PROTOCOL_ERROR', `A batch of ${bytes.length} bytes is no list of ranges.`)
  const number = bytes.readUInt32LE(0)
  const slot = number === noSlot ? undefined : number
  if (slot !== undefined && slot >= windowSlots) throw new BackdoorsError('PROTOCOL_ERROR', `There is no slot ${slot}.`)
  let total = 0
  const ranges: MemoryRange[] = []
  for (let at = slotNumberBytes; at < bytes.length; at += rangeBytes) {
    const range = { offset: Number(bytes.readBigUInt64LE(at)), length: bytes.readUInt32LE(at + 8) }
    total += range.length
    ranges.push(range)
  }
  const most = slot === undefined ? mostBatchBytes : slotBytes
  if (total > most) throw new BackdoorsError('MESSAGE_TOO_LARGE', `A batch asks for ${total} bytes: ${most} at most.`, { length: total })
  return { ranges, slot }
}
