/**
 * The typed statement of the addon's *memory* target (`addon/memory/`): shared regions, CRC32C, the beat
 * thread, the sampler thread. It needs neither RDMA nor root, and exists on every machine.
 */
import type { AddonBase } from './addon-base.js'

export interface SharedMemoryOptions {
  /** Create the file and allocate it in full (fallocate), or make a sealed memfd where `memfd` is set. */
  readonly create?: boolean
  /** File, DAX device, or, for a memfd, the name shown in /proc. */
  readonly path: string
  readonly memfd?: boolean
  /** In bytes; needed to create, and otherwise a lower bound that is checked. */
  readonly length?: number
  /** Map writable. Default true. */
  readonly writable?: boolean
  /** Back a memfd by huge pages of 2 MiB; they have to be set aside (`vm.nr_hugepages`). */
  readonly hugePages?: boolean
  /** Permission bits of a created file. Default 0o600. */
  readonly mode?: number
}

/**
 * A shared mapping as an ArrayBuffer. The pages stay mapped while the buffer, a beat thread or a memory region
 * uses them, whenever `close` is called. Methods throw CLOSED after `close`; a failed call throws
 * SYSTEM_CALL_FAILED with `call`, `errno` and `path`. (It has a property more, `pages`, by which the addon's targets
 * hand the pages to each other.)
 */
export interface SharedMemory {
  readonly buffer: ArrayBuffer
  /** In bytes. */
  readonly length: number
  readonly path: string
  /** Descriptor of the mapped file, owned by this object. */
  readonly fd: number
  /** Locks the pages in memory. Returns null, or why it could not (then only a warning is due). */
  pin(): string | null
  /**
   * Keeps the pages in the physical frames that they are in until `close`, by a long-term pin, so that who reads the machine's
   * memory from outside finds them again. Returns null, or why it could not.
   */
  pinFrames(): string | null
  /**
   * Takes an open-file-description lock on a byte range, without waiting. The kernel releases it when this
   * object is closed or its process dies in any way, so that it is never held by a dead holder. An object that
   * has locked bytes is not collected before it is closed.
   * @returns whether the lock is held now.
   * @throws READ_ONLY where the memory is not mapped writable
   */
  lockBytes(offset: number, length: number): boolean
  unlockBytes(offset: number, length: number): void
  /** Does somebody else hold a lock on any of these bytes? */
  isLocked(offset: number, length: number): boolean
  /** Detaches the ArrayBuffer (its length becomes 0) and unmaps when nobody uses the pages. Idempotent. */
  close(): void
}

/**
 * Reads a file that another process may truncate at any time: by pread, and much at once by guarded copies out of a mapping, so no
 * SIGBUS. Methods throw CLOSED after `close`.
 */
export interface FileReader {
  readonly path: string
  /** Was the file's permission to be written given as well? False once closed. */
  readonly writable: boolean
  /** Current length of the file, in bytes. */
  length(): number
  /**
   * Reads ranges, given as [offset, length, position in target] triples, in one call.
   * @returns 0, or the errno of the first that failed (a read past the end gives ENODATA).
   */
  read(triples: Float64Array, count: number, target: Uint8Array): number
  /**
   * As `read`, and takes of each range the CRC32C of all but its first `skip` bytes, continuing from `seed`, into `crcs`; seed and
   * results are signed. Bytes and CRC come of the same loads: a CRC is that of what stands in the target.
   * @returns as `read`; `crcs` is then undefined
   */
  readSummed(triples: Float64Array, count: number, target: Uint8Array, skip: number, seed: number, crcs: Int32Array): number
  /**
   * The same in two steps. A thread of the reader's own begins at once, where it comes to it; `endSummed` does what is left. One at a time;
   * other reads may be made meanwhile. Until then, or `close`, `target` and `crcs` may not be looked at, nor be transferred.
   */
  beginSummed(triples: Float64Array, count: number, target: Uint8Array, skip: number, seed: number, crcs: Int32Array): void
  /** @returns as `readSummed` */
  endSummed(): number
  /** @throws READ_ONLY, OUT_OF_RANGE (the file never grows by it), SYSTEM_CALL_FAILED */
  write(offset: number, bytes: Uint8Array): void
  /**
   * Compare-and-swap on an aligned 8-byte word of a short-lived checked mapping of the page.
   * @returns what the word was
   * @throws UNALIGNED, READ_ONLY, OUT_OF_RANGE, SYSTEM_CALL_FAILED
   */
  compareAndSwap(offset: number, expected: bigint, desired: bigint): bigint
  /** A sampler that reads the file goes on trying, and fails with CLOSED. Idempotent. */
  close(): void
}

export interface BeatThreadOptions {
  readonly memory: SharedMemory
  /** Offset of the 4-byte counter to advance. */
  readonly counterOffset: number
  /** The thread stops beating when the 4-byte word here reaches `fenceLimit` (0 = never). */
  readonly fenceOffset: number
  readonly fenceLimit: number
  readonly intervalUs: number
}

/**
 * A native thread that advances a counter, by real-time priority and with locked memory where permitted; a second one, on a processor of
 * its own, beats where the first is kept waiting for four intervals. It runs
 * until it is closed or fenced, whether or not anybody holds this object, and does not keep the process alive.
 */
export interface BeatThread {
  /** What was not permitted, in words fit for a log; empty where all was. */
  readonly warnings: readonly string[]
  readonly beats: number
  readonly fenced: boolean
  close(): void
}

