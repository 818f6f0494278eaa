/**
 * Lends a host's whole memory from beside it: from a DPU, or a hypervisor. The host's kernel is looked at here as well, so
 * that exactly the frames of its region's control page, and no other, take compare-and-swap from peers.
 */
import type { Logger } from 'pino'
import { isBackdoorsError } from '../errors.js'
import type { EndpointPair } from '../fabric/lending.js'
import { MappedMemory } from '../fabric/mapped-memory.js'
import type { VerbsDevice } from '../fabric/verbs/device.js'
import { VerbsLender } from '../fabric/verbs/lender.js'
import type { QueuePairSettings } from '../fabric/verbs/queue-pair-settings.js'
import { findHostRegion, isStillMapped, type HostRegion } from '../kernel/host-region.js'
import { KernelImage } from '../kernel/kernel-image.js'
import type { SymbolCache } from '../kernel/kernel-symbols.js'
import { pageBytes } from '../kernel/page-table-format.js'
import { PhysicalMemory } from '../kernel/physical-memory.js'
import { memoryAddon } from '../native/load.js'
import type { SharedMemory } from '../native/memory.js'
import { control } from '../region/layout.js'
import type { HostConfig } from './config.js'
import type { HostLoan, HostState } from './host-messages.js'

/** A search of the whole memory that found no kernel is not done again sooner, in milliseconds. */
const searchAgainMs = 3000

export interface HostLenderOptions {
  /** A monotonic clock. */
  readonly nowMs: () => number
  readonly queuePairs: QueuePairSettings
  readonly cache: SymbolCache
  readonly log: Logger
}

export class HostLender {
  readonly name: string
  readonly #memory: SharedMemory
  readonly #physical: PhysicalMemory
  readonly #lender: VerbsLender
  readonly #nowMs: () => number
  readonly #cache: SymbolCache
  readonly #log: Logger
  #image: KernelImage | undefined
  #region: HostRegion | undefined
  #searchedMs = -Infinity
  #state: HostState = { region: null, notes: [] }
  #looking: Promise<HostState> | undefined

  /** @throws BackdoorsError SYSTEM_CALL_FAILED, INVALID_ARGUMENT or OUT_OF_RANGE for a map that does not fit, MEMLOCK_LIMIT, VERBS_CALL_FAILED */
  constructor({ name, memory: path, map, writable }: HostConfig, device: VerbsDevice, { nowMs, queuePairs, cache, log }: HostLenderOptions) {
    const { SharedMemory } = memoryAddon()
    this.name = name
    this.#nowMs = nowMs
    this.#cache = cache
    this.#log = log
    this.#memory = new SharedMemory({ path })
    try {
      const { length } = this.#memory
      this.#physical = new PhysicalMemory(new MappedMemory(name, this.#memory), map ?? [{ physical: 0, length, offset: 0 }])
      this.#lender = new VerbsLender({ device, memory: this.#memory, writable, queuePairs })
    } catch (error) {
      this.#memory.close()
      throw error
    }
    log.info({ host: name, memory: path, bytes: this.#memory.length, writable }, 'lending the whole memory of a host')
  }

  /** Answers a peer's queue pairs; those that it had before are destroyed. @throws BackdoorsError QP_TRANSITION, VERBS_CALL_FAILED, CLOSED */
  async lend(peer: string, endpoints: EndpointPair): Promise<HostLoan> {
    const state = await this.look()
    const accepted = this.#lender.accept(peer, endpoints)
    return { ...state, endpoints: accepted.endpoints, windows: [...accepted.windows], map: [...this.#physical.spans] }
  }

  release(peer: string): void {
    this.#lender.release(peer)
  }

  /** Looks at the host as it is now. Never rejects for what is found there: a host that is not up has no region yet. */
  look(): Promise<HostState> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined))
    return this.#looking
  }

  /** Idempotent. */
  close(): void {
    this.#lender.close()
    this.#memory.close()
  }

  async #look(): Promise<HostState> {
    try {
      const image = await this.#learned()
      if (image === undefined || (this.#region && (await isStillMapped(image, this.#region)))) return this.#state
      const { region } = await findHostRegion(image, { node: this.name })
      if (region) this.#state = this.#lendControl(image, region)
      this.#region = region
    } catch (error) {
      if (!isBackdoorsError(error)) throw error
      this.#log.debug({ host: this.name, err: error }, 'no region was found')
    }
    return this.#state
  }

  /** A region that was found stays lent until another is: the host may have died since, its tasks with it. */
  #lendControl(image: KernelImage, { header: { incarnation }, pages }: HostRegion): HostState {
    const first = control.offset / pageBytes
    const frames = pages.slice(first, first + control.bytes / pageBytes)
    const ranges = frames.flatMap((physical) => this.#physical.locate({ physical, length: pageBytes }) ?? [])
    this.#lender.setControl(ranges)
    const state = { region: incarnation.toString(16), notes: [image.notePhysical] }
    if (this.#state.region !== state.region) this.#log.info({ host: this.name, incarnation: state.region, frames }, 'the control page of the host is lent for compare-and-swap')
    return state
  }

  async #learned(): Promise<KernelImage | undefined> {
    if (this.#image && !(await this.#image.isCurrent())) this.#image = undefined
    if (this.#image === undefined && this.#nowMs() - this.#searchedMs >= searchAgainMs) {
      try {
        this.#image = await KernelImage.learn({ physical: this.#physical, hints: this.#state.notes, cache: this.#cache })
        this.#state = { ...this.#state, notes: [this.#image.notePhysical] }
        this.#log.info({ host: this.name, kernel: this.#image.note.osRelease, symbols: this.#image.symbols.size }, 'the host\'s kernel has been learned')
      } finally {
        this.#searchedMs = this.#nowMs()
      }
    }
    // Its page tables change while it lives.
    return this.#image?.over(this.#physical)
  }
}
