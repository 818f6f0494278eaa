import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { verbsAddon } from '../../src/native/load.js'
import { Loopback, needsDevice } from '../players.js'

needsDevice()

let loopback: Loopback
beforeEach(() => {
  loopback = new Loopback()
  for (let offset = 0; offset < loopback.length; offset += 1) loopback.bytes[offset] = (offset * 31) & 0xff
  loopback.bytes.fill(0, 4_096, 8_192)
})
afterEach(async () => {
  await loopback.close()
})

const cells = (count: number): { offset: number; length: number }[] => Array.from({ length: count }, (_, index) => ({ offset: 8_192 + index * 64, length: 64 }))

describe('one prepared read by three ways', () => {
  it('gives the same bytes', async () => {
    const { sampling } = loopback.connect()
    const prepared = sampling.prepareRead(cells(10))
    const expected = loopback.bytes.slice(8_192, 8_192 + 640)
    const runs: readonly (() => unknown)[] = [() => prepared.runSync(), () => prepared.run(), () => prepared.latencyLoop(3)]
    for (const run of runs) {
      for (const view of prepared.views) view.fill(0)
      await run()
      expect(Buffer.concat(prepared.views).equals(expected)).toBe(true)
    }
  })

  it('gives one sample for each iteration, none of which is nothing', () => {
    const { sampling } = loopback.connect()
    const samples = sampling.prepareRead([{ offset: 0, length: 8 }]).latencyLoop(500)
    expect(samples.length).toBe(500)
    expect(samples.every((ns) => ns > 100 && ns < 60e9)).toBe(true)
  })
})

describe('a queue that is shallow', () => {
  it.each([1, 2, 3, 16])('of depth %i takes batches that are longer, in turns', async (depth) => {
    const { sampling } = loopback.connect({ queuePairs: { depth } })
    const [one, other] = [sampling.prepareRead(cells(50)), sampling.prepareRead(cells(33))]
    await Promise.all([one.run(), other.run(), sampling.readMany(cells(20)), sampling.read(0, 8)])
    one.runSync()
    expect(Buffer.concat(one.views).equals(loopback.bytes.slice(8_192, 8_192 + 50 * 64))).toBe(true)
    expect(Buffer.concat(other.views).equals(loopback.bytes.slice(8_192, 8_192 + 33 * 64))).toBe(true)
  })
})

describe('one run at a time', () => {
  it('is all that a batch takes: another is refused, and the first goes on', async () => {
    const { sampling } = loopback.connect()
    const prepared = sampling.prepareRead([{ offset: 0, length: 1 << 20 }])
    const outcomes = await Promise.allSettled([prepared.run(), prepared.run()])
    const failed = outcomes.filter(({ status }) => status === 'rejected')
    // A device may be done with the first before the second begins.
    for (const outcome of failed) expect(outcome).toMatchObject({ reason: { code: 'QUEUE_FULL' } })
    expect(outcomes[0]?.status).toBe('fulfilled')
    await prepared.run()
  })
})

describe('the event loop', () => {
  it('turns while a program does nothing but await reads', async () => {
    const { sampling } = loopback.connect()
    const prepared = sampling.prepareRead([{ offset: 0, length: 8 }])
    let turns = 0
    const timer = setInterval(() => (turns += 1), 1)
    for (let count = 0; count < 5_000; count += 1) await prepared.run()
    clearInterval(timer)
    expect(turns).toBeGreaterThan(2)
  })

  it('hears of completions that a synchronous run or a sampler took from the queue', async () => {
    const { sampling } = loopback.connect()
    const [awaited, polled] = [sampling.prepareRead(cells(200)), sampling.prepareRead(cells(1))]
    const watch = sampling.watch({ cells: [{ counterOffset: 8_192, deadlineUs: 1e9 }], intervalUs: 200, unreachableAfterUs: 1e9 }, () => undefined)
    for (let round = 0; round < 200; round += 1) {
      const running = awaited.run()
      polled.runSync()
      await running
    }
    watch.close()
    expect(watch.state.rounds).toBeGreaterThan(0)
    expect(watch.state.failedRounds).toBe(0)
  })
})

describe('a batch', () => {
  it('is not busy before its first run and after its last', () => {
    const { device } = loopback
    const { MemoryRegion, WorkBatch } = verbsAddon()
    const region = new MemoryRegion(device.domain, { length: 64 })
    expect(region.buffer?.byteLength).toBe(64)
    expect(region.address % 4_096n).toBe(0n)
    expect(WorkBatch).toBeTypeOf('function')
    region.close()
    region.close()
    // What was read stays readable.
    expect(region.buffer?.byteLength).toBe(64)
  })
})
