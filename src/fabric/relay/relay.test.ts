import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange, ReadableMemory } from '../remote-memory.js'
import { frame, jsonFrame, mostBatchBytes, mostRequestBytes } from './relay-protocol.js'
import { RelayServer } from './relay-server.js'
import { RelayedMemory } from './relayed-memory.js'

const log = pino({ level: 'silent' })
const length = 3 * mostBatchBytes

/** Byte `i` is the sum of the bytes of `i`, so that a wrong place shows. */
const byteAt = (offset: number): number => (offset + (offset >> 8) + (offset >> 16)) & 0xff

class CountingMemory implements ReadableMemory {
  readonly peer = 'b'
  readonly length = length
  underWay = 0
  mostUnderWay = 0

  async read(offset: number, count: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length: count }]))[0] as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay)
    await new Promise(setImmediate)
    this.underWay -= 1
    for (const { offset, length: count } of ranges) if (offset + count > length) throw new BackdoorsError('OUT_OF_RANGE', `${count} bytes at ${offset}: too far`, { offset })
    return ranges.map(({ offset, length: count }) => Uint8Array.from({ length: count }, (_, i) => byteAt(offset + i)))
  }
}

let folder: string
let path: string
let source: CountingMemory
let server: RelayServer
const map = [{ physical: 4096, length, offset: 0 }]

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-relay-'))
  path = join(folder, 'socket')
  source = new CountingMemory()
  server = new RelayServer({
    path, log,
    find: (name) => {
      if (name === 'b') return { memory: source, map, notes: [77] }
      throw new BackdoorsError('PEER_UNKNOWN', `no ${name} here`)
    },
  })
  await server.listen()
})

afterEach(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})

it('tells what the memory is, and reads it, in batches as large as they may be', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  expect([memory.peer, memory.length, memory.map, memory.notes]).toEqual(['b', length, map, [77]])
  const ranges = [{ offset: 5, length: 3 }, { offset: 100, length: mostBatchBytes + 10 }, { offset: length - 1, length: 1 }]
  const read = await memory.readMany(ranges)
  expect(read.map((bytes) => bytes.length)).toEqual(ranges.map((range) => range.length))
  for (const [i, { offset }] of ranges.entries()) {
    expect(read[i]?.[0]).toBe(byteAt(offset))
    expect(read[i]?.at(-1)).toBe(byteAt(offset + (ranges[i]?.length ?? 0) - 1))
  }
  await memory.close()
  await expect(memory.read(0, 1)).rejects.toMatchObject({ code: 'CLOSED' })
})

it('answers many at a time, each with its own, and reads few at a time', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  const read = await Promise.all(Array.from({ length: 50 }, (_, i) => memory.read(i * 1000, 4)))
  expect(read.map((bytes) => bytes[0])).toEqual(Array.from({ length: 50 }, (_, i) => byteAt(i * 1000)))
  expect(source.mostUnderWay).toBeLessThanOrEqual(4)
  await memory.close()
})

it('hands on what reading throws, and reads on', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  await expect(memory.read(length, 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
  expect(await memory.read(0, 1)).toHaveLength(1)
  await memory.close()
})

it('says whom it does not know, and that nobody listens', async () => {
  await expect(RelayedMemory.connect(path, 'c')).rejects.toMatchObject({ code: 'PEER_UNKNOWN', message: 'no c here' })
  await expect(RelayedMemory.connect(join(folder, 'nobody'), 'b')).rejects.toMatchObject({ code: 'DAEMON_UNAVAILABLE' })
})

it('fails what is under way when the daemon ends', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  const reading = memory.readMany(Array.from({ length: 3 }, () => ({ offset: 0, length: mostBatchBytes })))
  const failed = expect(reading).rejects.toMatchObject({ code: 'DAEMON_UNAVAILABLE' })
  await server.close()
  await failed
})

it('is for this user alone', () => {
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

it.each([
  ['no JSON', [frame(Buffer.from('nonsense'))]],
  ['no memory named', [jsonFrame({ memory: '' })]],
  ['an empty frame', [Buffer.from([0, 0, 0, 0])]],
  ['a frame that is too long', [(() => { const head = Buffer.alloc(4); head.writeUInt32BE(mostRequestBytes + 1); return head })()]],
  ['a batch of no whole ranges', [jsonFrame({ memory: 'b' }), frame(Buffer.alloc(13))]],
  ['a batch of too many bytes', [jsonFrame({ memory: 'b' }), frame((() => { const range = Buffer.alloc(12); range.writeUInt32LE(0xffff_ffff, 8); return range })())]],
])('ends a connection that sends %s, and serves on', async (_, frames) => {
  const socket = connect(path)
  let answered = ''
  socket.on('data', (piece: Buffer) => (answered += piece.toString('latin1')))
  for (const each of frames) socket.write(each)
  await once(socket, 'close')
  expect(answered).toMatch(/"code":"(PROTOCOL_ERROR|MESSAGE_TOO_LARGE)"/)
  const memory = await RelayedMemory.connect(path, 'b')
  expect(await memory.read(0, 1)).toHaveLength(1)
  await memory.close()
})
