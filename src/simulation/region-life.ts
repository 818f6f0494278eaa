/** One region of a simulated machine, from its making to its end: the bytes, the processes that map them, and what the network card shows. */
import { SimulatedNode } from '../fabric/mock/simulated-node.js'
import type { Simulation } from '../fabric/mock/simulation.js'
import { nodeGeneration } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { boxOffset, control, planRegion, type RegionGeometry } from '../region/layout.js'
import { ControlWords, type Region } from '../region/region.js'
import { Machine } from '../region/testing/memory-region.js'
import { Beats } from './beats.js'
import { timing } from './timing.js'

/** Room for all sessions of a cluster in each box, and for servers that were fenced and start again. */
export const geometry: RegionGeometry = { boxCount: 6, sensorsPerBox: 1, sessionsPerBox: 32, heapBytes: 32 << 10 }
export const cluster = 'simulated'

/** A server, as far as verdicts on it are concerned. */
export interface BoxOfServer {
  readonly box: number
  readonly generation: number
  readonly alive: boolean
  readonly beats: Beats
}

export class RegionLife {
  readonly host: string
  readonly header: RegionHeader
  readonly node: SimulatedNode
  /** As the oracle reads them: no safeguard that is switched off hides a fence from it. */
  readonly words: ControlWords
  readonly osBeats: Beats
  /** When its daemon was ended in order, in microseconds; undefined while it is not. */
  leftUs: number | undefined
  /** Who owned each generation of each box. */
  readonly #owners = new Map<string, BoxOfServer>()
  readonly #machine: Machine
  #lost = false
  #rots = 0

  constructor(simulation: Simulation, host: string, incarnation: bigint) {
    this.host = host
    this.osBeats = new Beats(simulation.now(), timing.deadlineUs)
    this.#machine = new Machine(geometry, undefined, { node: host, cluster, incarnation })
    const region = this.#machine.open()
    this.header = region.header
    this.words = new ControlWords(region)
    this.node = new SimulatedNode(simulation, {
      name: host,
      buffer: region.memory.buffer,
      windows: [{ offset: control.offset, length: control.bytes, access: 'atomic' }],
    })
  }

  get bytes(): Uint8Array {
    return this.#machine.bytes
  }

  /** Was the machine reset, or its region given up? Then nothing of it is ever read again. */
  get lost(): boolean {
    return this.#lost
  }

  get fenced(): boolean {
    return this.words.fence('node') >= nodeGeneration
  }

  isFenced(box: number, generation: number): boolean {
    return this.fenced || this.words.fence(box) >= generation
  }

  addOwner(owner: BoxOfServer): void {
    this.#owners.set(`${owner.box}/${owner.generation}`, owner)
  }

  ownerOf(box: number, generation: number): BoxOfServer | undefined {
    return this.#owners.get(`${box}/${generation}`)
  }

  /** As a process maps it. */
  open(): Region {
    return this.#machine.open()
  }

  /** The kernel gives up the locks of a process that is gone. */
  release(region: Region): void {
    this.#machine.kill(region)
  }

  lose(): void {
    if (this.#lost) return
    this.#lost = true
    if (this.node.alive) this.node.die()
  }

  raiseFence(box: number | 'node', generation: number): void {
    this.#machine.setFence(box, generation)
  }

  /** How often bits of it have rotted. */
  get rots(): number {
    return this.#rots
  }

  /** Bit rot among the sessions of all boxes. */
  rot(bits: number): void {
    this.#rots++
    const { plan } = this.header
    const length = planRegion(geometry).regionBytes
    const ranges = Array.from({ length: plan.boxCount }, (_, box) => {
      const offset = boxOffset(plan, box) + plan.indexInBox
      const end = Math.min(length, boxOffset(plan, box) + plan.heapInBox + (plan.heapBytes >> 3))
      return { offset, length: end - offset }
    })
    this.node.rot(bits, ranges)
  }
}
