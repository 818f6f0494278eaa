/**
 * The clients' connections of a failed host, which go on here: read out of its dead kernel, made sockets of on this machine before the
 * address is here, and given to the servers that continue their ports.
 */
import type { Logger } from 'pino'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { ConnectionReader, type ExtractedConnection, type Extraction, type SkippedConnection, type WantedConnections } from '../../kernel/connections/index.js'
import { readPanicState } from '../../kernel/views/panic-state.js'
import { parseInterfaceAddress } from '../../recovery/addresses/interface-address.js'
import type { NetworkAddon } from '../../native/network.js'
import { connectionName, type ResetReason, type TcpConnection } from '../../recovery/tcp/connection.js'
import { livingConnections, livingName } from '../../recovery/tcp/living-connections.js'
import { abandonConnections, activateConnections, addressesOfInterfaces, hintResend, resendSent, resetOthers, restoreConnections, type RefusedConnection, type RestoredSocket } from '../../recovery/tcp/restore.js'
import { unmapped } from '../../recovery/tcp/valid-connection.js'
import type { ConnectionOutcome } from '../../servers/restored-connection.js'
import type { AddressConfig } from '../addresses/addresses-config.js'
import type { DaemonTime } from '../daemon-time.js'
import type { BoxGeneration } from '../offered-sessions.js'
import type { PeerLink } from '../peers/peer-fabric.js'
import { EarlierRuns } from './earlier-runs.js'
import { Giving, type ContinuingServers } from './giving.js'
import { Outcomes, type ConnectionsReport } from './report.js'

/** A kernel whose counters still move is read again so often at most. */
const mostReadings = 3
const rehearsals = 20
const rehearsalEveryMs = 100
/** What of a dead kernel is asked here; tests have their own. */
export interface DeadKernels {
  readonly readerOf: (image: KernelImage) => Pick<ConnectionReader, 'read' | 'readAgain' | 'haveMoved'>
  readonly hasPanicked: (image: KernelImage) => Promise<boolean>
}

const thisMachine = { isLocal: addressesOfInterfaces, living: () => livingConnections() }

const deadKernels: DeadKernels = {
  readerOf: (image) => new ConnectionReader(image),
  hasPanicked: async (image) => (await readPanicState(image)).isPanicked,
}

export interface ConnectionsOptions {
  /** All that may come here. */
  readonly addresses: readonly AddressConfig[]
  readonly kernels?: DeadKernels
  readonly network: Pick<NetworkAddon, 'restoreConnections' | 'activateConnections' | 'resetConnection' | 'closeDescriptor' | 'hintResend' | 'resendSent' | 'askPeers'>
  /** Is a machine that may run on silenced by fencing from outside, and its recovery given up where that fails? */
  readonly isSilencedOutside: boolean
  readonly servers: ContinuingServers
  /** Are sessions still on their way to servers? Whoever goes on with a connection needs its own, and the application's. */
  readonly areSessionsUnderWay: () => boolean
  readonly onReport: (report: ConnectionsReport) => void
  /** Which addresses this machine has, and the names of its connections. Tests have their own. */
  readonly here?: { readonly isLocal: () => (address: Uint8Array) => boolean; readonly living: () => ReadonlySet<string> }
  readonly time: DaemonTime
  readonly log: Logger
}

export interface WhichGoOn {
  /** Only some of the addresses have come: the other connections are let go of, as by `abandon`. */
  readonly onlyHere?: boolean
  /** Somebody else speaks for these addresses: their connections end here. */
  readonly answered?: readonly AddressConfig[]
}

