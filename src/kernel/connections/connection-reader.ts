/** Takes TCP connections out of a dead kernel: as many as it has, in about as many batches as for one. */
import { BackdoorsError } from '../../errors.js'
import { connectionName } from '../../recovery/tcp/connection.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject } from '../kernel-object.js'
import { readPageFrames, type PageFrames } from '../page-frames.js'
import { TcpTables } from '../views/socket-tables.js'
import { attempt, type Faults } from '../walks.js'
import { extract, type Job } from './extract.js'
import { countersOf, established, type ExtractedConnection, type SkippedConnection } from './extracted-connection.js'
import { layoutOf, type ConnectionLayout } from './layout.js'
import { endpointsOf, Wanted, type WantedConnections } from './wanted.js'

export interface Extraction {
  readonly connections: readonly ExtractedConnection[]
  /** Sockets that listen are not among them. */
  readonly skipped: readonly SkippedConnection[]
  /** What could not be read, and may have been a wanted connection or a way to some. */
  readonly faults: Faults
}

/** Sockets that are read whole at once, wanted or not; of more, the start is read first. */
const mostWhole = 4096
/** What a kernel that is still stopping may make of a connection that is sound a moment later. */
const doubtful: ReadonlySet<string> = new Set(['garbage', 'in-use', 'unreadable'])

/**
 * @example
 * const reader = new ConnectionReader(image) // while the host is healthy
 * const { connections, skipped } = await reader.read(image, { addresses: [Uint8Array.of(10, 0, 0, 9)], ports: [80] })
 * const moved = await reader.haveMoved(image, connections)
 */
export class ConnectionReader {
  readonly #layout: ConnectionLayout
  readonly #tables: TcpTables
  #frames: PageFrames | undefined

  /** @throws BackdoorsError KERNEL_UNSUPPORTED */
  constructor(image: KernelImage) {
    this.#layout = layoutOf(image)
    this.#tables = new TcpTables(image)
  }

  /**
   * All TCP connections of these addresses and ports. Why one cannot be taken is said in `skipped`, and costs the others nothing.
   * A kernel may still be stopping: what did not add up is read once more.
   * @param image the kernel that the reader was made for, by whichever way to its memory
   * @throws what reading throws but NOT_MAPPED
   */
  async read(image: KernelImage, wanted: WantedConnections): Promise<Extraction> {
    const faults: Faults = []
    const filter = new Wanted(wanted, this.#layout.sockets)
    const options = { listening: false, mostWhole }
    const [found] = await Promise.all([attempt(faults, () => this.#tables.read(image, this.#layout.sockets, faults, options)), this.#learnFrames(image, faults)])
    const jobs: Job[] = []
    for (const socket of found ?? []) {
      const endpoints = filter.endpointsOf(socket)
      if (endpoints === 'unknown') faults.push(strangerAt(image, socket.address))
      else if (endpoints) jobs.push({ ...endpoints, address: socket.address, socket })
    }
    await this.#completeSockets(image, jobs)
    await this.#extract(image, jobs)
    const again = jobs.filter(({ outcome }) => outcome !== undefined && 'reason' in outcome && doubtful.has(outcome.reason))
    if (again.length > 0) await this.#extractAnew(image, again)
    return extractionOf(jobs, faults)
  }

  /**
   * The same connections as they are now, without a look at the hash tables.
   * @throws what reading throws but NOT_MAPPED
   */
  async readAgain(image: KernelImage, extracted: readonly ExtractedConnection[]): Promise<Extraction> {
    const faults: Faults = []
    await this.#learnFrames(image, faults)
    const unread = new BackdoorsError('NOT_MAPPED', 'not read yet')
    const jobs = extracted.map(({ local, remote, socket }): Job => ({ local, remote, address: socket, socket: unread }))
    await this.#extractAnew(image, jobs)
    return extractionOf(jobs, faults)
  }

  /**
   * Which connections are not any more as they were extracted, or cannot be read: a kernel says that it panics before its other
   * CPUs stop. One batch.
   * @throws what reading throws but NOT_MAPPED
   */
  async haveMoved(image: KernelImage, extracted: readonly ExtractedConnection[]): Promise<ExtractedConnection[]> {
    const { selection, numbers } = this.#layout.counters
    const read = await image.readObjects(selection, extracted.map(({ socket }) => socket))
    return extracted.filter(({ counters }, i) => {
      const now = read[i]
      return !(now instanceof KernelObject) || countersOf(numbers.of(now)).some((counter, at) => counter !== counters[at])
    })
  }

  async #extract(image: KernelImage, jobs: readonly Job[]): Promise<void> {
    await extract({ image, layout: this.#layout, frames: this.#frames }, jobs)
  }

  async #learnFrames(image: KernelImage, faults: Faults): Promise<void> {
    this.#frames ??= await attempt(faults, () => readPageFrames(image))
  }

  /** Those of which only the start was read: the end of the RAM may be behind it, or there were very many. */
  async #completeSockets(image: KernelImage, jobs: readonly Job[]): Promise<void> {
    const { whole, common } = this.#layout.sockets
    const short = jobs.filter(({ socket }) => socket instanceof KernelObject && socket.selection !== whole && socket.number(common.skc_state) === established)
    const read = await image.readObjects(whole, short.map(({ address }) => address))
    for (const [i, job] of short.entries()) job.socket = read[i] as KernelObject | BackdoorsError
  }

  async #extractAnew(image: KernelImage, jobs: readonly Job[]): Promise<void> {
    const { whole, common } = this.#layout.sockets
    const read = await image.readObjects(whole, jobs.map(({ address }) => address))
    for (const [i, job] of jobs.entries()) {
      delete job.outcome
      job.socket = read[i] as KernelObject | BackdoorsError
      const endpoints = job.socket instanceof KernelObject ? endpointsOf(job.socket, common) : job
      // Its memory may have become another socket's, or anything else.
      if (endpoints === undefined || connectionName(endpoints) !== connectionName(job)) job.outcome = { reason: 'not-established', why: 'it is gone' }
    }
    await this.#extract(image, jobs)
  }
}

const strangerAt = ({ peer }: KernelImage, address: bigint): BackdoorsError =>
  new BackdoorsError('KERNEL_DATA_CORRUPT', `What stands at 0x${address.toString(16)} of ${peer} is no socket of IPv4 or IPv6.`, { peer, address, field: 'sock_common.skc_family' })

function extractionOf(jobs: readonly Job[], faults: Faults): Extraction {
  const connections: ExtractedConnection[] = []
  const skipped: SkippedConnection[] = []
  for (const { local, remote, outcome } of jobs) {
    if (outcome === undefined) continue
    if ('reason' in outcome) skipped.push({ local, remote, name: connectionName({ local, remote }), ...outcome })
    else connections.push(outcome)
  }
  return { connections, skipped, faults }
}
