/** Lends a region to peers: registers it, and answers each peer's queue pairs without this machine's processors. */
import { BackdoorsError } from '../../errors.js'
import { verbsAddon } from '../../native/load.js'
import type { SharedMemory } from '../../native/memory.js'
import { accessFlags, type MemoryRegion } from '../../native/verbs.js'
import type { EndpointPair, MemoryWindow } from '../lending.js'
import type { VerbsDevice } from './device.js'
import type { QueuePairSettings } from './queue-pair-settings.js'
import { RcEndpoint } from './rc-endpoint.js'

/** A part of the lent memory that takes compare-and-swap, e.g. the control page. In bytes from the memory's start. */
export interface ControlRange {
  readonly offset: number
  readonly length: number
}

export interface VerbsLenderOptions {
  readonly device: VerbsDevice
  readonly memory: SharedMemory
  readonly control: ControlRange
  readonly queuePairs?: QueuePairSettings
}

interface Responder {
  readonly sampling: RcEndpoint
  readonly recovery: RcEndpoint
}

/** What a peer is told when it has been accepted. */
export interface Acceptance {
  readonly endpoints: EndpointPair
  readonly windows: readonly MemoryWindow[]
}

/** A responder posts nothing itself; the least that can be asked for. */
const responderDepth = 1

/**
 * The whole memory is lent for reading. The control range is registered once more, by itself, for compare-and-swap:
 * nothing else can be changed by anybody.
 *
 * @example
 * const lender = new VerbsLender({ device, memory, control: { offset: 4096, length: 4096 } })
 * const { endpoints, windows } = lender.accept('node-2', itsEndpoints)
 */
export class VerbsLender {
  readonly windows: readonly MemoryWindow[]
  readonly #options: VerbsLenderOptions
  readonly #regions: readonly MemoryRegion[]
  readonly #responders = new Map<string, Responder>()
  #closed = false

  /** @throws BackdoorsError MEMLOCK_LIMIT, OUT_OF_RANGE, VERBS_CALL_FAILED */
  constructor(options: VerbsLenderOptions) {
    this.#options = options
    const { device, memory, control } = options
    const { MemoryRegion } = verbsAddon()
    const whole = { offset: 0, length: memory.length }
    const readable = new MemoryRegion(device.domain, { memory, ...whole, access: accessFlags.remoteRead })
    const atomicAccess = accessFlags.localWrite | accessFlags.remoteRead | accessFlags.remoteAtomic
    const atomic = new MemoryRegion(device.domain, { memory, ...control, access: atomicAccess })
    this.#regions = [readable, atomic]
    this.windows = [
      { ...whole, address: readable.address, rkey: readable.rkey, access: 'read' },
      { ...control, address: atomic.address, rkey: atomic.rkey, access: 'atomic' },
    ]
  }

  /** Names of the peers that are connected. */
  get peers(): readonly string[] {
    return [...this.#responders.keys()]
  }

  /**
   * Answers a peer's queue pairs from now on; those it had before are destroyed.
   * @throws BackdoorsError QP_TRANSITION, MEMLOCK_LIMIT, VERBS_CALL_FAILED, CLOSED
   */
  accept(peer: string, endpoints: EndpointPair): Acceptance {
    if (this.#closed) throw new BackdoorsError('CLOSED', `cannot lend to ${peer}: the lender is closed`, { peer })
    this.release(peer)
    const sampling = this.#respond(peer)
    try {
      const recovery = this.#respond(peer)
      this.#responders.set(peer, { sampling, recovery })
      sampling.connect(endpoints.sampling)
      recovery.connect(endpoints.recovery)
      return { endpoints: { sampling: sampling.local, recovery: recovery.local }, windows: this.windows }
    } catch (error) {
      sampling.close()
      this.release(peer)
      throw error
    }
  }

  /** Destroys a peer's queue pairs: whatever it still reads fails. Nothing happens where it has none. */
  release(peer: string): void {
    const responder = this.#responders.get(peer)
    this.#responders.delete(peer)
    responder?.sampling.close()
    responder?.recovery.close()
  }

  /** Idempotent. The memory itself stays open. */
  close(): void {
    this.#closed = true
    for (const peer of this.peers) this.release(peer)
    for (const region of this.#regions) region.close()
  }

  #respond(peer: string): RcEndpoint {
    const access = accessFlags.remoteRead | accessFlags.remoteAtomic
    return new RcEndpoint(this.#options.device, { ...this.#options.queuePairs, peer, access, depth: responderDepth })
  }
}
