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
  /** What takes compare-and-swap from the beginning; `setControl` changes it. Default: nothing. */
  readonly control?: ControlRange
  /** Peers may write all of it, too. Default false. */
  readonly writable?: boolean
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

interface RegisteredRange extends ControlRange {
  readonly region: MemoryRegion
}

/**
 * The whole memory is lent for reading. Control ranges are registered once more, by themselves, for compare-and-swap:
 * nothing else can be changed by anybody, unless all of it is lent writable.
 *
 * @example
 * const lender = new VerbsLender({ device, memory, control: { offset: 4096, length: 4096 } })
 * const { endpoints, windows } = lender.accept('node-2', itsEndpoints)
 */
export class VerbsLender {
  readonly #options: VerbsLenderOptions
  readonly #whole: RegisteredRange
  #control: readonly RegisteredRange[] = []
  readonly #responders = new Map<string, Responder>()
  #closed = false

  /** @throws BackdoorsError MEMLOCK_LIMIT, OUT_OF_RANGE, VERBS_CALL_FAILED */
  constructor(options: VerbsLenderOptions) {
    this.#options = options
    const { memory, control, writable = false } = options
    this.#whole = this.#register({ offset: 0, length: memory.length }, writable ? changing | accessFlags.remoteWrite : accessFlags.remoteRead)
    try {
      if (control) this.setControl([control])
    } catch (error) {
      this.#whole.region.close()
      throw error
    }
  }

  /** What a peer that is accepted now is lent. */
  get windows(): readonly MemoryWindow[] {
    const wholeAccess = this.#options.writable ? 'write' : 'read'
    return [windowOf(this.#whole, wholeAccess), ...this.#control.map((range) => windowOf(range, 'atomic'))]
  }

  /**
   * Replaces the ranges that take compare-and-swap. Those that stay keep their rkeys; those that go are taken back from
   * everybody at once.
   * @throws BackdoorsError MEMLOCK_LIMIT, OUT_OF_RANGE, VERBS_CALL_FAILED; the earlier ranges are then gone
   */
  setControl(ranges: readonly ControlRange[]): void {
    const earlier = this.#control
    const kept = earlier.filter((range) => ranges.some(({ offset, length }) => range.offset === offset && range.length === length))
    for (const range of earlier) if (!kept.includes(range)) range.region.close()
    this.#control = kept
    for (const { offset, length } of ranges) {
      if (this.#control.some((range) => range.offset === offset && range.length === length)) continue
      this.#control = [...this.#control, this.#register({ offset, length }, changing)]
    }
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
    for (const { region } of [this.#whole, ...this.#control]) region.close()
  }

  #respond(peer: string): RcEndpoint {
    const access = accessFlags.remoteRead | accessFlags.remoteAtomic | (this.#options.writable ? accessFlags.remoteWrite : 0)
    return new RcEndpoint(this.#options.device, { ...this.#options.queuePairs, peer, access, depth: responderDepth })
  }

  #register(range: ControlRange, access: number): RegisteredRange {
    const { device, memory } = this.#options
    const { MemoryRegion } = verbsAddon()
    return { ...range, region: new MemoryRegion(device.domain, { memory, ...range, access }) }
  }
}

/** Compare-and-swap; a NIC wants memory that may be changed remotely to be writable locally. */
const changing = accessFlags.localWrite | accessFlags.remoteRead | accessFlags.remoteAtomic

const windowOf = ({ offset, length, region }: RegisteredRange, access: MemoryWindow['access']): MemoryWindow => ({ offset, length, address: region.address, rkey: region.rkey, access })
