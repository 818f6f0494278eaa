import type { Random } from '../mock/random.js'
import type { RemoteMemory } from '../remote-memory.js'
import { MemoryDecorator } from './memory-decorator.js'
import { type FaultableOperation, type FaultOptions, makeTrigger } from './trigger.js'

export interface DelayingOptions extends FaultOptions {
  /** Drawn evenly, in whole microseconds, both ends included. */
  readonly minDelayUs: number
  readonly maxDelayUs: number
  /** Waits; in a simulation its `sleep`. */
  readonly sleep: (us: number) => Promise<void>
}

/** Operations come late: part of the delay passes before they are done, the rest after. */
export class DelayingMemory extends MemoryDecorator {
  readonly #options: DelayingOptions
  readonly #random: Random
  readonly #strikes: (operation: FaultableOperation) => boolean

  constructor(inner: RemoteMemory, options: DelayingOptions) {
    super(inner)
    this.#options = options
    this.#random = options.random
    this.#strikes = makeTrigger(options)
  }

  protected override async around<T>(operation: FaultableOperation, run: () => Promise<T>): Promise<T> {
    if (!this.#strikes(operation)) return run()
    const { minDelayUs, maxDelayUs, sleep } = this.#options
    const delayUs = this.#random.integer(minDelayUs, maxDelayUs)
    const beforeUs = this.#random.integer(0, delayUs)
    await sleep(beforeUs)
    try {
      return await run()
    } finally {
      await sleep(delayUs - beforeUs)
    }
  }
}
