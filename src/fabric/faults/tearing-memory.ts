import type { Random } from '../mock/random.js'
import type { RemoteMemory } from '../remote-memory.js'
import { MemoryDecorator } from './memory-decorator.js'
import { type FaultableOperation, type FaultOptions, makeTrigger } from './trigger.js'

export interface TearingOptions extends FaultOptions {
  /** Time between the two reads that are mixed, at most, in whole microseconds. */
  readonly maxSpreadUs: number
  /** Waits; in a simulation its `sleep`. */
  readonly sleep: (us: number) => Promise<void>
}

/** Reads see two instants: every 8 aligned bytes are from an earlier or from a later read. */
export class TearingMemory extends MemoryDecorator {
  readonly #options: TearingOptions
  readonly #random: Random
  readonly #strikes: (operation: FaultableOperation) => boolean

  constructor(inner: RemoteMemory, options: TearingOptions) {
    super(inner)
    this.#options = options
    this.#random = options.random
    this.#strikes = makeTrigger(options)
  }

  protected override async alter(operation: FaultableOperation, read: readonly Uint8Array[]): Promise<void> {
    if (!this.#strikes(operation)) return
    await this.#options.sleep(this.#random.integer(0, this.#options.maxSpreadUs))
    const later = await this.inner.readMany(operation.ranges)
    operation.ranges.forEach(({ offset }, index) => {
      this.#mix(offset, read[index] as Uint8Array, later[index] as Uint8Array)
    })
  }

  #mix(offset: number, read: Uint8Array, later: Uint8Array): void {
    for (let at = 0; at < read.length; ) {
      // Up to the next multiple of 8 in the remote memory, wherever the range begins.
      const end = Math.min(read.length, at + 8 - ((offset + at) % 8))
      if (this.#random.chance(0.5)) read.set(later.subarray(at, end), at)
      at = end
    }
  }
}
