/** A peer's memory through a queue pair. */
import { BackdoorsError } from '../../errors.js'
import { type WorkBatch, workOpcodes, workRowFields } from '../../native/verbs.js'
import type { MemoryWindow } from '../lending.js'
import { sumUp } from '../bulk-reads.js'
import { checkPlan, checkWord } from '../checks.js'
import type { MemoryRange, RemoteMemory, SummedParts, Watch, WatchEvent, WatchPlan } from '../remote-memory.js'
import { SampledWatch, type WatchSource } from '../sampling/sampled-watch.js'
import type { SampledPlan } from '../sampling/shared-sampler.js'
import { BufferPool, type PooledBuffer, pooledLength, pooledRequests } from './buffer-pool.js'
import { type MergedReads, type MergedRound, mergeReads } from './merged-reads.js'
import { closeTarget, prepareTarget, VerbsPreparedRead } from './prepared-read.js'
import type { RcEndpoint } from './rc-endpoint.js'
import { paddedLength } from '../padding.js'
import { fillOneRound, type ReadRound, roundsOf } from './read-rounds.js'
import { rangesOf } from '../sampling/watch-ranges.js'
import { WindowMap } from './window-map.js'

export interface VerbsMemoryOptions {
  /** Connected; owned by the memory from now on. */
  readonly endpoint: RcEndpoint
  readonly peer: string
  readonly windows: readonly MemoryWindow[]
}

type SampledSource = readonly [batch: WorkBatch]

const roundLimits = { length: pooledLength, requests: pooledRequests }

/**
 * A failed read ends the queue pair: everything under way and everything later fails with the code of that first
 * failure, and only a new connection helps. That is why bounds are checked before anything is posted.
 */
export class VerbsMemory implements RemoteMemory {
  readonly peer: string
  readonly length: number
  /**
   * More than fills a wire: of many parts, more stand near each other. A batch ends with the record that reaches this, and is to fit with
   * it into the 32 MiB that an arena of sessions takes at a time.
   */
  readonly batchBytes = 31 << 20
  readonly #map: WindowMap
  readonly #endpoint: RcEndpoint
  readonly #pool: BufferPool
  /** Closed with the memory. */
  readonly #owned = new Set<{ close(): void }>()
  #closed = false

  constructor({ endpoint, peer, windows }: VerbsMemoryOptions) {
    this.peer = peer
    this.#map = new WindowMap(peer, windows)
    this.length = this.#map.length
    this.#endpoint = endpoint
    this.#pool = new BufferPool(endpoint, peer)
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  /** The arrays returned share one buffer of their own. */
  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.#checkOpen()
    if (ranges.length === 0) return []
    const buffer = this.#pool.takeNow() ?? (await this.#pool.take())
    try {
      const used = fillOneRound(this.#map, ranges, roundLimits, buffer.rows)
      if (used >= 0) {
        buffer.batch.prepare(workOpcodes.read, buffer.rows, ranges.length)
        const running = buffer.batch.run()
        if (running !== undefined) await running
        return viewsOf(buffer.bytes.buffer.slice(0, used), ranges)
      }
    } finally {
      this.#pool.give(buffer)
    }
    return this.#readInRounds(ranges)
  }

  prepareRead(ranges: readonly MemoryRange[]): VerbsPreparedRead {
    this.#checkOpen()
    const read = new VerbsPreparedRead(this.#endpoint, this.#map, ranges, (closed) => this.#owned.delete(closed))
    this.#owned.add(read)
    return read
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen()
    const piece = this.#map.forWrite({ offset, length: bytes.length })
    for (let done = 0; done < piece.length; done += pooledLength) {
      const part = bytes.subarray(done, done + pooledLength)
      await this.#withBuffer(async ({ rows, batch, bytes: registered }) => {
        registered.set(part)
        rows.set([piece.window, piece.offset + done, 0, part.length])
        batch.prepare(workOpcodes.write, rows, 1)
        await batch.run()
      })
    }
  }

