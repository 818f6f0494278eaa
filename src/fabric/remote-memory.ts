/**
 * Memory of another machine, reached without its processor: the one interface that everything above the
 * fabric is written against. Backends: `verbs` (a NIC), `shm` (another process's memory on this machine),
 * `mock` (a seeded simulation). One contract suite runs on all of them (`testing/contract.ts`).
 */
import type { Histogram } from './histogram.js'

/** A piece of remote memory: `length` bytes at `offset` from the start of the memory. */
export interface MemoryRange {
  readonly offset: number
  readonly length: number
}

/**
 * A read that is built once and run many times: its work requests and its target buffer exist already, so a
 * run allocates nothing. One run at a time.
 *
 * @example
 * const cells = memory.prepareRead([{ offset: 4096, length: 64 }, { offset: 8192, length: 64 }])
 * await cells.run()
 * cells.views[1] // the 64 bytes that were at 8192
 */
export interface PreparedRead {
  readonly ranges: readonly MemoryRange[]
  /** One view per range, in the order given; its bytes change at each run. */
  readonly views: readonly Uint8Array[]
  /**
   * Reads all ranges into `views`. Ranges are read in no particular order, and nothing but 8 aligned bytes is
   * read at one instant: whoever needs more validates what was read.
   * @throws BackdoorsError the cause of the first range that failed; `views` are then undefined.
   */
  run(): Promise<void>
  close(): void
}

/** A counter that has to move within its deadline while work is pending. */
export interface WatchedCell {
  /** Offset of the counter: 4 bytes, little-endian, 4-byte aligned. Only changes count, so it may wrap. */
  readonly counterOffset: number
  /**
   * Offset of a 4-byte word that is 0 while there is nothing to do; the deadline then does not run.
   * Left out where the counter always has to move.
   */
  readonly pendingOffset?: number
  /** The counter has stalled when it has not moved for so long, in microseconds. */
  readonly deadlineUs: number
}

export interface WatchPlan {
  readonly cells: readonly WatchedCell[]
  /** Time between two samples, in microseconds. */
  readonly intervalUs: number
  /** Reads that have not succeeded for so long make the memory unreachable, in microseconds. */
  readonly unreachableAfterUs: number
}

/**
 * Times are microseconds of the watcher's own monotonic clock; no clock of the watched machine is used. `cell` is the
 * position in the plan that holds when the event is delivered: after `update`, the new one.
 */
export type WatchEvent =
  | { readonly kind: 'stalled'; readonly cell: number; readonly counter: number; readonly lastChangeUs: number; readonly atUs: number }
  /** After `stalled`: the counter has changed, or there is nothing to do any more. */
  | { readonly kind: 'moved'; readonly cell: number; readonly counter: number; readonly atUs: number }
  /** Reads have failed, or not come back, since `sinceUs`. `status` is the error's code. */
  | { readonly kind: 'unreachable'; readonly status: string; readonly sinceUs: number; readonly atUs: number }
  /** After `unreachable`. Ages begin anew: nobody knows what the counters did meanwhile. */
  | { readonly kind: 'reachable'; readonly atUs: number }

/** What the sampler saw last of one cell. */
export interface CellState {
  readonly counter: number
  readonly pending: number
  /** Since the counter last changed, or the first read that saw work pending, less the time in which the watcher itself was late. */
  readonly ageUs: number
  readonly stalled: boolean
}

/** Counts of durations since the watch began. */
export interface WatchHistograms {
  /** Of the reads that succeeded. */
  readonly roundTrips: Histogram
  /** How much later than meant reads were posted: the watcher's own scheduling delay. */
  readonly lateness: Histogram
  /** The greatest age that a counter reached before it moved, all cells together: how near a deadline came to be missed. */
  readonly ages: Histogram
}

export interface WatchState {
  readonly cells: readonly CellState[]
  readonly reachable: boolean
  /** Rounds sampled, and those of them whose read failed. */
  readonly rounds: number
  readonly failedRounds: number
  /** The watcher's own worst wake-up since the watch began, in microseconds late. */
  readonly maxLatenessUs: number
  /** Round trip of the last successful read, and an exponentially weighted mean, in microseconds. */
  readonly lastRoundTripUs: number
  readonly meanRoundTripUs: number
  /** Left out where no native thread samples: on mock, durations are what the conditions say. */
  readonly histograms?: WatchHistograms
}

/** A running watch. On verbs and shm a native thread samples; on mock, simulated time does. */
export interface Watch {
  readonly state: WatchState
  /** Replaces the cells; those that stand in both plans at the same offsets keep their history. */
  update(plan: WatchPlan): void
  /** Idempotent. No event is delivered after it returns. */
  close(): void
}

/** Records of which each carries a CRC32C, to be read and summed up. Columns: there are many, and each would be an object. */
export interface SummedParts {
  /** [offset, length, position in the target] each. They stand one after another there, each at the next multiple of 8; so much is read of each, too. */
  readonly triples: Float64Array
  readonly count: number
  /** The CRC covers all but so many of a part's first bytes, which are no more than it has, and continues from `seed`. */
  readonly skip: number
  readonly seed: number
}

/** What those need of a memory who only look at it. */
export interface ReadableMemory {
  /** Name of the node whose memory this is. */
  readonly peer: string
  /** In bytes. */
  readonly length: number

  /** So many bytes are asked for at a time by who reads much, where that is better than as many as a wire takes to be full. */
  readonly batchBytes?: number

  /** @throws BackdoorsError INVALID_ARGUMENT (a length of 0, a fraction), OUT_OF_RANGE, CLOSED, TIMEOUT, or the failed work completion's code (WC_…). */
  read(offset: number, length: number): Promise<Uint8Array>
  /** Like `read`, for many ranges under as few doorbells as the queue's depth allows. */
  readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]>
  /** Where it costs less than `readMany`: the ranges' bytes, one after another, into memory of the caller's; see `readInto`. */
  readInto?(ranges: readonly MemoryRange[], target: Uint8Array): Promise<void>
  /** Where it takes one pass over the bytes instead of two: reads parts into `target`, and their CRCs, signed, into `crcs`; see `readSummed`. */
  readSummed?(parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void>
  /** Where it costs less than `readMany`: the bytes are the reader's own, and lent; see `readLent`. */
  readLent?<T>(ranges: readonly MemoryRange[], use: (bytes: readonly Uint8Array[]) => Promise<T>): Promise<T>
}

export interface RemoteMemory extends ReadableMemory {
  prepareRead(ranges: readonly MemoryRange[]): PreparedRead
  /** @throws BackdoorsError READ_ONLY where this memory is not lent writable. */
  write(offset: number, bytes: Uint8Array): Promise<void>
  /**
   * Atomically: if the 8 bytes at `offset` (8-byte aligned) equal `expected`, they become `desired`.
   * Both have 64 bits at most. Resolves to what they were before. Atomic only among those who come by the same path.
   * @throws BackdoorsError INVALID_ARGUMENT, UNALIGNED, READ_ONLY, and what `read` throws.
   */
  compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint>
  /** Samples the plan's cells until closed. The listener is called on the event loop, in order. */
  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch
  /** Idempotent; operations under way fail with CLOSED. */
  close(): Promise<void>
}
