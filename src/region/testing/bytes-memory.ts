import { BackdoorsError } from '../../errors.js'
import type { MemoryRange, PreparedRead, RemoteMemory, Watch } from '../../fabric/remote-memory.js'

/**
 * Remote memory that is simply bytes: for tests that run a reader hundreds of thousands of times, where a
 * simulated fabric would be most of the work. It counts what is asked of it.
 */
export class BytesMemory implements RemoteMemory {
  readonly peer = 'bytes'
  /** How often `readMany` was called, how many ranges that were, and how many bytes. */
  calls = 0
  reads = 0
  bytesRead = 0
  readonly #bytesAt: (call: number) => Uint8Array
  readonly length: number

  /** @param bytes the memory; a function gives it as it is at each call, counted from 0 */
  constructor(bytes: Uint8Array | ((call: number) => Uint8Array)) {
    this.#bytesAt = typeof bytes === 'function' ? bytes : () => bytes
    this.length = this.#bytesAt(0).length
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const [bytes] = await this.readMany([{ offset, length }])
    return bytes as Uint8Array
  }

  readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const bytes = this.#bytesAt(this.calls++)
    const blocks: Uint8Array[] = []
    for (const { offset, length } of ranges) {
      if (!Number.isSafeInteger(offset) || offset < 0 || length < 1 || offset + length > bytes.length) {
        return Promise.reject(new BackdoorsError('OUT_OF_RANGE', `read ${length} bytes at ${offset} of ${bytes.length}`, { offset, length }))
      }
      this.reads++
      this.bytesRead += length
      blocks.push(bytes.slice(offset, offset + length))
    }
    return Promise.resolve(blocks)
  }

  prepareRead(): PreparedRead {
    throw new Error('not needed by a reader of regions')
  }

  write(): Promise<void> {
    throw new Error('not needed by a reader of regions')
  }

  compareAndSwap(): Promise<bigint> {
    throw new Error('not needed by a reader of regions')
  }

  watch(..._: Parameters<RemoteMemory['watch']>): Watch {
    throw new Error('not needed by a reader of regions')
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
