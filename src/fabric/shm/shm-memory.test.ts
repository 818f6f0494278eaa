import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { crc32c } from '../../native/crc32c.js'
import { memoryAddon } from '../../native/load.js'
import type { RemoteMemory, SummedParts, WatchEvent } from '../remote-memory.js'
import { contractMemoryBytes, expectRejection, expectThrow, type MemoryFixture, waitUntil } from '../testing/memory-fixture.js'
import { ShmMemory, type ShmMemoryOptions } from './shm-memory.js'
import { createShmSampler } from './shm-sampler.js'

const control = { controlOffset: 4_096, controlLength: 4_096 }

interface ShmFixture extends MemoryFixture {
  readonly path: string
  open(options?: Partial<ShmMemoryOptions>): ShmMemory
  truncate(length: number): void
}

function makeFixture(): ShmFixture {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-shm-'))
  const path = join(folder, 'region')
  const shared = new (memoryAddon().SharedMemory)({ path, create: true, length: contractMemoryBytes })
  const opened: RemoteMemory[] = []
  const open = (options: Partial<ShmMemoryOptions> = {}): ShmMemory => {
    const memory = new ShmMemory({ peer: 'b', path, ...control, ...options })
    opened.push(memory)
    return memory
  }
  const truncate = (length: number): void => {
    const fd = openSync(path, 'r+')
    ftruncateSync(fd, length)
    closeSync(fd)
  }
  return {
    path,
    open,
    truncate,
    memory: open(),
    bytes: new Uint8Array(shared.buffer),
    ...control,
    connect: async () => open(),
    kill: async () => truncate(0),
    close: async () => {
      await Promise.all(opened.map((memory) => memory.close()))
      shared.close()
      rmSync(folder, { recursive: true })
    },
  }
}

