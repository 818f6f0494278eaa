/** Regions that are no files: a machine's memory in this process, mapped as often as a test likes. */
import type { SharedMemory } from '../../native/memory.js'
import { claimGeneration, encodeClaim, type ClaimStep } from '../control.js'
import { decodeHeader, encodeHeader } from '../header.js'
import { control, controlPairOffset, header as headerAt, planRegion, type RegionGeometry } from '../layout.js'
import type { Region } from '../region.js'

export const smallGeometry: RegionGeometry = { boxCount: 4, sensorsPerBox: 4, sessionsPerBox: 8, heapBytes: 4096 }

export interface MachineIdentity {
  readonly node: string
  readonly cluster: string
  readonly incarnation: bigint
}

const anyIdentity: MachineIdentity = { node: 'a', cluster: 'test', incarnation: 0x1122_3344_5566_7788n }

/** The processes of one machine, as far as they share a region and its locks. */
export class Machine {
  readonly bytes: Uint8Array
  readonly #holders = new Map<number, SharedMemory>()

  /** @param bytes what the region holds; without it, a new region of this geometry, under this name */
  constructor(geometry: RegionGeometry = smallGeometry, bytes?: Uint8Array, { node, cluster, incarnation }: MachineIdentity = anyIdentity) {
    this.bytes = bytes ?? new Uint8Array(planRegion(geometry).regionBytes)
    if (bytes === undefined) this.bytes.set(encodeHeader(node, cluster, incarnation, geometry), headerAt.offset)
  }

  /** What a process sees that opens the region. */
  open(): Region {
    const memory = this.#map()
    return { memory, bytes: this.bytes, header: decodeHeader(this.bytes.subarray(0, headerAt.bytes)) }
  }

  /** As the kernel does it when a process is gone: its locks are nobody's. */
  kill(region: Region): void {
    for (const [offset, holder] of this.#holders) if (holder === region.memory) this.#holders.delete(offset)
  }

  setFence(box: number | 'node', generation: number): void {
    new DataView(this.bytes.buffer).setBigUint64(controlPairOffset(box) + control.fence, BigInt(generation), true)
  }

  setClaim(box: number | 'node', generation: number, step: ClaimStep): void {
    const word = encodeClaim({ recoverer: 2, term: 1, step, generation: claimGeneration(generation) })
    new DataView(this.bytes.buffer).setBigUint64(controlPairOffset(box) + control.claim, word, true)
  }

  #map(): SharedMemory {
    const holders = this.#holders
    const memory: SharedMemory = {
      buffer: this.bytes.buffer as ArrayBuffer,
      length: this.bytes.length,
      path: '/dev/shm/a-region',
      fd: -1,
      pin: () => null,
      pinFrames: () => null,
      lockBytes: (offset) => {
        if ((holders.get(offset) ?? memory) !== memory) return false
        holders.set(offset, memory)
        return true
      },
      unlockBytes: (offset) => void (holders.get(offset) === memory && holders.delete(offset)),
      isLocked: (offset) => (holders.get(offset) ?? memory) !== memory,
      close: () => {
        for (const [offset, holder] of holders) if (holder === memory) holders.delete(offset)
      },
    }
    return memory
  }
}

/** A region's bytes that can be put back: an `ArrayBuffer` of its own, so that offsets are the region's. */
export const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)
