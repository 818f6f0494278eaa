/**
 * What is kept of one connection, so that another machine can go on with it. Little-endian:
 *
 *     0  u32  "BDC2"
 *     4  u8   protocol: 0 HTTP, 1 any other, 2 HTTP that was upgraded
 *     5  u8   flags: 1 the response is complete; 2 a checkpoint was made within it; 4 the server keeps a state
 *     6  u8   why it cannot be continued: its place in `resetReasons` and 1, or 0
 *     7  u8   0
 *     8  u64  read, 16 u64 written: where this machine's life of the connection began
 *    24  u64  input: where the kept input begins (that of HTTP's unfinished requests, or since the checkpoint)
 *    32  u64  output: where what has to be made anew begins: the unfinished response, or what came after the checkpoint
 *    40  u64  output's end: all before it was decided before any of it was written
 *    48  u64  bytes of the response's content that came before its checkpoint
 *    56  u64  drawn by chance when the connection was accepted
 *    64  u32  number of the first request in the kept input
 *    68  u32  CRC32C, 72 u32 CRC32 of what has to be made anew, but for the response's head
 *    76  u32  bytes of the literal, 80 preamble, 84 input, 88 head, 92 state: they follow in this order, and are all there is
 *    96  u64  incarnation of the region of the machine that wrote this: read and written are of that machine's life of the connection
 *
 * Positions are bytes of the stream since the connection was accepted, by whatever machine. The literal is the end of the output: what
 * may not have come to the kernel yet. The preamble is the request that led to an upgrade. The head is that of the response under way.
 */
import { resetReasons, type ResetReason } from '../../recovery/tcp/connection.js'

export const protocols = ['http', 'raw', 'upgraded'] as const
export type Protocol = (typeof protocols)[number]

export const recordHeaderBytes = 104
export const recordFlags = { complete: 1, checkpointed: 2, hasState: 4 } as const
const magic = 0x32434442
const at = { protocol: 4, flags: 5, broken: 6, read: 8, written: 16, input: 24, output: 32, outputEnd: 40, contentBefore: 48, nonce: 56, request: 64, crc32c: 68, crc32: 72, lengths: 76, life: 96 } as const

export interface ConnectionRecord {
  readonly protocol: Protocol
  readonly complete: boolean
  readonly checkpointed: boolean
  readonly broken: ResetReason | undefined
  readonly base: { readonly read: number; readonly written: number }
  readonly inputAt: number
  readonly outputAt: number
  readonly outputEnd: number
  readonly contentBefore: number
  readonly nonce: bigint
  readonly life: bigint
  readonly request: number
  readonly crc32c: number
  readonly crc32: number
  readonly literal: Buffer
  readonly preamble: Buffer
  readonly input: Buffer
  readonly head: Buffer
  readonly state: Buffer | undefined
}

/** What the header of a record is written from: the lengths are those of what follows it. */
export interface RecordFields {
  protocol: Protocol
  flags: number
  broken: ResetReason | undefined
  baseRead: number
  baseWritten: number
  inputAt: number
  outputAt: number
  outputEnd: number
  contentBefore: number
  nonceLow: number
  nonceHigh: number
  lifeLow: number
  lifeHigh: number
  request: number
  crc32c: number
  crc32: number
}

/** Integers of 64 bits would be objects on the heap at each commit. */
export const wordsOf = (nonce: bigint, life: bigint): Pick<RecordFields, 'nonceLow' | 'nonceHigh' | 'lifeLow' | 'lifeHigh'> => ({
  nonceLow: Number(nonce & 0xffff_ffffn), nonceHigh: Number(nonce >> 32n), lifeLow: Number(life & 0xffff_ffffn), lifeHigh: Number(life >> 32n),
})

function setPosition(words: Uint32Array, offset: number, value: number): void {
  words[offset / 4] = value
  words[offset / 4 + 1] = value < 0x1_0000_0000 ? 0 : Math.floor(value / 0x1_0000_0000)
}

