import { sensorCell } from './layout.js'
import type { Region } from './region.js'
import type { SensorDescription } from './sensor-cell.js'

/**
 * A sensor, as the process that beats it holds it. A beat is a few loads and a store: no call, no system call.
 *
 * @example
 * const beat = node.sensor('requests', { deadlineMs: 100 })
 * beat.pending(1); await handle(request); beat.beat(); beat.pending(0)
 */
export class SensorHandle {
  readonly name: string
  /** Offset of the cell in the region, in bytes. */
  readonly offset: number
  readonly #words: Uint32Array
  readonly #values: Float64Array
  readonly #fenced: () => boolean

  constructor(region: Region, offset: number, description: SensorDescription, fenced: () => boolean) {
    this.name = description.name
    this.offset = offset
    this.#words = new Uint32Array(region.memory.buffer, offset, sensorCell.bytes / 4)
    this.#values = new Float64Array(region.memory.buffer, offset, sensorCell.bytes / 8)
    this.#fenced = fenced
    this.#words.fill(0, 0, sensorCell.kind / 4)
    this.#words[sensorCell.pending / 4] = 1
  }

  /** Moves the counter. @returns false where this owner has been fenced: it must stop serving. */
  beat(): boolean {
    if (this.#fenced()) return false
    this.#words[sensorCell.counter / 4] = ((this.#words[sensorCell.counter / 4] as number) + 1) >>> 0
    return true
  }

  /** How much work waits; while it is 0 the deadline does not run. 1 until told otherwise. */
  pending(count: number): void {
    this.#words[sensorCell.pending / 4] = count
  }

  /** The value of a level or pressure sensor, and the limit it should stay below, in the sensor's own unit. */
  level(value: number, limit: number): void {
    this.#values[sensorCell.value / 8] = value
    this.#values[sensorCell.limit / 8] = limit
  }
}
