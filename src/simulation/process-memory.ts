/** Remote memory as one process sees it: what a stopped process asked for is waited for until it runs again, what a dead one asked for is lost. */
import { MemoryDecorator } from '../fabric/faults/memory-decorator.js'
import type { FaultableOperation } from '../fabric/faults/trigger.js'
import type { MockMemory } from '../fabric/mock/mock-memory.js'
import type { Watch, WatchEvent, WatchPlan } from '../fabric/remote-memory.js'
import type { Process } from './process.js'
import { ms } from './timing.js'

/** A sampler whose process is stopped is held so long at a time, for nobody knows when it goes on. */
const heldUs = 50 * ms

export class ProcessMemory extends MemoryDecorator {
  readonly #process: Process
  readonly #memory: MockMemory
  readonly #later: (us: number, run: () => void) => void

  /** @param later of virtual time */
  constructor(memory: MockMemory, process: Process, later: (us: number, run: () => void) => void) {
    super(memory)
    this.#process = process
    this.#memory = memory
    this.#later = later
  }

  override watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    const watch = this.#memory.watch(plan, (event) => void this.#process.whenRunning(() => listener(event)))
    let closed = false
    let holding = false
    const hold = (): void => {
      holding = !closed && this.#process.alive && !this.#process.running
      if (!holding) return
      this.#memory.holdWatcher(heldUs)
      this.#later(heldUs, hold)
    }
    const close = (): void => {
      closed = true
      watch.close()
    }
    this.#process.onStop(() => {
      if (!holding) hold()
    })
    this.#process.onEnd(close)
    return {
      get state() {
        return watch.state
      },
      update: (next) => watch.update(next),
      close,
    }
  }

  protected override async around<T>(_operation: FaultableOperation, run: () => Promise<T>): Promise<T> {
    await this.#process.gate()
    try {
      return await run()
    } finally {
      await this.#process.gate()
    }
  }
}
