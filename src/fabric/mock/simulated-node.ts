/** A simulated machine, as far as its network card shows it: bytes, what is lent of them, and whether it answers. */
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange } from '../remote-memory.js'
import type { AccessWindow } from '../checks.js'
import { flipBits } from './flip-bits.js'
import type { Random } from './random.js'
import type { Simulation } from './simulation.js'

export interface SimulatedNodeOptions {
  readonly name: string
  /** The node's memory. Whoever plays the node writes into it directly. */
  readonly buffer: ArrayBuffer
  /** Default: the whole buffer read-only. All of the buffer can be read, whatever is lent for more. */
  readonly windows?: readonly AccessWindow[]
}

export class SimulatedNode {
  readonly name: string
  readonly bytes: Uint8Array
  readonly windows: readonly AccessWindow[]
  readonly #simulation: Simulation
  readonly #random: Random
  #alive = true
  #deaths = 0

  constructor(simulation: Simulation, { name, buffer, windows = [] }: SimulatedNodeOptions) {
    this.name = name
    this.bytes = new Uint8Array(buffer)
    this.windows = windows
    this.#simulation = simulation
    this.#random = simulation.random(`node ${name}`)
    for (const { offset, length } of windows) {
      if (offset + length > buffer.byteLength) {
        throw new BackdoorsError('OUT_OF_RANGE', `a window of ${name} ends beyond its memory`, { peer: name, offset, length })
      }
    }
  }

  get alive(): boolean {
    return this.#alive
  }

  /** How often it has died: what had arrived before a death is not answered after it. */
  get deaths(): number {
    return this.#deaths
  }

  /** The machine is reset or loses power: nobody answers any more, and what it had not answered is never answered. */
  die(): void {
    this.#alive = false
    this.#deaths += 1
    this.#simulation.record(`${this.name} dies`)
  }

  /** It answers again, with the same memory: it was frozen, or its link was down. */
  revive(): void {
    this.#alive = true
    this.#simulation.record(`${this.name} is back`)
  }

  /** Bit rot: flips `bits` random bits within the ranges, by default anywhere. */
  rot(bits: number, ranges: readonly MemoryRange[] = [{ offset: 0, length: this.bytes.length }]): void {
    flipBits(this.bytes, ranges, bits, this.#random)
    this.#simulation.record(`${this.name} rots by ${String(bits)} bits`)
  }
}