// What every backend promises is in shm-memory.contract.test.ts.
describe('ShmMemory', () => {
  let fixture: ShmFixture
  beforeEach(() => {
    fixture = makeFixture()
  })
  afterEach(() => fixture.close())

  it('says REGION_NOT_FOUND, of whom, where there is no file', () => {
    const path = `${fixture.path}-absent`
    expectThrow(() => new ShmMemory({ peer: 'c', path }), 'REGION_NOT_FOUND', { peer: 'c', path })
  })

  it('says REGION_TRUNCATED where the file is empty', () => {
    writeFileSync(`${fixture.path}-empty`, '')
    expectThrow(() => new ShmMemory({ peer: 'c', path: `${fixture.path}-empty` }), 'REGION_TRUNCATED', { peer: 'c', length: 0 })
  })

  it('says INVALID_ARGUMENT where the path is a folder', () => {
    expectThrow(() => new ShmMemory({ peer: 'c', path: tmpdir() }), 'INVALID_ARGUMENT', { peer: 'c', path: tmpdir() })
  })

  it('says MEMORY_LOST, and which bytes, where the file has been cut off', async () => {
    const { memory, path } = fixture
    const prepared = memory.prepareRead([{ offset: 0, length: 64 }, { offset: 8_192, length: 64 }])
    fixture.truncate(8_200)
    expect((await memory.read(8_192, 8)).length).toBe(8)
    const about = { peer: 'b', path, offset: 8_192, length: 64 }
    await expectRejection(fixture, () => memory.read(8_192, 64), 'MEMORY_LOST', about)
    await expectRejection(fixture, () => memory.readMany([{ offset: 0, length: 8 }, { offset: 8_192, length: 64 }]), 'MEMORY_LOST', about)
    await expectRejection(fixture, () => prepared.run(), 'MEMORY_LOST', about)
    fixture.truncate(4_096)
    await expectRejection(fixture, () => memory.compareAndSwap(4_096, 0n, 1n), 'MEMORY_LOST', { peer: 'b', path, offset: 4_096, length: 8 })
  })

  it('lets the whole memory be written where it is opened writable', async () => {
    const memory = fixture.open({ writable: true })
    await memory.write(100_000, new Uint8Array([1, 2, 3]))
    expect([...fixture.bytes.subarray(99_999, 100_004)]).toEqual([0, 1, 2, 3, 0])
    expect(await memory.compareAndSwap(200_000, 0n, 9n)).toBe(0n)
    fixture.truncate(100_000)
    await expectRejection(fixture, () => memory.write(100_000, new Uint8Array([1])), 'MEMORY_LOST', { peer: 'b', offset: 100_000, length: 1 })
  })

  it('takes no compare-and-swap where no control window is given', async () => {
    const memory = fixture.open({ controlOffset: 0, controlLength: 0 })
    await expectRejection(fixture, () => memory.compareAndSwap(0, 0n, 1n), 'READ_ONLY', { peer: 'b', offset: 0 })
  })

  it('lets the event loop turn during a long read, and fails with CLOSED where it is closed meanwhile', async () => {
    const { memory } = fixture
    const ranges = Array.from({ length: 64 }, () => ({ offset: 0, length: contractMemoryBytes }))
    let turns = 0
    const count = (): void => {
      turns += 1
      ticking = setImmediate(count)
    }
    let ticking = setImmediate(count)
    await memory.readMany(ranges)
    expect(turns).toBeGreaterThanOrEqual(62)
    clearImmediate(ticking)
    const interrupted = memory.readMany(ranges)
    setImmediate(() => void memory.close())
    await expectRejection(fixture, () => interrupted, 'CLOSED', { peer: 'b' })
  })

  describe.each([true, false])('with a helper: %s', (isHelped) => {
    const parts = (pieceBytes: number): SummedParts & { readonly bytes: number } => {
      const count = Math.floor(contractMemoryBytes / pieceBytes)
      return { triples: Float64Array.from({ length: 3 * count }, (_, i) => (i % 3 === 1 ? pieceBytes : Math.floor(i / 3) * pieceBytes)), count, skip: 4, seed: 9, bytes: count * pieceBytes }
    }
    const expectedCrcs = ({ triples, count }: SummedParts): number[] =>
      Array.from({ length: count }, (_, i) => crc32c(fixture.bytes, (triples[3 * i] as number) + 4, (triples[3 * i + 1] as number) - 4, 9) | 0)
    beforeEach(() => fixture.bytes.forEach((_, i, bytes) => (bytes[i] = (i * 31 + (i >> 8)) & 0xff)))

    it('takes CRCs of several reads at a time', async () => {
      const memory = fixture.open({ isHelped })
      const reads = [16_384, 4096, 8192, 50_000].map((pieceBytes) => {
        const wanted = parts(pieceBytes)
        return { wanted, target: new Uint8Array(wanted.bytes), crcs: new Int32Array(wanted.count), expected: expectedCrcs(wanted) }
      })
      for (let round = 0; round < 20; round++) {
        await Promise.all(reads.map(({ wanted, target, crcs }) => memory.readSummed(wanted, target.fill(0), crcs.fill(0))))
        for (const { wanted, target, crcs, expected } of reads) {
          expect(Buffer.compare(target, fixture.bytes.subarray(0, wanted.bytes))).toBe(0)
          expect([...crcs]).toEqual(expected)
        }
      }
    })

    it('fails with MEMORY_LOST where the file is cut off, and with CLOSED where it is closed, while it waits for its turn', async () => {
      const memory = fixture.open({ isHelped })
      const wanted = parts(4096)
      const waitingRead = async (meanwhile: () => void): Promise<void> => {
        // Longer than reads follow each other without a turn of the event loop.
        await setTimeout(20)
        const reading = memory.readSummed(wanted, new Uint8Array(wanted.bytes), new Int32Array(wanted.count))
        meanwhile()
        await reading
      }
      await waitingRead(() => undefined)
      await expectRejection(fixture, () => waitingRead(() => fixture.truncate(wanted.bytes - 4096)), 'MEMORY_LOST', { peer: 'b', offset: wanted.bytes - 4096, length: 4096 })
      await expectRejection(fixture, () => waitingRead(() => void memory.close()), 'CLOSED', { peer: 'b' })
    })
  })

  it('fails with CLOSED where it is closed while a helper reads', async () => {
    const count = 64
    const wanted = { triples: Float64Array.from({ length: 3 * count }, (_, i) => (i % 3 === 1 ? 4096 : Math.floor(i / 3) * 4096)), count, skip: 4, seed: 9 }
    const memory = fixture.open({ isHelped: true })
    const reading = memory.readSummed(wanted, new Uint8Array(count * 4096), new Int32Array(count))
    void memory.close()
    await expectRejection(fixture, () => reading, 'CLOSED', { peer: 'b' })
  })

  it('refuses a second run of a prepared read while the first is under way', async () => {
    const ranges = Array.from({ length: 3 }, () => ({ offset: 0, length: contractMemoryBytes }))
    const prepared = fixture.memory.prepareRead(ranges)
    const first = prepared.run()
    await expectRejection(fixture, () => prepared.run(), 'INVALID_ARGUMENT', { peer: 'b' })
    await first
    await prepared.run()
  })

  it('tells MEMORY_LOST in its watch, and reachable when the file is whole again', async () => {
    const events: WatchEvent[] = []
    const plan = { cells: [{ counterOffset: 8_192, deadlineUs: 3_600_000_000 }], intervalUs: 500, unreachableAfterUs: 5_000 }
    const watch = fixture.memory.watch(plan, (event) => events.push(event))
    await waitUntil(fixture, 'a round', () => watch.state.rounds > 0)
    fixture.truncate(0)
    await waitUntil(fixture, 'unreachable', () => events.length === 1)
    expect(events[0]).toMatchObject({ kind: 'unreachable', status: 'MEMORY_LOST' })
    expect(watch.state.reachable).toBe(false)
    fixture.truncate(contractMemoryBytes)
    await waitUntil(fixture, 'reachable', () => events.length === 2)
    expect(events[1]).toMatchObject({ kind: 'reachable' })
    watch.close()
  })

  it('tells how long reads took, how late they were and how near to stalling the counter came, also once it is closed', async () => {
    const watch = fixture.memory.watch({ cells: [{ counterOffset: 8_192, deadlineUs: 3_600_000_000 }], intervalUs: 300, unreachableAfterUs: 3_600_000_000 }, () => undefined)
    let beats = 0
    const words = new Uint32Array(fixture.bytes.buffer)
    await waitUntil(fixture, '20 movements', () => {
      words[2_048] = ++beats
      return (watch.state.histograms?.ages.total ?? 0) >= 20
    })
    watch.close()
    const { histograms, rounds } = watch.state
    // They are read without a lock, after the rounds.
    expect(histograms?.lateness.total).toBeGreaterThanOrEqual(rounds)
    expect(histograms?.roundTrips.total).toBeGreaterThanOrEqual(rounds)
    expect(histograms?.ages.total).toBeLessThanOrEqual(beats)
    expect(histograms?.roundTrips.quantileUs(0.5)).toBeLessThanOrEqual(histograms?.roundTrips.quantileUs(0.99) ?? NaN)
  })

  it('tells once, where its thread may not run as it should', async () => {
    const warnings: string[] = []
    const sampler = createShmSampler({ cpu: 1023, onWarning: (warning) => warnings.push(warning) })
    const memory = fixture.open({ sampler })
    for (let i = 0; i < 2; i++) memory.watch({ cells: [], intervalUs: 500, unreachableAfterUs: 3_600_000_000 }, () => undefined)
    expect(warnings).toEqual([expect.stringMatching(/not pinned to processor 1023/)])
    sampler.close()
  })

  it('watches for the memory alone where the plan has no cells', async () => {
    const events: WatchEvent[] = []
    const watch = fixture.memory.watch({ cells: [], intervalUs: 500, unreachableAfterUs: 5_000 }, (event) => events.push(event))
    await waitUntil(fixture, 'a round', () => watch.state.rounds > 0)
    fixture.truncate(0)
    await waitUntil(fixture, 'unreachable', () => events.length === 1)
    watch.close()
  })

  it('shares a sampler with others, and leaves it to its maker', async () => {
    const sampler = createShmSampler()
    const [first, second] = [fixture.open({ sampler }), fixture.open({ sampler })]
    const kinds: string[] = []
    const plan = { cells: [{ counterOffset: 8_192, deadlineUs: 5_000 }], intervalUs: 500, unreachableAfterUs: 3_600_000_000 }
    first.watch(plan, () => kinds.push('first'))
    await first.close()
    second.watch(plan, ({ kind }) => kinds.push(kind))
    await waitUntil(fixture, 'an event', () => kinds.length > 0)
    expect(kinds).toEqual(['stalled'])
    sampler.close()
  })
})
