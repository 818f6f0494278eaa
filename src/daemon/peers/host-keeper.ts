/**
 * Keeps a link to a host whose whole memory a peer lends: its kernel learned and its region found while it is healthy, with
 * queue pairs of its own, so that nothing of the host is needed once it has failed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { EnrolledConnection } from '../../fabric/enrollment/index.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { VerbsConnector } from '../../fabric/verbs/connector.js'
import type { VerbsDevice } from '../../fabric/verbs/device.js'
import { readBootIdentity } from '../../kernel/boot-identity.js'
import { findHostRegion, type HostRegion } from '../../kernel/host-region.js'
import { KernelImage } from '../../kernel/kernel-image.js'
import type { SymbolCache } from '../../kernel/kernel-symbols.js'
import { PhysicalMemory } from '../../kernel/physical-memory.js'
import type { DaemonConfig } from '../config.js'
import { hostRegionAnswer, hostRegionMethod, lendHostAnswer, lendHostMethod, lendHostRequest, parseMessage, type HostLoan } from './host-messages.js'
import { toWire } from '../../fabric/enrollment/messages.js'
import type { ControlConnection } from '../../monitor/verdict.js'
import type { PeerHandlers } from './peer-fabric.js'
import { regionAtRecovery, scattered } from './region-at-recovery.js'
import { answers, VerbsLink } from './verbs-link.js'
import type { VerbsKeeper } from './verbs-keeper.js'

export interface HostKeeperOptions {
  /** The host. */
  readonly peer: string
  /** The user that its daemon runs as. */
  readonly owner: number
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
/** How often the lender is asked whether the host is still as it was. */
const askEveryMs = 1000
/** A loan that could not be had, or used, is tried again after so long, doubled each time up to the limit. */
const firstRetryMs = 1000
const retryLimitMs = 30_000

/** One loan: queue pairs, kernel, and region if there is one. */
interface Borrowed {
  readonly sampling: RemoteMemory
  readonly recovery: RemoteMemory
  readonly image: KernelImage
  readonly region: HostRegion | undefined
  readonly boot: string
  /** As the lender has it. */
  readonly version: string
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
  /** The loan is to be made anew, though the lender sees no change. */
  #stale = false
  readonly #closing = new AbortController()
  readonly #unlisten: () => void

  constructor(options: HostKeeperOptions) {
    this.#options = options
    this.#unlisten = options.via.listen({
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
    this.#unlisten()
    this.#closing.abort()
    await this.#running
    await this.#forget()
  }