/** Connections that stand on this machine, silent until they go on. */
export interface Standing {
  /**
   * To be called when their addresses are here. The report comes when their servers have answered.
   * @returns when they live, and the dead kernel's memory is needed no more. Never rejects
   */
  goOn(which?: WhichGoOn): Promise<void>
  /** Lets go of them without a word to their clients: the recovery will be run again. */
  abandon(): void
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #kernels: DeadKernels
  readonly #readers = new WeakMap<KernelImage['types'], ReturnType<DeadKernels['readerOf']>>()
  readonly #giving: Giving
  readonly #running = new Set<Promise<void>>()
  readonly #earlier = new EarlierRuns()

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.#kernels = options.kernels ?? deadKernels
    this.#giving = new Giving(options)
  }

  /**
   * What can be worked out while a host is well: which members of which structures have to be read. Its connections are read some times
   * for nothing, too: what has run often is compiled by the time that it counts. Never rejects.
   */
  async prepare(image: KernelImage): Promise<void> {
    const { time } = this.#options
    try {
      const reader = this.#readerOf(image)
      for (let rehearsal = 0; rehearsal < rehearsals; rehearsal++) {
        await time.pause(rehearsalEveryMs)
        await reader.haveMoved(image, (await reader.read(image, wantedOf(this.#options.addresses))).connections)
      }
    } catch (error) {
      this.#options.log.warn({ host: image.peer, err: error }, 'connections to this host could not be continued: its kernel is unknown in what they need')
    }
  }

  /**
   * Makes sockets of all connections to these addresses. Never throws: sessions are recovered whatever becomes of connections.
   * @returns undefined where there is nothing to go on with
   */
  async restore({ header: { node, incarnation }, kernel }: Pick<PeerLink, 'header' | 'kernel'>, addresses: readonly AddressConfig[]): Promise<Standing | undefined> {
    const { log } = this.#options
    if (kernel === undefined || addresses.length === 0) return undefined
    try {
      const image = kernel()
      if (!(await this.#isStill(image))) {
        log.warn({ peer: node }, 'its connections are not continued: its kernel has not panicked and may run on, and no fencing from outside silences it')
        return undefined
      }
      return await this.#restore(node, incarnation.toString(16), image, addresses)
    } catch (error) {
      log.error({ peer: node, err: error }, 'the connections of this host could not be continued')
      return undefined
    }
  }

  /** A server's answer. */
  onContinued(server: BoxGeneration, outcomes: readonly ConnectionOutcome[]): void {
    this.#giving.onContinued(server, outcomes)
  }

  /** A server that gets connections is not there any more. */
  onServerGone(server: BoxGeneration): void {
    this.#giving.onGone(server)
  }

  /** Resolves when all that goes on has been told of; no descriptor is held here then. */
  async close(): Promise<void> {
    await Promise.all(this.#running)
    this.#giving.close()
  }

  #readerOf(image: KernelImage): ReturnType<DeadKernels['readerOf']> {
    const known = this.#readers.get(image.types)
    if (known) return known
    const reader = this.#kernels.readerOf(image)
    this.#readers.set(image.types, reader)
    return reader
  }

  /** A kernel that runs on would go on with its connections, too: two would speak for one. */
  async #isStill(image: KernelImage): Promise<boolean> {
    return this.#options.isSilencedOutside || (await this.#kernels.hasPanicked(image))
  }

  async #restore(peer: string, life: string, image: KernelImage, addresses: readonly AddressConfig[]): Promise<Standing | undefined> {
    const { network, servers, time, here = thisMachine } = this.#options
    const outcomes = new Outcomes()
    const marks = [time.nowUs()]
    const all = await this.#read(image, addresses)
    const isLocal = here.isLocal()
    const { connections, skipped } = this.#withoutKnown(peer, life, all, isLocal)
    const known = all.connections.length + all.skipped.length - connections.length - skipped.length
    if (connections.length + skipped.length === 0) return undefined
    this.#refuse(peer, outcomes, skipped)
    const served = connections.filter(({ local }) => servers.continuing(local.port) !== undefined)
    for (let i = served.length; i < connections.length; i++) outcomes.add('no-server')
    marks.push(time.nowUs())
    const { restored, refused } = restoreConnections({ network, connections: served, isLocal })
    this.#refuse(peer, outcomes, refused.map(withName))
    marks.push(time.nowUs())
    return {
      goOn: ({ onlyHere = false, answered = [] } = {}) => {
        const [ended, others] = split(restored, isAmong(answered))
        abandonConnections(ended)
        this.#refuse(peer, outcomes, ended.map((each) => ({ name: nameOf(each), reason: 'address-answered', why: 'another machine answers for its address' })))
        const [going, left] = onlyHere ? split(others, isHere(here.isLocal())) : [others, []]
        abandonConnections(left)
        // It is done again in full: there is nothing to tell of yet.
        if (onlyHere && going.length + ended.length === 0) return Promise.resolve()
        const again = new Set(left.map(nameOf))
        this.#earlier.add(peer, life, [...connections, ...skipped].map(({ name }) => name).filter((name) => !again.has(name)))
        marks.push(time.nowUs())
        const activated = this.#activate(peer, image, going, served, outcomes)
        const told = activated.then((live) => {
          this.#resetOthers(peer, [...connections, ...skipped], [...live, ...ended, ...left], here.isLocal())
          return live
        })
        this.#run(peer, told.then((live) => this.#giving.give(life, live, outcomes)).then(() => {
          marks.push(time.nowUs())
          const [read, restore, address, answer] = marks.slice(1).map((mark, i) => Math.round(mark - (marks[i] as number)) / 1000) as [number, number, number, number]
          this.#options.onReport({ peer, found: known + outcomes.total, known, ...outcomes.counts, ms: { read, restore, address, answer } })
        }))
        return activated.then(() => undefined, () => undefined)
      },
      abandon: () => abandonConnections(restored),
    }
  }

  /**
   * Less those that an earlier run of this recovery has settled: by what is remembered of it, or where this daemon was started anew meanwhile,
   * by what connections this machine has to these addresses already. They live, or have come to their end as connections do.
   */
  #withoutKnown(peer: string, life: string, { connections, skipped }: Extraction, isLocal: (address: Uint8Array) => boolean): Pick<Extraction, 'connections' | 'skipped'> {
    const told = this.#earlier.of(peer, life)
    const unknown = connections.filter(({ name }) => !told.has(name))
    const hasCome = ({ local }: Pick<TcpConnection, 'local'>): boolean => isLocal(unmapped(local).address)
    const living = unknown.some(hasCome) ? (this.#options.here ?? thisMachine).living() : new Set<string>()
    const isLiving = (connection: TcpConnection): boolean => hasCome(connection) && living.has(livingName(connection))
    this.#earlier.add(peer, life, unknown.filter(isLiving).map(({ name }) => name))
    return { connections: unknown.filter((connection) => !isLiving(connection)), skipped: skipped.filter(({ name }) => !told.has(name)) }
  }

  #run(peer: string, work: Promise<void>): void {
    const run = work.catch((error: unknown) => this.#options.log.error({ peer, err: error }, 'the connections of this host could not be continued'))
    this.#running.add(run)
    void run.finally(() => this.#running.delete(run))
  }

  #refuse(peer: string, outcomes: Outcomes, refused: readonly { readonly name: string; readonly reason: ResetReason; readonly why: string }[]): void {
    for (const { name, reason, why } of refused) {
      outcomes.add(reason)
      this.#options.log.warn({ peer, connection: name, reason, why }, 'a connection is not continued')
    }
  }

  /** The panic is told before the other processors have stopped: what moved while it was read is read again, and what moves on is left. */
  async #read(image: KernelImage, addresses: readonly AddressConfig[]): Promise<Extraction> {
    const reader = this.#readerOf(image)
    const found = await reader.read(image, wantedOf(addresses))
    let { connections, skipped } = found
    for (let readings = 1; readings <= mostReadings; readings++) {
      const moved = await reader.haveMoved(image, connections)
      if (moved.length === 0) break
      const again = readings < mostReadings ? await reader.readAgain(image, moved) : { connections: [], skipped: moved.map(stillMoving) }
      connections = [...connections.filter((connection) => !moved.includes(connection)), ...again.connections]
      skipped = [...skipped, ...again.skipped]
    }
    return { connections, skipped, faults: found.faults }
  }

  /** Clients of what is not continued may wait for an answer for ever. Of addresses that are elsewhere nobody here may speak. */
  #resetOthers(peer: string, found: readonly Pick<ExtractedConnection, 'name' | 'local' | 'remote'>[], kept: readonly RestoredSocket[], isLocal: (address: Uint8Array) => boolean): void {
    const names = new Set(kept.map(nameOf))
    const others = found.filter(({ name, local }) => !names.has(name) && isLocal(unmapped(local).address))
    const failed = others.length === 0 ? undefined : resetOthers(this.#options.network, others)
    if (failed) this.#options.log.warn({ peer, err: failed }, 'clients whose connections are not continued hear of it when they send something')
  }

  /** Lets those live that are still as the dead kernel had them. */
  async #activate(peer: string, image: KernelImage, going: readonly RestoredSocket[], extracted: readonly ExtractedConnection[], outcomes: Outcomes): Promise<readonly RestoredSocket[]> {
    const { network, log } = this.#options
    const { activated, refused } = activateConnections(network, await this.#letMovedGo(peer, image, going, extracted, outcomes))
    this.#refuse(peer, outcomes, refused.map(withName))
    // What was on its way when the machine failed is lost, in both directions: nobody has to wait for a time-out.
    for (const failed of [resendSent(network, activated), hintResend(network, activated)]) if (failed) log.warn({ peer, err: failed }, 'what was lost on its way is sent again later')
    return activated
  }

  /**
   * The last look before they live: a kernel that has gone on with a connection meanwhile speaks for it, and nobody else may. Of what cannot
   * be read any more, nobody knows.
   * @returns those that have not moved
   */
  async #letMovedGo(peer: string, image: KernelImage, going: readonly RestoredSocket[], extracted: readonly ExtractedConnection[], outcomes: Outcomes): Promise<readonly RestoredSocket[]> {
    const names = new Set(going.map(nameOf))
    const asked = extracted.filter(({ name }) => names.has(name))
    if (asked.length === 0) return []
    let refusals: readonly SkippedConnection[]
    try {
      refusals = (await this.#readerOf(image).haveMoved(image, asked)).map(stillMoving)
    } catch (error) {
      refusals = asked.map((connection) => ({ ...connection, reason: 'unreadable', why: `it could not be read once more: ${String(error)}` }))
    }
    this.#refuse(peer, outcomes, refusals)
    const moved = new Set(refusals.map(({ name }) => name))
    const [left, still] = split(going, (each) => moved.has(nameOf(each)))
    abandonConnections(left)
    return still
  }
}

const wantedOf = (addresses: readonly AddressConfig[]): WantedConnections => ({ addresses: addresses.flatMap(({ address }) => parseInterfaceAddress(address)?.bytes ?? []) })

const nameOf = ({ connection }: RestoredSocket): string => connectionName(connection)

const withName = ({ connection, reason, error }: RefusedConnection): { name: string; reason: ResetReason; why: string } => ({ name: connectionName(connection), reason, why: error.message })

const stillMoving = ({ local, remote, name }: ExtractedConnection): SkippedConnection => ({ local, remote, name, reason: 'in-use', why: 'the kernel still goes on with it' })

const isHere = (isLocal: (address: Uint8Array) => boolean) => ({ connection }: RestoredSocket): boolean => isLocal(unmapped(connection.local).address)

function isAmong(addresses: readonly AddressConfig[]): (socket: RestoredSocket) => boolean {
  const among = new Set(wantedOf(addresses).addresses.map((address) => address.join()))
  return isHere((address) => among.has(address.join()))
}

/** @returns those of which it holds, and the others */
function split<T>(values: readonly T[], holds: (value: T) => boolean): [T[], T[]] {
  const held = new Set(values.filter(holds))
  return [[...held], values.filter((value) => !held.has(value))]
}
