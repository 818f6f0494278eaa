/**
 * Keeps a link to a host whose whole memory a peer lends: its kernel learned and its region found while it is healthy, with
 * queue pairs of its own, so that nothing of the host is needed once it has failed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import type { EnrolledConnection } from '../fabric/enrollment/index.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { ScatteredMemory } from '../fabric/scattered-memory.js'
import { VerbsConnector } from '../fabric/verbs/connector.js'
import type { VerbsDevice } from '../fabric/verbs/device.js'
import { findHostRegion, type HostRegion } from '../kernel/host-region.js'
import { KernelImage } from '../kernel/kernel-image.js'
import type { SymbolCache } from '../kernel/kernel-symbols.js'
import { pageBytes } from '../kernel/page-table-format.js'
import { PhysicalMemory, type RamSpan } from '../kernel/physical-memory.js'
import type { DaemonConfig } from './config.js'
import { hostRegionAnswer, hostRegionMethod, lendHostAnswer, lendHostMethod, lendHostRequest, parseMessage, type HostLoan } from './host-messages.js'
import { toWire } from '../fabric/enrollment/messages.js'
import type { ControlConnection } from '../monitor/verdict.js'
import type { PeerHandlers } from './peer-fabric.js'
import { answers, VerbsLink } from './verbs-link.js'
import type { VerbsKeeper } from './verbs-keeper.js'

export interface HostKeeperOptions {
  /** The host. */
  readonly peer: string
  /** Keeps the connection to the peer that lends it. */
  readonly via: VerbsKeeper
  readonly device: VerbsDevice
  readonly verbs: DaemonConfig['verbs']
  readonly handlers: PeerHandlers
  readonly cache: SymbolCache
  readonly log: Logger
}

/** The lender may first have to search all of the host's memory for its kernel. */
const lendTimeoutMs = 180_000
/** How often the lender is asked whether the host has another region, and how soon a failed try is made again. */
const askEveryMs = 1000

/** One loan: queue pairs, kernel, and region if there is one. */
interface Borrowed {
  readonly sampling: RemoteMemory
  readonly recovery: RemoteMemory
  readonly image: KernelImage
  readonly region: HostRegion | undefined
}

export class HostKeeper {
  readonly #options: HostKeeperOptions
  #connection: EnrolledConnection | undefined
  #running: Promise<void> = Promise.resolve()
  #link: VerbsLink | undefined
  #lost: ControlConnection | undefined
  /** Of a host without a region, which no link closes. */
  #unlinked: Borrowed | undefined
  #image: KernelImage | undefined
  readonly #closing = new AbortController()

  constructor(options: HostKeeperOptions) {
    this.#options = options
    options.via.listen({
      onConnection: (connection) => {
        this.#connection = connection
        this.#lost = undefined
        this.#running = this.#running.then(() => this.#serve(connection)).catch((error: unknown) => options.log.error({ host: options.peer, err: error }, 'the host is not looked after any more'))
      },
      onLost: (control) => {
        this.#lost = control
        this.#link?.lost(control)
      },
      onTrouble: (error) => options.handlers.onTrouble(error),
    })
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#running
    await this.#forget()
  }

