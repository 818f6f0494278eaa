import { BackdoorsError, type ErrorCode } from '../../errors.js'
import type { RemoteMemory } from '../remote-memory.js'
import { MemoryDecorator } from './memory-decorator.js'
import { type FaultableOperation, type FaultOptions, makeTrigger } from './trigger.js'

export interface FailingOptions extends FaultOptions {
  /** Default WC_RETRY_EXC_ERR. */
  readonly code?: ErrorCode
  /** The operation is done before it fails: its answer alone was lost. Default false. */
  readonly afterwards?: boolean
}

/**
 * Operations fail.
 *
 * @example
 * const memory = new FailingMemory(inner, { strike: { every: 10 }, random: new Random(seed) })
 */
export class FailingMemory extends MemoryDecorator {
  readonly #strikes: (operation: FaultableOperation) => boolean
  readonly #code: ErrorCode
  readonly #afterwards: boolean

  constructor(inner: RemoteMemory, options: FailingOptions) {
    super(inner)
    this.#strikes = makeTrigger(options)
    this.#code = options.code ?? 'WC_RETRY_EXC_ERR'
    this.#afterwards = options.afterwards ?? false
  }

  protected override async around<T>(operation: FaultableOperation, run: () => Promise<T>): Promise<T> {
    if (!this.#strikes(operation)) return run()
    if (this.#afterwards) await run()
    const range = operation.ranges[0] ?? { offset: 0, length: 0 }
    const message = `${operation.kind} of ${String(range.length)} bytes at offset ${String(range.offset)} of ${this.peer}: an injected fault`
    throw new BackdoorsError(this.#code, message, { peer: this.peer, offset: range.offset, length: range.length })
  }
}