  #isCurrent(connection: EnrolledConnection): boolean {
    return this.#connection === connection && this.#options.via.connection === connection && !this.#closing.signal.aborted
  }

  /** For as long as the connection stands: a loan, and a new one whenever the host is not as it was. */
  async #serve(connection: EnrolledConnection): Promise<void> {
    let retryMs = firstRetryMs
    while (this.#isCurrent(connection)) {
      try {
        const borrowed = await this.#borrow(connection)
        await this.#take(borrowed, connection)
        retryMs = firstRetryMs
        await this.#untilChanged(connection, borrowed.version)
      } catch (error) {
        if (!this.#isCurrent(connection)) return
        this.#options.handlers.onTrouble(error)
        await this.#pause(retryMs)
        retryMs = Math.min(2 * retryMs, retryLimitMs)
      }
    }
  }

  /** Ends early when this keeper is closed. */
  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined)
  }

  /** Asks the lender; a keeper that is closed does not wait for the answer. */
  async #ask(connection: EnrolledConnection, method: string, body: unknown): Promise<unknown> {
    const { signal } = this.#closing
    return await new Promise((resolve, reject) => {
      const giveUp = (): void => reject(new BackdoorsError('CLOSED', `${this.#options.peer} is not watched any more`, { peer: this.#options.peer }))
      if (signal.aborted) giveUp()
      signal.addEventListener('abort', giveUp, { once: true })
      connection.request(method, body, lendTimeoutMs).then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
    })
  }

  async #borrow(connection: EnrolledConnection): Promise<Borrowed> {
    const { peer, device, verbs: { queuePairs, timeoutMs } } = this.#options
    const connector = new VerbsConnector({ device, peer, queuePairs, timeoutMs })
    let loan: HostLoan
    try {
      const answer = await this.#ask(connection, lendHostMethod, toWire(lendHostRequest, { host: peer, endpoints: connector.endpoints }))
      loan = parseMessage(lendHostAnswer, answer, connection.peer)
    } catch (error) {
      connector.close()
      throw error
    }
    const { sampling, recovery } = connector.connect(loan.endpoints, loan.windows)
    try {
      const image = await this.#learned(new PhysicalMemory(sampling, loan.map), loan.notes)
      const region = loan.region === null ? undefined : await this.#regionIn(image, loan.region)
      return { sampling, recovery, image, region, boot: await readBootIdentity(image), version: loan.version }
    } catch (error) {
      await Promise.all([sampling.close(), recovery.close()])
      throw error
    }
  }

  /** A kernel that is known already, and still there, has nothing new to tell. */
  async #learned(physical: PhysicalMemory, hints: readonly number[]): Promise<KernelImage> {
    const known = this.#image?.over(physical)
    if (known && hints.includes(known.notePhysical) && (await known.isCurrent())) return known
    const { cache } = this.#options
    this.#image = await KernelImage.learn({ physical, hints, cache })
    return this.#image
  }

  async #take(borrowed: Borrowed, connection: EnrolledConnection): Promise<void> {
    const { handlers, log, peer } = this.#options
    const { image, region, sampling, recovery } = borrowed
    let link: VerbsLink | undefined
    try {
      link = region && this.#linkTo({ ...borrowed, region }, connection)
    } catch (error) {
      await Promise.all([sampling.close(), recovery.close()])
      throw error
    }
    await this.#forget()
    log.info({ host: peer, kernel: image.note.osRelease, symbols: image.symbols.size, region: region?.header.incarnation.toString(16), cost: image.physical.cost }, 'the whole memory of the host is read')
    handlers.onMachine?.({ image, memory: sampling, hasRegion: link !== undefined, control: (knownForUs) => this.#lost ?? answers(connection, knownForUs) })
    this.#link = link
    if (link) handlers.onLink(link)
    else this.#unlinked = borrowed
  }

  #linkTo(borrowed: Borrowed & { readonly region: HostRegion }, connection: EnrolledConnection): VerbsLink {
    const { image, region, sampling, recovery } = borrowed
    return new VerbsLink({
      header: region.header,
      sampling: scattered(sampling, image.physical, region),
      recovery: scattered(recovery, image.physical, region),
      connection,
      close: async () => void (await Promise.all([sampling.close(), recovery.close()])),
      // The connection serves other hosts of the same lender, too.
      renew: () => (this.#stale = true),
      forRecovery: () => this.#lookAgain(borrowed),
      kernel: () => image.over(new PhysicalMemory(recovery, image.physical.spans)),
    })
  }

  /** @throws BackdoorsError MEMORY_LOST where the host was started anew, or its region is elsewhere: it is borrowed anew then; what reading throws */
  async #lookAgain(borrowed: Borrowed & { readonly region: HostRegion }): Promise<RemoteMemory> {
    const { peer, log } = this.#options
    try {
      return await regionAtRecovery({ ...borrowed, peer, log })
    } catch (error) {
      if (isBackdoorsError(error, 'MEMORY_LOST')) this.#stale = true
      throw error
    }
  }

  /** @throws BackdoorsError REGION_NOT_FOUND where the lender sees a region that this node does not */
  async #regionIn(image: KernelImage, incarnation: string): Promise<HostRegion> {
    const { peer, owner } = this.#options
    const { region, faults } = await findHostRegion(image, { node: peer, owner })
    if (region?.header.incarnation.toString(16) === incarnation) return region
    throw new BackdoorsError('REGION_NOT_FOUND', `The region ${incarnation} of ${peer} is not found in its memory: ${faults[0]?.message ?? `there is ${region ? 'another' : 'none'}`}`, { peer })
  }

  /** Returns when the host is not as it was by this version, when the link is to be renewed, or the connection is over. */
  async #untilChanged(connection: EnrolledConnection, version: string): Promise<void> {
    this.#stale = false
    while (this.#isCurrent(connection) && !this.#stale) {
      await this.#pause(askEveryMs)
      if (!this.#isCurrent(connection) || this.#stale) return
      try {
        const answer = await this.#ask(connection, hostRegionMethod, { host: this.#options.peer })
        if (parseMessage(hostRegionAnswer, answer, connection.peer).version !== version) return
      } catch (error) {
        // What was borrowed stands, whatever became of the question.
        this.#options.log.debug({ host: this.#options.peer, err: error }, 'the lender does not say whether the host is as it was')
      }
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