/** Writes the header at the start of `words`, which is little-endian like all of a region. */
export function encodeHeader(words: Uint32Array, fields: RecordFields, literal: number, preamble: number, input: number, head: number, state: number): void {
  const reason = fields.broken === undefined ? 0 : resetReasons.indexOf(fields.broken) + 1
  words[0] = magic
  words[at.protocol / 4] = protocols.indexOf(fields.protocol) | (fields.flags << 8) | (reason << 16)
  setPosition(words, at.read, fields.baseRead)
  setPosition(words, at.written, fields.baseWritten)
  setPosition(words, at.input, fields.inputAt)
  setPosition(words, at.output, fields.outputAt)
  setPosition(words, at.outputEnd, fields.outputEnd)
  setPosition(words, at.contentBefore, fields.contentBefore)
  words[at.nonce / 4] = fields.nonceLow
  words[at.nonce / 4 + 1] = fields.nonceHigh
  words[at.life / 4] = fields.lifeLow
  words[at.life / 4 + 1] = fields.lifeHigh
  words[at.request / 4] = fields.request
  words[at.crc32c / 4] = fields.crc32c
  words[at.crc32 / 4] = fields.crc32
  words[at.lengths / 4] = literal
  words[at.lengths / 4 + 1] = preamble
  words[at.lengths / 4 + 2] = input
  words[at.lengths / 4 + 3] = head
  words[at.lengths / 4 + 4] = state
}

/** Takes every byte for hostile. @returns undefined where they are no record, or one that contradicts itself */
export function decodeRecord(bytes: Uint8Array): ConnectionRecord | undefined {
  if (bytes.length < recordHeaderBytes) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const position = (offset: number): number => view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000
  const protocol = protocols[view.getUint8(at.protocol)]
  const flags = view.getUint8(at.flags)
  const reason = view.getUint16(at.broken, true)
  if (view.getUint32(0, true) !== magic || protocol === undefined || flags > 7 || reason > resetReasons.length) return undefined
  const parts: Buffer[] = []
  let next: number = recordHeaderBytes
  for (let part = 0; part < 5; part++) {
    const length = view.getUint32(at.lengths + 4 * part, true)
    if (length > bytes.length - next) return undefined
    parts.push(Buffer.from(bytes.subarray(next, next + length)))
    next += length
  }
  if (next !== bytes.length) return undefined
  const [literal, preamble, input, head, state] = parts as [Buffer, Buffer, Buffer, Buffer, Buffer]
  const record: ConnectionRecord = {
    protocol, complete: (flags & recordFlags.complete) !== 0, checkpointed: (flags & recordFlags.checkpointed) !== 0,
    broken: reason === 0 ? undefined : resetReasons[reason - 1],
    base: { read: position(at.read), written: position(at.written) },
    inputAt: position(at.input), outputAt: position(at.output), outputEnd: position(at.outputEnd), contentBefore: position(at.contentBefore),
    nonce: view.getBigUint64(at.nonce, true), life: view.getBigUint64(at.life, true), request: view.getUint32(at.request, true),
    crc32c: view.getUint32(at.crc32c, true), crc32: view.getUint32(at.crc32, true),
    literal, preamble, input, head, state: (flags & recordFlags.hasState) === 0 ? undefined : state,
  }
  return isConsistent(record) ? record : undefined
}

function isConsistent({ protocol, base, inputAt, outputAt, outputEnd, contentBefore, literal, preamble, input, head, checkpointed, complete }: ConnectionRecord): boolean {
  const positions = [base.read, base.written, inputAt, outputAt, outputEnd, contentBefore, inputAt + input.length]
  if (!positions.every(Number.isSafeInteger)) return false
  if (outputEnd < outputAt || outputEnd < literal.length || contentBefore > outputAt) return false
  // Without a checkpoint in it, the response begins with its head.
  if (!checkpointed && head.length > outputEnd - outputAt) return false
  if (complete && (protocol !== 'http' || head.length === 0)) return false
  if ((protocol === 'raw' && head.length > 0) || preamble.length > inputAt) return false
  return (protocol === 'upgraded') === preamble.length > 0
}