  #isCurrent(connection: EnrolledConnection): boolean {
    return this.#connection === connection && this.#options.via.connection === connection && !this.#closing.signal.aborted
  }

  /** For as long as the connection stands: a loan, and a new one whenever the host has another region. */
  async #serve(connection: EnrolledConnection): Promise<void> {
    const { peer, handlers } = this.#options
    while (this.#isCurrent(connection)) {
      try {
        const borrowed = await this.#borrow(connection)
        await this.#take(borrowed, connection)
        await this.#untilChanged(connection, borrowed.region)
      } catch (error) {
        if (this.#isCurrent(connection)) handlers.onTrouble(error)
      }
      await sleep(askEveryMs, undefined, { signal: this.#closing.signal, ref: false }).catch(() => peer)
    }
  }

  async #borrow(connection: EnrolledConnection): Promise<Borrowed> {
    const { peer, device, verbs: { queuePairs, timeoutMs } } = this.#options
    const connector = new VerbsConnector({ device, peer, queuePairs, timeoutMs })
    let loan: HostLoan
    try {
      const answer = await connection.request(lendHostMethod, toWire(lendHostRequest, { host: peer, endpoints: connector.endpoints }), lendTimeoutMs)
      loan = parseMessage(lendHostAnswer, answer, connection.peer)
    } catch (error) {
      connector.close()
      throw error
    }
    const { sampling, recovery } = connector.connect(loan.endpoints, loan.windows)
    try {
      const image = await this.#learned(new PhysicalMemory(sampling, loan.map), loan.notes)
      const region = loan.region === null ? undefined : await regionOf(image, peer, loan.region)
      return { sampling, recovery, image, region }
    } catch (error) {
      await Promise.all([sampling.close(), recovery.close()])
      throw error
    }
  }

  /** A kernel that is known already, and still there, has nothing new to tell. */
  async #learned(physical: PhysicalMemory, hints: readonly number[]): Promise<KernelImage> {
    const known = this.#image?.over(physical)
    if (known && (await known.isCurrent())) return known
    const { cache } = this.#options
    this.#image = await KernelImage.learn({ physical, hints, cache })
    return this.#image
  }

  async #take(borrowed: Borrowed, connection: EnrolledConnection): Promise<void> {
    const { handlers, log, peer } = this.#options
    await this.#forget()
    const { image, region, sampling } = borrowed
    log.info({ host: peer, kernel: image.note.osRelease, symbols: image.symbols.size, region: region?.header.incarnation.toString(16), cost: image.physical.cost }, 'the whole memory of the host is read')
    handlers.onMachine?.({ image, memory: sampling, control: (knownForUs) => this.#lost ?? answers(connection, knownForUs) })
    if (region === undefined) this.#unlinked = borrowed
    else this.#link = this.#linkTo({ ...borrowed, region }, connection)
    if (this.#link) handlers.onLink(this.#link)
  }

  #linkTo({ image, region, sampling, recovery }: Borrowed & { readonly region: HostRegion }, connection: EnrolledConnection): VerbsLink {
    const { spans } = image.physical
    return new VerbsLink({
      header: region.header,
      sampling: scattered(sampling, image.physical, region),
      recovery: scattered(recovery, image.physical, region),
      connection,
      close: async () => void (await Promise.all([sampling.close(), recovery.close()])),
      forRecovery: () => this.#lookAgain(image, recovery, spans, region),
    })
  }

  /**
   * The region as the dead kernel has it: pages may have moved since it was found. What can no longer be followed there is
   * read where it was.
   */
  async #lookAgain(image: KernelImage, recovery: RemoteMemory, spans: readonly RamSpan[], known: HostRegion): Promise<RemoteMemory> {
    const { peer, log } = this.#options
    const physical = new PhysicalMemory(recovery, spans)
    try {
      const { region, faults } = await findHostRegion(image.over(physical), { node: peer })
      if (region?.header.incarnation === known.header.incarnation) return scattered(recovery, physical, region)
      log.warn({ host: peer, faults: faults.map(({ message }) => message) }, 'the region is not found in the dead kernel any more; it is read where it was')
    } catch (error) {
      log.warn({ host: peer, err: error }, 'the dead kernel leads nowhere; its region is read where it was')
    }
    return scattered(recovery, physical, known)
  }

  /** Returns when the host has another region than this one, or the connection is over. */
  async #untilChanged(connection: EnrolledConnection, region: HostRegion | undefined): Promise<void> {
    const known = region?.header.incarnation.toString(16) ?? null
    while (this.#isCurrent(connection)) {
      await sleep(askEveryMs, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined)
      if (!this.#isCurrent(connection)) return
      const answer = await connection.request(hostRegionMethod, { host: this.#options.peer }, lendTimeoutMs)
      if (parseMessage(hostRegionAnswer, answer, connection.peer).region !== known) return
    }
  }

  /** The link, if there was one, is its watcher's to close. */
  async #forget(): Promise<void> {
    const unlinked = this.#unlinked
    this.#unlinked = undefined
    this.#link = undefined
    await Promise.all([unlinked?.sampling.close(), unlinked?.recovery.close()])
  }
}

/** @throws BackdoorsError REGION_NOT_FOUND where the lender sees a region that this node does not */
async function regionOf(image: KernelImage, node: string, incarnation: string): Promise<HostRegion> {
  const { region, faults } = await findHostRegion(image, { node })
  if (region?.header.incarnation.toString(16) === incarnation) return region
  throw new BackdoorsError('REGION_NOT_FOUND', `The region ${incarnation} of ${node} is not found in its memory: ${faults[0]?.message ?? `there is ${region ? 'another' : 'none'}`}`, { peer: node })
}

/** @throws BackdoorsError OUT_OF_RANGE where a page is not lent */
function scattered(base: RemoteMemory, physical: PhysicalMemory, { header, pages }: HostRegion): ScatteredMemory {
  const offsets = pages.map((page) => {
    const [found] = physical.locate({ physical: page, length: pageBytes }) ?? []
    if (found?.length === pageBytes) return found.offset
    throw new BackdoorsError('OUT_OF_RANGE', `A page of the region of ${header.node}, at physical address 0x${page.toString(16)}, is not lent.`, { peer: header.node, offset: page, length: pageBytes })
  })
  return new ScatteredMemory({ base, pages: offsets, pageBytes, length: header.plan.regionBytes })
}
