/**
 * Lends a host's whole memory from beside it: from a DPU, or a hypervisor. The host's kernel is looked at here as well, so
 * that exactly the frames of its region's control page, and no other, take compare-and-swap from peers.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { EndpointPair } from '../../fabric/lending.js'
import { MappedMemory } from '../../fabric/mapped-memory.js'
import type { VerbsDevice } from '../../fabric/verbs/device.js'
import { VerbsLender } from '../../fabric/verbs/lender.js'
import type { QueuePairSettings } from '../../fabric/verbs/queue-pair-settings.js'
import { readBootIdentity } from '../../kernel/boot-identity.js'
import { findHostRegion, hasSamePages, revisitHostRegion, type HostRegion } from '../../kernel/host-region.js'
import { KernelImage } from '../../kernel/kernel-image.js'
import type { SymbolCache } from '../../kernel/kernel-symbols.js'
import { pageBytes } from '../../kernel/page-table-format.js'
import { PhysicalMemory } from '../../kernel/physical-memory.js'
import { memoryAddon } from '../../native/load.js'
import type { SharedMemory } from '../../native/memory.js'
import { control } from '../../region/layout.js'
import type { HostConfig } from '../config.js'
import type { HostLoan, HostState } from './host-messages.js'

/** A search of the whole memory, or of all processes, that found nothing is not done again sooner, in milliseconds. */
const searchAgainMs = 3000
/** An old server may map a region that its daemon has given up for a newer one: so often all processes are looked through, though a region is known, in milliseconds. */
const searchAnywayMs = 30_000
/** A kernel whose clock has stood still for so long may be an earlier life's: another is looked for, and less and less often. */
const stillForMs = 5000
const otherEveryMs = 30_000
const otherAtLeastEveryMs = 600_000
/** How long a kernel is watched for its clock to move; the timers of an idle one are a second apart. */
const moveWithinMs = 1200

export interface HostLenderOptions {
  /** A monotonic clock. */
  readonly nowMs: () => number
  readonly queuePairs: QueuePairSettings
  readonly cache: SymbolCache
  readonly log: Logger
}

export class HostLender {
  readonly name: string
  readonly #owner: number
  readonly #memory: SharedMemory
  readonly #physical: PhysicalMemory
  readonly #lender: VerbsLender
  readonly #nowMs: () => number
  readonly #cache: SymbolCache
  readonly #log: Logger
  #known: KnownKernel | undefined
  #region: HostRegion | undefined
  #learnedMs = -Infinity
  #searchedMs = -Infinity
  #state: HostState = nothing
  #looking: Promise<HostState> | undefined

  /** @throws BackdoorsError SYSTEM_CALL_FAILED, INVALID_ARGUMENT or OUT_OF_RANGE for a map that does not fit, MEMLOCK_LIMIT, VERBS_CALL_FAILED */
  constructor({ name, memory: path, map, writable, owner }: HostConfig, device: VerbsDevice, { nowMs, queuePairs, cache, log }: HostLenderOptions) {
    const { SharedMemory } = memoryAddon()
    this.name = name
    this.#owner = owner
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

  /**
   * Answers a peer's queue pairs; those that it had before are destroyed.
   * @param signal aborted when the peer's connection is over
   * @throws BackdoorsError QP_TRANSITION, VERBS_CALL_FAILED, CLOSED
   */
  async lend(peer: string, endpoints: EndpointPair, signal: AbortSignal): Promise<HostLoan> {
    const state = await this.look()
    // Looking may take long; what is lent to a peer that has left would never be taken back.
    if (signal.aborted) throw new BackdoorsError('CLOSED', `the connection of ${peer} is over`, { peer })
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
      const image = await this.#kernel()
      if (image) await this.#lookForRegion(image)
    } catch (error) {
      if (!isBackdoorsError(error)) throw error
      this.#log.debug({ host: this.name, err: error }, 'no region was found')
    }
    return this.#state
  }

  async #lookForRegion(image: KernelImage): Promise<void> {
    const revisited = this.#region && (await revisitHostRegion(image, this.#region))
    const isTime = this.#nowMs() - this.#searchedMs >= (revisited ? searchAnywayMs : searchAgainMs)
    const region = (isTime ? await this.#search(image) : undefined) ?? revisited
    if (region) this.#lendControl(region)
  }

