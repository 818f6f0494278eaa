import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { FrameDecoder } from '../enrollment/framing.js'
import type { MemoryRange, ReadableMemory } from '../remote-memory.js'
import { decodeBatch, encodeBatch, frame, jsonFrame, mostBatchBytes, mostRequestBytes, slotBytes, windowSlots } from './relay-protocol.js'
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

it('lends what is read, by a window, in batches of any size, many at a time', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  const seen: number[] = []
  const lengths = [1, 7, slotBytes - 8, slotBytes + 1]
  await Promise.all(Array.from({ length: 3 * windowSlots }, async (_, i) => {
    const ranges = [{ offset: i * 1000, length: lengths[i % lengths.length]! }, { offset: i, length: 8 }]
    await memory.readLent(ranges, async (bytes) => {
      const check = (): void => expect(bytes.map((each) => [each.length, each[0], each.at(-1)])).toEqual(ranges.map(({ offset, length: count }) => [count, byteAt(offset), byteAt(offset + count - 1)]))
      check()
      // Others are read meanwhile, and not into this slot.
      await new Promise((resolve) => setTimeout(resolve, 5))
      check()
      seen.push(i)
    })
  }))
  expect(seen).toHaveLength(3 * windowSlots)
  await memory.close()
  await expect(memory.readLent([{ offset: 0, length: 8 }], () => Promise.resolve())).rejects.toMatchObject({ code: 'CLOSED' })
})

it('lends again what reading, or its user, failed with', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  for (let i = 0; i < 2 * windowSlots; i++) {
    await expect(memory.readLent([{ offset: length, length: 1 }], () => Promise.resolve())).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await expect(memory.readLent([{ offset: 0, length: 1 }], () => Promise.reject(new Error('mine')))).rejects.toThrow('mine')
  }
  expect(await memory.readLent([{ offset: 3, length: 1 }], ([bytes]) => Promise.resolve(bytes?.[0]))).toBe(byteAt(3))
  await memory.close()
})

it('gives its window back with the connection', async () => {
  const open = (): number => readdirSync('/proc/self/fd').filter((fd) => { try { return readlinkSync(`/proc/self/fd/${fd}`).includes('backdoors-relay') } catch { return false } }).length
  const memory = await RelayedMemory.connect(path, 'b')
  // The server's and the client's: both are this process.
  expect(open()).toBe(2)
  await memory.close()
  while (open() > 0) await new Promise(setImmediate)
})

it('takes no file for the window that does not begin as the server says', async () => {
  const other = join(folder, 'other')
  writeFileSync(other, Buffer.alloc(windowSlots * slotBytes, 7))
  const slots: (number | undefined)[] = []
  const lying = createServer((socket) => {
    const decoder = new FrameDecoder(mostRequestBytes)
    let isGreeted = false
    socket.on('data', (piece: Buffer) => {
      decoder.push(piece)
      for (let request = decoder.next(); request; request = decoder.next()) {
        if (isGreeted) slots.push(decodeBatch(request).slot)
        socket.write(isGreeted ? frame(Buffer.of(0, 42)) : jsonFrame({ peer: 'b', length, map, notes: [], window: { path: other, beginning: '00'.repeat(16) } }))
        isGreeted = true
      }
    })
  }).listen(join(folder, 'lying'))
  await once(lying, 'listening')
  const memory = await RelayedMemory.connect(join(folder, 'lying'), 'b')
  expect(await memory.readLent([{ offset: 0, length: 1 }], ([bytes]) => Promise.resolve(bytes?.[0]))).toBe(42)
  expect(slots).toEqual([undefined])
  await memory.close()
  lying.close()
})

it('keeps what is lent until it is given back, though the memory is closed', async () => {
  const memory = await RelayedMemory.connect(path, 'b')
  await memory.readLent([{ offset: 5, length: 9 }], async ([bytes]) => {
    await memory.close()
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect([bytes?.length, bytes?.[0]]).toEqual([9, byteAt(5)])
  })
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

it('refuses a slot to who has asked for no window, and serves on', async () => {
  const socket = connect(path)
  const decoder = new FrameDecoder(1 << 20)
  const answers: string[] = []
  socket.write(jsonFrame({ memory: 'b' }))
  for (const slot of [0, undefined]) socket.write(frame(encodeBatch({ ranges: [{ offset: 0, length: 1 }], slot })))
  for await (const piece of socket) {
    decoder.push(piece as Buffer)
    for (let answer = decoder.next(); answer; answer = decoder.next()) answers.push(answer.toString('latin1'))
    if (answers.length === 3) break
  }
  expect(answers).toEqual([expect.stringContaining('"window":null'), expect.stringContaining('PROTOCOL_ERROR'), `\0${String.fromCharCode(byteAt(0))}`])
})

it.each([
  ['no JSON', [frame(Buffer.from('nonsense'))]],
  ['no memory named', [jsonFrame({ memory: '' })]],
  ['an empty frame', [Buffer.from([0, 0, 0, 0])]],
  ['a frame that is too long', [(() => { const head = Buffer.alloc(4); head.writeUInt32BE(mostRequestBytes + 1); return head })()]],
  ['a batch of no whole ranges', [jsonFrame({ memory: 'b' }), frame(Buffer.alloc(13))]],
  ['a batch of too many bytes', [jsonFrame({ memory: 'b' }), frame(encodeBatch({ ranges: [{ offset: 0, length: 0xffff_ffff }], slot: undefined }))]],
  ['a batch of more than a slot has', [jsonFrame({ memory: 'b', window: true }), frame(encodeBatch({ ranges: [{ offset: 0, length: slotBytes + 1 }], slot: 0 }))]],
  ['a batch for a slot that is none', [jsonFrame({ memory: 'b', window: true }), frame(encodeBatch({ ranges: [{ offset: 0, length: 1 }], slot: windowSlots }))]],
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
