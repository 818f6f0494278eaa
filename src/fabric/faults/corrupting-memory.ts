import { flipBits } from '../mock/flip-bits.js'
import type { Random } from '../mock/random.js'
import type { RemoteMemory } from '../remote-memory.js'
import { MemoryDecorator } from './memory-decorator.js'
import { type FaultableOperation, type FaultOptions, makeTrigger } from './trigger.js'

export interface CorruptingOptions extends FaultOptions {
  /** How many bits are flipped in one range of an operation. Default 1. */
  readonly bits?: number
}

/** Reads give wrong bits, though the memory itself is whole. */
export class CorruptingMemory extends MemoryDecorator {
  readonly #bits: number
  readonly #random: Random
  readonly #strikes: (operation: FaultableOperation) => boolean

  constructor(inner: RemoteMemory, options: CorruptingOptions) {
    super(inner)
    this.#bits = options.bits ?? 1
    this.#random = options.random
    this.#strikes = makeTrigger(options)
  }

  protected override alter(operation: FaultableOperation, read: readonly Uint8Array[]): Promise<void> {
    if (this.#strikes(operation) && read.length > 0) {
      const bytes = this.#random.pick(read)
      flipBits(bytes, [{ offset: 0, length: bytes.length }], this.#bits, this.#random)
    }
    return Promise.resolve()
  }
}
