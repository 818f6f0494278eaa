/** A read of a peer's file that is built once. */
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange, PreparedRead } from '../remote-memory.js'
import { type CopySource, FileCopy } from './file-copy.js'
import { layOut } from '../padding.js'

export class ShmPreparedRead implements PreparedRead {
  readonly ranges: readonly MemoryRange[]
  readonly views: readonly Uint8Array[]
  readonly #source: CopySource
  readonly #copy: FileCopy
  #running = false
  #closed = false

  /** The ranges lie within the memory. */
  constructor(source: CopySource, ranges: readonly MemoryRange[]) {
    const { positions, length } = layOut(ranges)
    const target = new Uint8Array(length)
    this.ranges = ranges.map(({ offset, length: rangeLength }) => ({ offset, length: rangeLength }))
    this.views = ranges.map((range, index) => target.subarray(positions[index], (positions[index] ?? 0) + range.length))
    this.#source = source
    this.#copy = new FileCopy(source, this.ranges, positions, target)
  }

  async run(): Promise<void> {
    const { peer } = this.#source
    const first = this.ranges[0] ?? { offset: 0, length: 0 }
    if (this.#closed) throw new BackdoorsError('CLOSED', `read from ${peer}: this prepared read has been closed`, { peer, ...first })
    if (this.#running) throw new BackdoorsError('INVALID_ARGUMENT', `read from ${peer}: this prepared read is running; wait for it`, { peer, ...first })
    this.#source.checkOpen(first)
    this.#running = true
    try {
      await this.#copy.run()
    } finally {
      this.#running = false
    }
  }

  close(): void {
    this.#closed = true
  }
}
