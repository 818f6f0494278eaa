/** Memory that is mapped into this process, read as if it were another machine's: what a lender does with what it lends. */
import type { SharedMemory } from '../native/memory.js'
import { BackdoorsError } from '../errors.js'
import { checkRange, type CheckedMemory } from './checks.js'
import type { MemoryRange, ReadableMemory } from './remote-memory.js'

/** How long one who reads without end holds the event loop, in milliseconds. */
const mostHeldMs = 5

/** For a DAX device, which can only be mapped, and for files that nobody cuts off: a file shorter than its mapping ends the process. */
export class MappedMemory implements ReadableMemory {
  readonly peer: string
  readonly length: number
  readonly #memory: SharedMemory
  readonly #checked: CheckedMemory
  #yieldedMs = performance.now()

  /** @param memory stays its owner's */
  constructor(peer: string, memory: SharedMemory) {
    this.peer = peer
    this.length = memory.length
    this.#memory = memory
    this.#checked = { peer, length: memory.length, windows: [] }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  /** Copies: what is read stays as it was. Nothing has to be waited for, so others are let run now and then. */
  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const nowMs = performance.now()
    if (nowMs - this.#yieldedMs > mostHeldMs) {
      await new Promise(setImmediate)
      this.#yieldedMs = performance.now()
    }
    if (this.#memory.buffer.byteLength === 0) throw new BackdoorsError('CLOSED', `read from ${this.peer}: its memory has been closed`, { peer: this.peer })
    return ranges.map((range) => {
      checkRange(this.#checked, 'read', range)
      return new Uint8Array(this.#memory.buffer.slice(range.offset, range.offset + range.length))
    })
  }
}
