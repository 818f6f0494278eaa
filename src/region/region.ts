/** A region file on this machine: made by the daemon, mapped by the servers. */
import { randomBytes } from 'node:crypto'
import { BackdoorsError } from '../errors.js'
import { memoryAddon } from '../native/load.js'
import type { SharedMemory } from '../native/memory.js'
import { claimGeneration, decodeClaim, isBefore } from './control.js'
import { decodeHeader, encodeHeader, type RegionHeader } from './header.js'
import { control, controlPairOffset, header as headerAt, planRegion, type RegionGeometry } from './layout.js'

export interface Region {
  readonly memory: SharedMemory
  readonly bytes: Uint8Array
  readonly header: RegionHeader
}

/** The daemon holds a kernel lock on this byte of the file for as long as it lives. */
const daemonLockOffset = headerAt.offset

/**
 * Makes a region, allocated in full. The header is written last, so that a half-made region is none.
 * @throws BackdoorsError REGION_EXISTS, SYSTEM_CALL_FAILED (no room, no permission), INVALID_ARGUMENT
 */
export function createRegion(path: string, node: string, cluster: string, geometry: RegionGeometry): Region {
  const { SharedMemory } = memoryAddon()
  const incarnation = randomBytes(8).readBigUInt64LE() | 1n
  const page = encodeHeader(node, cluster, incarnation, geometry)
  const memory = new SharedMemory({ create: true, path, length: planRegion(geometry).regionBytes })
  const bytes = new Uint8Array(memory.buffer)
  bytes.set(page, headerAt.offset)
  return { memory, bytes, header: decodeHeader(page) }
}

/**
 * Maps a region that exists.
 * @throws BackdoorsError REGION_NOT_FOUND, REGION_TRUNCATED, REGION_CORRUPT, LAYOUT_UNSUPPORTED; INVALID_ARGUMENT where
 * the file is too large for one ArrayBuffer
 */
export function openRegion(path: string): Region {
  const { SharedMemory } = memoryAddon()
  const memory = new SharedMemory({ path, length: headerAt.bytes })
  try {
    const bytes = new Uint8Array(memory.buffer)
    const header = decodeHeader(bytes.subarray(headerAt.offset, headerAt.offset + headerAt.bytes), { path })
    if (memory.length < header.plan.regionBytes) {
      throw new BackdoorsError('REGION_TRUNCATED', `The region ${path} has ${memory.length} of its ${header.plan.regionBytes} bytes; delete it, and the daemon makes a new one.`, { path, length: memory.length })
    }
    return { memory, bytes, header }
  } catch (error) {
    memory.close()
    throw error
  }
}

/** @throws BackdoorsError BOX_IN_USE where another daemon lends this region */
export function lockForDaemon(region: Region): void {
  if (!region.memory.lockBytes(daemonLockOffset, 1)) {
    throw new BackdoorsError('BOX_IN_USE', `Another daemon lends the region ${region.memory.path}; stop it first.`, { path: region.memory.path })
  }
}

/** The control page's words, as the local machine sees them; it only reads them. */
export class ControlWords {
  readonly #words: Uint32Array

  constructor(region: Region) {
    this.#words = new Uint32Array(region.memory.buffer, control.offset, control.bytes / 4)
  }

  /** The low half of a fence word; that is all that generations need. */
  fence(box: number | 'node'): number {
    return Atomics.load(this.#words, (controlPairOffset(box) - control.offset + control.fence) / 4)
  }

  /** How far the recoverer of the fenced generation read (`isWithin`). */
  extracted(box: number): number {
    return Atomics.load(this.#words, (controlPairOffset(box) - control.offset + control.fence + 4) / 4)
  }

  /** Has the recoverer of the box's fenced generation said how far it read? */
  hasBeenRead(box: number): boolean {
    const claim = decodeClaim(this.claim(box))
    return claim?.generation === claimGeneration(this.fence(box)) && !isBefore(claim.step, 'extracted')
  }

  claim(box: number | 'node'): bigint {
    const word = (controlPairOffset(box) - control.offset + control.claim) / 4
    return (BigInt(Atomics.load(this.#words, word + 1)) << 32n) | BigInt(Atomics.load(this.#words, word))
  }
}
