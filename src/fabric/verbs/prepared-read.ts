/** A read that is built once: registered memory of its own, and work requests into it. */
import { BackdoorsError } from '../../errors.js'
import { verbsAddon } from '../../native/load.js'
import { accessFlags, type MemoryRegion, type WorkBatch, workOpcodes, workRowFields } from '../../native/verbs.js'
import type { MemoryRange, PreparedRead } from '../remote-memory.js'
import type { RcEndpoint } from './rc-endpoint.js'
import { layOut } from '../padding.js'
import type { WindowMap } from './window-map.js'

/** Longer ranges become several requests, so that none keeps a NIC's other queue pairs waiting. */
export const requestLimit = 1 << 20

/** Registered memory of at least one byte, for a batch of reads. */
export interface ReadTarget {
  readonly region: MemoryRegion
  readonly batch: WorkBatch
  readonly bytes: Uint8Array
}

/** @throws BackdoorsError MEMLOCK_LIMIT, VERBS_CALL_FAILED */
export function makeTarget(endpoint: RcEndpoint, length: number, requests: number): ReadTarget {
  const { MemoryRegion, WorkBatch } = verbsAddon()
  const region = new MemoryRegion(endpoint.device.domain, { length, access: accessFlags.localWrite })
  try {
    // Memory of the region's own always has a buffer.
    return { region, batch: new WorkBatch(endpoint.queuePair, region, requests, endpoint.timeoutUs), bytes: new Uint8Array(region.buffer as ArrayBuffer) }
  } catch (error) {
    region.close()
    throw error
  }
}

export function closeTarget({ batch, region }: ReadTarget): void {
  batch.close()
  region.close()
}

/** A target whose batch reads each range to its position; ranges may cross windows. */
export function prepareTarget(
  endpoint: RcEndpoint,
  map: WindowMap,
  ranges: readonly MemoryRange[],
  positions: readonly number[],
  length: number,
): ReadTarget {
  const rows: number[] = []
  ranges.forEach((range, index) => {
    let position = positions[index] ?? 0
    for (const piece of map.forRead(range)) {
      for (let done = 0; done < piece.length; done += requestLimit) {
        const part = Math.min(requestLimit, piece.length - done)
        rows.push(piece.window, piece.offset + done, position, part)
        position += part
      }
    }
  })
  const requests = rows.length / workRowFields
  const target = makeTarget(endpoint, length, Math.max(requests, 1))
  try {
    if (requests > 0) target.batch.prepare(workOpcodes.read, Float64Array.from(rows), requests)
    return target
  } catch (error) {
    closeTarget(target)
    throw error
  }
}

const done = Promise.resolve()

export class VerbsPreparedRead implements PreparedRead {
  readonly ranges: readonly MemoryRange[]
  readonly views: readonly Uint8Array[]
  readonly #target: ReadTarget
  readonly #peer: string
  readonly #onClose: (read: VerbsPreparedRead) => void
  #closed = false

  constructor(
    endpoint: RcEndpoint,
    map: WindowMap,
    ranges: readonly MemoryRange[],
    onClose: (read: VerbsPreparedRead) => void,
  ) {
    // Checked before their lengths are added up: one that is no number would make them all none.
    for (const range of ranges) map.forRead(range)
    const { positions, length } = layOut(ranges)
    this.ranges = ranges.map((range) => ({ ...range }))
    this.#target = prepareTarget(endpoint, map, ranges, positions, Math.max(length, 1))
    this.#peer = map.peer
    this.#onClose = onClose
    this.views = ranges.map((range, index) => this.#target.bytes.subarray(positions[index], (positions[index] ?? 0) + range.length))
  }

  run(): Promise<void> {
    return this.start() ?? done
  }

  /** As `run`, but undefined where the read was over before this returned: there is nothing to wait for then. */
  start(): Promise<void> | undefined {
    if (this.#closed) return Promise.reject(this.#closedError())
    return this.ranges.length === 0 ? undefined : this.#target.batch.run()
  }

  /** As `run`, by busy polling: nothing else runs on this thread meanwhile. */
  runSync(): void {
    if (this.#closed) throw this.#closedError()
    if (this.ranges.length > 0) this.#target.batch.runSync()
  }

  /** Runs so many times in a native loop. @returns nanoseconds from each run's post to the next one's. */
  latencyLoop(iterations: number): Float64Array {
    if (this.#closed) throw this.#closedError()
    return this.#target.batch.latencyLoop(iterations)
  }

  /** Idempotent. A run under way goes on. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeTarget(this.#target)
    this.#onClose(this)
  }

  #closedError(): BackdoorsError {
    return new BackdoorsError('CLOSED', `the prepared read of ${this.#peer}'s memory is closed`, { peer: this.#peer })
  }
}