  async compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    this.#checkOpen()
    const piece = this.#map.forAtomic(offset)
    checkWord(this.#map, 'expected', expected)
    checkWord(this.#map, 'desired', desired)
    return this.#withBuffer(async ({ batch, bytes }) => {
      batch.prepareAtomic(workOpcodes.compareAndSwap, piece.window, piece.offset, 0, expected, desired)
      await batch.run()
      // The device leaves the old value as the host stores words, whatever that is.
      return new BigUint64Array(bytes.buffer, bytes.byteOffset, 1)[0] ?? 0n
    })
  }

  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    this.#checkOpen()
    const source: WatchSource<SampledSource> = {
      sampler: this.#endpoint.device.sampler,
      sample: (wanted) => this.#sample(wanted),
      closed: (watch) => this.#owned.delete(watch),
    }
    const watch = new SampledWatch(source, plan, listener)
    this.#owned.add(watch)
    return watch
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      for (const each of [...this.#owned].filter((owned) => owned instanceof SampledWatch)) each.close()
      // First the queue pair: with it the device lets go of every buffer.
      this.#endpoint.close()
      for (const each of [...this.#owned]) each.close()
      this.#pool.close()
    }
    return Promise.resolve()
  }

  #sample(plan: WatchPlan): SampledPlan<SampledSource> & { close(): void } {
    checkPlan(this.#map, plan)
    const { ranges, positions, bufferLength, cells } = rangesOf(plan.cells)
    // Without cells there is still something to learn: whether the memory can be reached.
    const read = ranges.length > 0 ? ranges : [{ offset: 0, length: 1 }]
    const target = prepareTarget(this.#endpoint, this.#map, read, positions, Math.max(bufferLength, 1))
    const { intervalUs, unreachableAfterUs } = plan
    return { source: [target.batch], cells, intervalUs, unreachableAfterUs, close: () => closeTarget(target) }
  }

  async readInto(ranges: readonly MemoryRange[], target: Uint8Array): Promise<void> {
    this.#checkOpen()
    const { rounds, starts } = roundsOf(this.#map, ranges, roundLimits)
    let end = 0
    const isTight = ranges.every(({ length }, i) => starts[i] === (end += length) - length)
    if (isTight) return await settleAll(rounds.map((round) => this.#readRound(round, target)))
    end = 0
    for (const bytes of await this.#readInRounds(ranges)) target.set(bytes, (end += bytes.length) - bytes.length)
  }

  /** Parts that stand near each other are read by one request: what lies between them does not come into the target. */
  async readSummed(parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
    this.#checkOpen()
    const { triples } = parts
    const merged = mergeReads(this.#map, parts, roundLimits)
    await settleAll([
      ...merged.rounds.map((round) => this.#readMerged(round, merged, parts, target, crcs)),
      ...merged.others.flatMap(({ part, rounds }) => rounds.map((round) => this.#readRound(round, target.subarray(triples[3 * part + 2])))),
    ])
    sumUp(parts, target, crcs, merged.others.map(({ part }) => part))
  }

  #readMerged({ first, end, rows }: MergedRound, { order, positions }: MergedReads, parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
    return this.#withBuffer(async ({ batch, bytes }) => {
      batch.prepare(workOpcodes.read, rows, rows.length / workRowFields)
      await batch.run()
      for (let i = first; i < end; i++) {
        const part = 3 * (order[i] as number)
        const position = positions[i] as number
        target.set(bytes.subarray(position, position + paddedLength(parts.triples[part + 1] as number)), parts.triples[part + 2])
      }
      // While the next rounds are on their way.
      sumUp(parts, target, crcs, order.subarray(first, end))
    })
  }

  async #readInRounds(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const { rounds, length, starts } = roundsOf(this.#map, ranges, roundLimits)
    const result = new Uint8Array(length)
    await settleAll(rounds.map((round) => this.#readRound(round, result)))
    return ranges.map((range, index) => new Uint8Array(result.buffer, starts[index], range.length))
  }

  #readRound(round: ReadRound, result: Uint8Array): Promise<void> {
    return this.#withBuffer(async ({ rows, batch, bytes }) => {
      let at = 0
      for (const { window, offset, position, length } of round.pieces) {
        rows[at] = window
        rows[at + 1] = offset
        rows[at + 2] = position
        rows[at + 3] = length
        at += 4
      }
      batch.prepare(workOpcodes.read, rows, round.pieces.length)
      await batch.run()
      result.set(bytes.subarray(0, round.length), round.resultOffset)
    })
  }

  async #withBuffer<T>(use: (buffer: PooledBuffer) => Promise<T>): Promise<T> {
    const buffer = this.#pool.takeNow() ?? (await this.#pool.take())
    try {
      return await use(buffer)
    } finally {
      this.#pool.give(buffer)
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new BackdoorsError('CLOSED', `the connection to ${this.peer} is closed`, { peer: this.peer })
  }
}

/** One after another, as `fillOneRound` laid them out. */
function viewsOf(bytes: ArrayBufferLike, ranges: readonly MemoryRange[]): Uint8Array[] {
  let start = 0
  return ranges.map(({ length }) => {
    const view = new Uint8Array(bytes, start, length)
    start = paddedLength(start + length)
    return view
  })
}

/** Waits for all, so that nothing is still being written when the first failure is told. */
async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(promises)
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
