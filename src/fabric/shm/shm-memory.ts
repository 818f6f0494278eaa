/** Another process's memory on this machine, by its file: the embedded default, without RDMA and without root. */
import { availableParallelism } from 'node:os'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import { memoryAddon } from '../../native/load.js'
import type { FileReader } from '../../native/memory.js'
import { type AccessWindow, checkAccess, checkAligned, checkPlan, checkRange, checkWord, isInside } from '../checks.js'
import type { MemoryRange, PreparedRead, RemoteMemory, SummedParts, Watch, WatchEvent, WatchPlan } from '../remote-memory.js'
import { SampledWatch } from '../sampling/sampled-watch.js'
import type { SampledPlan } from '../sampling/shared-sampler.js'
import { rangesOf } from '../sampling/watch-ranges.js'
import { type CopySource, FileCopy, memoryLost, SummedCopies } from './file-copy.js'
import { layOut } from '../padding.js'
import { ShmPreparedRead } from './shm-prepared-read.js'
import { createShmSampler, type FileSource, type ShmSampler } from './shm-sampler.js'

export interface ShmMemoryOptions {
  /** Name of the node whose memory this is. */
  readonly peer: string
  /** Its file. */
  readonly path: string
  /** The one part that takes compare-and-swap, in bytes from the file's start. Left out, none does. */
  readonly controlOffset?: number
  readonly controlLength?: number
  /** All of it may be written, too. Default false. */
  readonly writable?: boolean
  /** Shared with other memories and closed by whoever made it. Left out, a memory has a thread of its own once it is watched. */
  readonly sampler?: ShmSampler
  /** A second thread takes part in reading much. Default: where there is a second processor. */
  readonly isHelped?: boolean
}

/**
 * Little is read by system calls, and much is copied out of a mapping under a guard, so that a peer that cuts the file off gives errors
 * and never a SIGBUS: MEMORY_LOST where bytes that were there are there no longer.
 *
 * @example
 * const memory = new ShmMemory({ peer: 'b', path: '/dev/shm/backdoors-b', controlOffset: 4096, controlLength: 4096 })
 * const header = await memory.read(0, 4096)
 */
export class ShmMemory implements RemoteMemory {
  readonly peer: string
  readonly length: number
  readonly windows: readonly AccessWindow[]
  readonly #file: FileReader
  /** Of what was read, that which is looked at first is in a processor's cache still; and waking a thread to help takes no time beside it. */
  readonly batchBytes = 3 << 20
  readonly #source: CopySource
  readonly #summed: SummedCopies
  readonly #sampler: ShmSampler
  readonly #ownsSampler: boolean
  readonly #watches = new Set<Watch>()
  #closed = false

  /** @throws BackdoorsError REGION_NOT_FOUND, REGION_TRUNCATED where the file is empty, INVALID_ARGUMENT, SYSTEM_CALL_FAILED */
  constructor({ peer, path, controlOffset = 0, controlLength = 0, writable = false, sampler, isHelped = availableParallelism() > 1 }: ShmMemoryOptions) {
    this.peer = peer
    this.#file = openFile(peer, path)
    this.length = this.#file.length()
    if (this.length === 0) {
      this.#file.close()
      throw new BackdoorsError('REGION_TRUNCATED', `${path} of ${peer} is empty: its daemon is still making it, or has died doing so`, { peer, path, length: 0 })
    }
    this.windows = [
      { offset: 0, length: this.length, access: writable ? 'write' : 'read' },
      { offset: controlOffset, length: controlLength, access: 'atomic' },
    ]
    this.#source = { peer, file: this.#file, checkOpen: (range) => this.#checkOpen('read', range) }
    this.#summed = new SummedCopies(this.#source, isHelped)
    this.#sampler = sampler ?? createShmSampler()
    this.#ownsSampler = sampler === undefined
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const [bytes] = await this.readMany([{ offset, length }])
    return bytes as Uint8Array
  }

  /** The arrays returned share one buffer of their own. */
  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.#checkReads('read', ranges)
    const { positions, length } = layOut(ranges)
    const target = this.#allocate(length)
    await new FileCopy(this.#source, ranges, positions, target).run()
    return ranges.map((range, index) => target.subarray(positions[index], (positions[index] ?? 0) + range.length))
  }

