/** A RemoteMemory over another one, which it leaves as it is: the base of those that do harm. */
import type { MemoryRange, PreparedRead, RemoteMemory, Watch, WatchEvent, WatchPlan } from '../remote-memory.js'
import type { FaultableOperation } from './trigger.js'

type OperationKind = FaultableOperation['kind']

/**
 * Reads, writes and compare-and-swaps go through `around`, bytes that were read through `alter`. A watch is
 * the inner memory's own: a native sampler reads without asking anybody here.
 */
export abstract class MemoryDecorator implements RemoteMemory {
  protected readonly inner: RemoteMemory
  #operations = 0

  constructor(inner: RemoteMemory) {
    this.inner = inner
  }

  get peer(): string {
    return this.inner.peer
  }

  get length(): number {
    return this.inner.length
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const ranges = [{ offset, length }]
    return this.#reading(ranges, () => this.inner.read(offset, length), (bytes) => [bytes])
  }

  readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    return this.#reading(ranges, () => this.inner.readMany(ranges), (all) => all)
  }

  prepareRead(ranges: readonly MemoryRange[]): PreparedRead {
    const prepared = this.inner.prepareRead(ranges)
    return {
      ranges: prepared.ranges,
      views: prepared.views,
      run: () => this.#reading(prepared.ranges, () => prepared.run(), () => prepared.views),
      close: () => prepared.close(),
    }
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.around(this.#next('write', [{ offset, length: bytes.length }]), () => this.inner.write(offset, bytes))
  }

  compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const operation = this.#next('compareAndSwap', [{ offset, length: 8 }])
    return this.around(operation, () => this.inner.compareAndSwap(offset, expected, desired))
  }

  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    return this.inner.watch(plan, listener)
  }

  close(): Promise<void> {
    return this.inner.close()
  }

  /** Runs an operation, or fails instead. */
  protected around<T>(_operation: FaultableOperation, run: () => Promise<T>): Promise<T> {
    return run()
  }

  /** Changes bytes that were read, in place, before the caller sees them. */
  protected alter(_operation: FaultableOperation, _read: readonly Uint8Array[]): Promise<void> {
    return Promise.resolve()
  }

  #reading<T>(ranges: readonly MemoryRange[], run: () => Promise<T>, bytesOf: (result: T) => readonly Uint8Array[]): Promise<T> {
    const operation = this.#next('read', ranges)
    return this.around(operation, async () => {
      const result = await run()
      await this.alter(operation, bytesOf(result))
      return result
    })
  }

  #next(kind: OperationKind, ranges: readonly MemoryRange[]): FaultableOperation {
    this.#operations += 1
    return { kind, ranges, number: this.#operations }
  }
}
