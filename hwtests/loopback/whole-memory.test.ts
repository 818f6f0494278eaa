/** Memory lent as a host's is: read-only but for frames that may change, and read by pages that lie anywhere. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ScatteredMemory } from '../../src/fabric/scattered-memory.js'
import type { WatchEvent } from '../../src/fabric/remote-memory.js'
import { VerbsConnector, type VerbsConnection, VerbsLender } from '../../src/fabric/verbs/index.js'
import { Loopback, needsDevice } from '../players.js'

needsDevice()

const frame = 4_096
const word = (bytes: Uint8Array, offset: number): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true)

let loopback: Loopback
let lenders: VerbsLender[]
let connections: VerbsConnection[]

beforeEach(() => {
  loopback = new Loopback()
  ;[lenders, connections] = [[], []]
})

afterEach(async () => {
  for (const { sampling, recovery } of connections) await Promise.all([sampling.close(), recovery.close()])
  for (const lender of lenders) lender.close()
  await loopback.close()
})

function lend(writable = false): VerbsLender {
  const lender = new VerbsLender({ device: loopback.device, memory: loopback.memory, writable })
  lenders.push(lender)
  return lender
}

function connect(lender: VerbsLender, peer: string): VerbsConnection {
  const connector = new VerbsConnector({ device: loopback.device, peer: 'host' })
  const { endpoints, windows } = lender.accept(peer, connector.endpoints)
  const connection = connector.connect(endpoints, windows)
  connections.push(connection)
  return connection
}

describe('frames that take compare-and-swap', () => {
  it('are none at first, and those that are set', async () => {
    const lender = lend()
    await expect(connect(lender, 'early').recovery.compareAndSwap(2 * frame, 0n, 1n)).rejects.toMatchObject({ code: 'READ_ONLY' })
    lender.setControl([{ offset: 2 * frame, length: frame }])
    const { recovery } = connect(lender, 'late')
    const before = word(loopback.bytes, 2 * frame + 8)
    expect(await recovery.compareAndSwap(2 * frame + 8, before, 42n)).toBe(before)
    expect(word(loopback.bytes, 2 * frame + 8)).toBe(42n)
  })

  it('that are taken back refuse at once who was lent them, and change nothing', async () => {
    const lender = lend()
    lender.setControl([{ offset: 2 * frame, length: frame }])
    const { recovery } = connect(lender, 'watcher')
    lender.setControl([{ offset: 3 * frame, length: frame }])
    const before = word(loopback.bytes, 2 * frame)
    await expect(recovery.compareAndSwap(2 * frame, before, 7n)).rejects.toMatchObject({ code: 'WC_REM_ACCESS_ERR' })
    expect(word(loopback.bytes, 2 * frame)).toBe(before)
  })

  it('that stay keep their rkeys, so that who was lent them notices nothing', async () => {
    const lender = lend()
    const kept = { offset: 2 * frame, length: frame }
    lender.setControl([kept])
    const { recovery } = connect(lender, 'watcher')
    lender.setControl([kept, { offset: 5 * frame, length: frame }])
    expect(lender.windows.map(({ offset, access }) => [offset, access])).toEqual([[0, 'read'], [2 * frame, 'atomic'], [5 * frame, 'atomic']])
    const before = word(loopback.bytes, 2 * frame)
    expect(await recovery.compareAndSwap(2 * frame, before, 9n)).toBe(before)
  })
})

it('memory that is lent writable takes writes, and no other does', async () => {
  await expect(connect(lend(), 'reader').recovery.write(frame, Uint8Array.of(1, 2, 3))).rejects.toMatchObject({ code: 'READ_ONLY' })
  await connect(lend(true), 'writer').recovery.write(frame, Uint8Array.of(1, 2, 3))
  expect([...loopback.bytes.subarray(frame, frame + 3)]).toEqual([1, 2, 3])
})

it('pages that lie anywhere are read, swapped and watched as one memory', async () => {
  const lender = lend()
  lender.setControl([{ offset: 6 * frame, length: frame }])
  const { sampling } = connect(lender, 'watcher')
  for (let i = 0; i < loopback.bytes.length; i++) loopback.bytes[i] = (i >> 12) + i
  const memory = new ScatteredMemory({ base: sampling, pages: [6 * frame, frame, 4 * frame], pageBytes: frame })
  const whole = Buffer.concat([6, 1, 4].map((page) => loopback.bytes.slice(page * frame, (page + 1) * frame)))
  expect(Buffer.compare(await memory.read(0, 3 * frame), whole)).toBe(0)
  const prepared = memory.prepareRead([{ offset: frame - 8, length: 16 }])
  await prepared.run()
  expect(Buffer.from(prepared.views[0] as Uint8Array)).toEqual(whole.subarray(frame - 8, frame + 8))
  prepared.close()
  const before = word(loopback.bytes, 6 * frame)
  expect(await memory.compareAndSwap(0, before, 1n)).toBe(before)
  const events: WatchEvent[] = []
  const moved = new Promise<void>((resolve) => {
    memory.watch({ cells: [{ counterOffset: frame + 64, deadlineUs: 1000 }], intervalUs: 1000, unreachableAfterUs: 1_000_000 }, (event) => {
      events.push(event)
      if (event.kind === 'stalled') loopback.bytes[frame + 64]! += 1
      if (event.kind === 'moved') resolve()
    })
  })
  await moved
  // By now it may stand still again.
  expect(events.slice(0, 2).map(({ kind }) => kind)).toEqual(['stalled', 'moved'])
  await memory.close()
})