  async readInto(ranges: readonly MemoryRange[], target: Uint8Array): Promise<void> {
    this.#checkReads('read', ranges)
    let end = 0
    const positions = ranges.map(({ length }) => (end += length) - length)
    await new FileCopy(this.#source, ranges, positions, target).run()
  }

  async readSummed(parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
    this.#checkReads('read', [])
    for (let i = 0; i < 3 * parts.count; i += 3) {
      const [offset, length] = [parts.triples[i] as number, parts.triples[i + 1] as number]
      if (length === 0 || !isInside(this, offset, length)) checkRange(this, 'read', { offset, length })
    }
    await this.#summed.run(parts, target, crcs)
  }

  prepareRead(ranges: readonly MemoryRange[]): PreparedRead {
    this.#checkReads('prepare to read', ranges)
    return new ShmPreparedRead(this.#source, ranges)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const range = { offset, length: bytes.length }
    this.#checkOpen('write', range)
    checkRange(this, 'write', range)
    checkAccess(this, 'write', range, ['write'])
    this.#attempt('write', range, () => {
      this.#file.write(offset, bytes)
    })
  }

  async compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const range = { offset, length: 8 }
    this.#checkOpen('compare-and-swap', range)
    checkRange(this, 'compare-and-swap', range)
    checkAligned(this, 'compare-and-swap', range)
    checkAccess(this, 'compare-and-swap', range, ['atomic', 'write'])
    checkWord(this, 'expected', expected)
    checkWord(this, 'desired', desired)
    return this.#attempt('compare-and-swap', range, () => this.#file.compareAndSwap(offset, expected, desired))
  }

  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    this.#checkOpen('watch', { offset: 0, length: this.length })
    const source = {
      sampler: this.#sampler,
      sample: (wanted: WatchPlan) => this.#sample(wanted),
      closed: (closed: Watch) => void this.#watches.delete(closed),
    }
    const watch = new SampledWatch(source, plan, listener)
    this.#watches.add(watch)
    return watch
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const watch of [...this.#watches]) watch.close()
    if (this.#ownsSampler) this.#sampler.close()
    this.#file.close()
  }

  #sample(plan: WatchPlan): SampledPlan<FileSource> {
    checkPlan(this, plan)
    const { ranges, positions, cells } = rangesOf(plan.cells)
    const triples = ranges.flatMap(({ offset, length }, index) => [offset, length, positions[index] ?? 0])
    // Without cells there is still a memory that may become unreachable.
    const source = [this.#file, Float64Array.from(triples.length > 0 ? triples : [0, 1, 0])] as const
    return { source, cells, intervalUs: plan.intervalUs, unreachableAfterUs: plan.unreachableAfterUs }
  }

  #checkOpen(doing: string, { offset, length }: MemoryRange): void {
    if (!this.#closed) return
    throw new BackdoorsError('CLOSED', `${doing} ${String(length)} bytes at offset ${String(offset)} of ${this.peer}: this memory has been closed`, {
      peer: this.peer,
      offset,
      length,
    })
  }

  #checkReads(doing: string, ranges: readonly MemoryRange[]): void {
    this.#checkOpen(doing, ranges[0] ?? { offset: 0, length: 0 })
    for (const range of ranges) checkRange(this, doing, range)
  }

  #allocate(length: number): Uint8Array {
    try {
      return new Uint8Array(length)
    } catch (cause) {
      const message = `read ${String(length)} bytes of ${this.peer} at once: there is no memory for so many; read them in parts`
      throw new BackdoorsError('INVALID_ARGUMENT', message, { peer: this.peer, length, cause })
    }
  }

  /** Says whose memory it was; and that bytes which were there when the file was opened are there no longer. */
  #attempt<T>(doing: string, range: MemoryRange, operation: () => T): T {
    try {
      return operation()
    } catch (error) {
      if (!(error instanceof BackdoorsError)) throw error
      const about = `${String(range.length)} bytes at offset ${String(range.offset)} of ${this.peer}`
      const details = { ...error.details, peer: this.peer, path: this.#file.path, ...range }
      if (error.code === 'OUT_OF_RANGE') throw memoryLost(`${doing} ${about}`, details, this.#file.length())
      throw new BackdoorsError(error.code, `${doing} ${about}: ${error.message}`, { ...details, cause: error })
    }
  }
}

function openFile(peer: string, path: string): FileReader {
  try {
    return new (memoryAddon().FileReader)(path)
  } catch (error) {
    const known = asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `open ${path}`, { path })
    if (!isBackdoorsError(error)) throw known
    throw new BackdoorsError(known.code, `the memory of ${peer}: ${known.message}`, { ...known.details, peer, cause: error })
  }
}