  async #search(image: KernelImage): Promise<HostRegion | undefined> {
    try {
      return (await findHostRegion(image, { node: this.name, owner: this.#owner })).region
    } catch (error) {
      if (!isBackdoorsError(error)) throw error
      this.#log.debug({ host: this.name, err: error }, 'the processes of the host could not be looked through')
      return undefined
    } finally {
      // A search may take long.
      this.#searchedMs = this.#nowMs()
    }
  }

  /** A region that was found stays lent until another is, or another kernel: the host may have died since, its tasks with it. */
  #lendControl(region: HostRegion): void {
    const known = this.#region
    if (known && hasSamePages(known, region) && known.header.incarnation === region.header.incarnation) {
      // It may be another process that maps it now.
      this.#region = region
      return
    }
    const { boot, image } = this.#known as KnownKernel
    const first = control.offset / pageBytes
    const frames = [...region.pages.subarray(first, first + control.bytes / pageBytes)]
    this.#lender.setControl(frames.flatMap((physical) => this.#physical.locate({ physical, length: pageBytes }) ?? []))
    const incarnation = region.header.incarnation.toString(16)
    const version = digestOf(boot, incarnation, region.pages.join())
    this.#log.info({ host: this.name, incarnation, frames }, 'the control page of the host is lent for compare-and-swap')
    this.#region = region
    this.#state = { region: incarnation, notes: [image.notePhysical], version }
  }

  /** The kernel that the host runs now, or ran last. */
  async #kernel(): Promise<KernelImage | undefined> {
    const known = this.#known
    if (known) {
      // Its page tables change while it lives.
      const image = known.image.over(this.#physical)
      if ((await image.isCurrent()) && (await readBootIdentity(image)) === known.boot && !(await this.#hasSuccessor(known, image))) return image
      if (this.#known === known) this.#forget()
    }
    if (this.#nowMs() - this.#learnedMs < searchAgainMs) return undefined
    return await this.#learn()
  }

  /** The kernel that was known is no more: nothing of the memory is what it was. */
  #forget(): void {
    this.#log.warn({ host: this.name }, 'the host runs another kernel; what was lent for compare-and-swap is taken back')
    this.#known = undefined
    this.#region = undefined
    this.#lender.setControl([])
    this.#state = { ...nothing, version: digestOf('forgotten', String(this.#nowMs())) }
  }

  /** The kernel whose clock moves; where none does (the host has died), the first that is found. */
  async #learn(): Promise<KernelImage | undefined> {
    const still: KernelImage[] = []
    const accept = async (image: KernelImage): Promise<boolean> => (await this.#moves(image)) || (still.push(image), false)
    try {
      const image = await KernelImage.learn({ physical: this.#physical, hints: this.#state.notes, cache: this.#cache, accept }).catch((error: unknown) => {
        if (still[0]) return still[0]
        throw error
      })
      const boot = await readBootIdentity(image)
      this.#known = { image, boot, jiffies: await image.variable('jiffies_64'), movedMs: this.#nowMs(), askedMs: this.#nowMs(), askEveryMs: otherEveryMs }
      this.#state = { region: null, notes: [image.notePhysical], version: digestOf(boot) }
      this.#log.info({ host: this.name, kernel: image.note.osRelease, symbols: image.symbols.size }, 'the host\'s kernel has been learned')
      return image
    } finally {
      this.#learnedMs = this.#nowMs()
    }
  }

  async #moves(image: KernelImage): Promise<boolean> {
    const before = await image.variable('jiffies_64')
    for (const startMs = this.#nowMs(); this.#nowMs() - startMs < moveWithinMs;) {
      await sleep(20)
      if ((await image.variable('jiffies_64')) !== before) return true
    }
    return false
  }

  /** A host that was started anew may leave its last kernel where it was, whole but for its clock. */
  async #hasSuccessor(known: KnownKernel, image: KernelImage): Promise<boolean> {
    const jiffies = await image.variable('jiffies_64')
    const nowMs = this.#nowMs()
    if (jiffies !== known.jiffies) [known.jiffies, known.movedMs] = [jiffies, nowMs]
    if (nowMs - known.movedMs < stillForMs || nowMs - known.askedMs < known.askEveryMs) return false
    known.askedMs = nowMs
    known.askEveryMs = Math.min(2 * known.askEveryMs, otherAtLeastEveryMs)
    const accept = async (other: KernelImage): Promise<boolean> => (await readBootIdentity(other)) !== known.boot && (await this.#moves(other))
    return await KernelImage.learn({ physical: this.#physical, cache: this.#cache, accept }).then(() => true, (error: unknown) => {
      if (isBackdoorsError(error)) return false
      throw error
    })
  }
}

/** A kernel, and what tells whether it is still this one, and alive. */
interface KnownKernel {
  readonly image: KernelImage
  readonly boot: string
  jiffies: bigint
  /** When its clock was last seen to move, and when another kernel was last looked for. */
  movedMs: number
  askedMs: number
  askEveryMs: number
}

const nothing: HostState = { region: null, notes: [], version: '' }

const digestOf = (...parts: readonly string[]): string => createHash('sha256').update(parts.join('/')).digest('hex').slice(0, 32)