/** One cell as the native sampler takes it; positions are offsets into the target's buffer of sampled bytes. */
export interface SamplerCell {
  readonly counterPosition: number
  /** -1 where the counter always has to move. */
  readonly pendingPosition: number
  readonly deadlineUs: number
}

/**
 * Packed events: [kind, target, cell, counter, sinceUs, atUs, status] each; kinds as in `samplerEventKinds`, and
 * `status` an index into `statuses`, the codes of failures, or -1.
 */
export type SamplerListener = (events: Float64Array, statuses: readonly string[]) => void
export const samplerEventKinds = ['stalled', 'moved', 'unreachable', 'reachable'] as const
export const samplerEventFields = 7

/** How the sampler's thread runs. */
export interface SamplerOptions {
  /** Number of the processor that it keeps to. Default: any. */
  readonly cpu?: number
  /** Real-time priority, as the beat thread has. Default false. */
  readonly realtime?: boolean
}

/** What a sampler tells of one target: [reachable, rounds, failedRounds, maxLatenessUs, lastRoundTripUs, meanRoundTripUs], then per cell [counter, pending, ageUs, stalled]. */
export const samplerHeadFields = 6
export const samplerCellFields = 4

/**
 * Buckets of a sampler's histograms (`addon/common/log_histogram.h`): the first holds what is below 0.128 µs, the last what is beyond
 * all others, and in between there are four to each doubling.
 */
export const histogramBuckets = 106
/** Where a bucket begins, in microseconds; the first at 0. */
export const histogramBoundUs = (bucket: number): number => (bucket === 0 ? 0 : (0.128 * 2 ** Math.floor((bucket - 1) / 4) * (4 + ((bucket - 1) % 4))) / 4)

/**
 * A native thread that samples many targets, each at an interval of its own, with absolute timers. While it has
 * targets it keeps the process alive. Methods throw CLOSED after `close`.
 */
export interface Sampler {
  /**
   * Samples from now on. `triples` are [offset, length, position] each, as of `FileReader.read`.
   * @returns the target's number, which is never used again
   */
  add(source: FileReader, triples: Float64Array, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number): number
  /** Cells that stand in both plans at the same offsets of the file keep their history. */
  update(target: number, source: FileReader, triples: Float64Array, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number): void
  /** No event of it is delivered any more. Idempotent. */
  remove(target: number): void
  state(target: number): Float64Array
  /**
   * Counts since the target was added, without a lock and without holding up the thread: of round trips, of how late reads were posted,
   * and of the greatest ages that counters reached before they moved; `histogramBuckets` each, one after another.
   */
  histograms(target: number): Float64Array
  /** What was not permitted when the thread was started, by the first `add`; in words fit for a log. */
  readonly warnings: readonly string[]
  /** Idempotent; no event is delivered any more. */
  close(): void
}

export interface MemoryAddon extends AddonBase {
  /** CRC32C (Castagnoli) of `length` bytes from `offset` on, continuing from `seed`, both signed; by SSE4.2 or ARMv8 where present. */
  readonly crc32c: (bytes: Uint8Array, offset: number, length: number, seed: number) => number
  /**
   * The CRCs of many pieces of `bytes`, each continuing from `seed`, into `crcs`, signed.
   * @param spans `count` pairs: offset, length
   * @throws BackdoorsError INVALID_ARGUMENT
   */
  crc32cMany(bytes: Uint8Array, spans: Float64Array, count: number, seed: number, crcs: Int32Array): void
  /** `crc32c` by tables: what that is tested against, and does where the processor has no instruction for it. */
  crc32cBySoftware(bytes: Uint8Array, offset: number, length: number, seed: number): number
  /** What `crc32c` uses on this machine. */
  readonly crc32cMeans: 'sse4.2' | 'armv8' | 'software'
  /** CLOCK_MONOTONIC in microseconds: the clock of the sampler's events. */
  monotonicUs(): number
  /** The same clock in milliseconds, into the first element: no number is made. @throws BackdoorsError INVALID_ARGUMENT */
  readonly writeMonotonicMs: (into: Float64Array) => void
  /** Advises the kernel to back whatever of this memory is not used yet by huge pages. What it makes of that is its own affair. */
  adviseHugePages(bytes: Uint8Array): void
  /**
   * Writes each page of 4 KiB of `bytes` that is not all zeros at its place behind `offset` of the file, in the calling thread.
   * @param path for what it says where it fails
   * @returns bytes written
   * @throws BackdoorsError INVALID_ARGUMENT, SYSTEM_CALL_FAILED
   */
  writeFilledPages(fd: number, path: string, offset: number, bytes: Uint8Array): number
  /**
   * Locks the file for this descriptor, until it is closed or its process has ended, however that ends.
   * @param path for what it says where it fails
   * @returns false where the file is locked for another descriptor, of this process or of another
   * @throws BackdoorsError INVALID_ARGUMENT, SYSTEM_CALL_FAILED
   */
  lockFile(fd: number, path: string): boolean
  readonly SharedMemory: new (options: SharedMemoryOptions) => SharedMemory
  readonly FileReader: new (path: string) => FileReader
  readonly BeatThread: new (options: BeatThreadOptions) => BeatThread
  readonly Sampler: new (listener: SamplerListener, options?: SamplerOptions) => Sampler
}
