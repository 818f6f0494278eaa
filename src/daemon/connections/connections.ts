/**
 * The clients' connections of a failed host, which go on here: read out of its dead kernel, made sockets of on this machine before the
 * address is here, and given to the servers that continue their ports.
 */
import type { Logger } from 'pino'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { ConnectionReader, type Extraction, type WantedConnections } from '../../kernel/connections/index.js'
import { readPanicState } from '../../kernel/views/panic-state.js'
import { parseInterfaceAddress } from '../../recovery/addresses/interface-address.js'
import type { NetworkAddon } from '../../native/network.js'
import { connectionName, type ResetReason, type TcpConnection } from '../../recovery/tcp/connection.js'
import { livingConnections, livingName } from '../../recovery/tcp/living-connections.js'
import { abandonConnections, activateConnections, addressesOfInterfaces, hintResend, resendSent, restoreConnections, type RefusedConnection, type RestoredSocket } from '../../recovery/tcp/restore.js'
import { unmapped } from '../../recovery/tcp/valid-connection.js'
import type { ConnectionOutcome } from '../../servers/restored-connection.js'
import type { AddressConfig } from '../addresses/addresses-config.js'
import type { DaemonTime } from '../daemon-time.js'
import type { BoxGeneration } from '../offered-sessions.js'
import type { PeerLink } from '../peers/peer-fabric.js'
import { EarlierRuns } from './earlier-runs.js'
import { Outcomes, type ConnectionsReport } from './report.js'

/** A kernel whose counters still move is read again so often at most. */
const mostReadings = 3
/** Their sessions come over first: for so long at most, in milliseconds. */
const sessionsPatienceMs = 2000
const lookEveryMs = 2
const rehearsals = 20
const rehearsalEveryMs = 100
/** A server that says nothing for so long is not waited for, in milliseconds. */
const answerPatienceMs = 10_000

/** A connection that a server of this machine is to go on with. */
export interface Given {
  readonly name: string
  readonly life: string
  readonly port: number
  readonly read: number
  readonly written: number
  readonly unread: number
  readonly unacknowledged: number
  /** Whoever is given it takes the descriptor from it. */
  readonly socket: RestoredSocket
}

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
  readonly network: Pick<NetworkAddon, 'restoreConnections' | 'activateConnections' | 'resetConnection' | 'closeDescriptor' | 'hintResend' | 'resendSent'>
  /** Is a machine that may run on fenced from outside, and its recovery given up where that fails? */
  readonly isFencedOutside: boolean
  readonly servers: {
    /** The server that continues connections to this local port. */
    continuing(port: number): BoxGeneration | undefined
    /** Passes their descriptors, and closes them here. @returns whether the server is there to get them */
    give(server: BoxGeneration, connections: readonly Given[]): boolean
  }
  /** Are sessions still on their way to servers? Whoever goes on with a connection needs its own, and the application's. */
  readonly areSessionsUnderWay: () => boolean
  readonly onReport: (report: ConnectionsReport) => void
  /** Which addresses this machine has, and the names of its connections. Tests have their own. */
  readonly here?: { readonly isLocal: () => (address: Uint8Array) => boolean; readonly living: () => ReadonlySet<string> }
  readonly time: DaemonTime
  readonly log: Logger
}

/** Connections that stand on this machine, silent until they go on. */
export interface Standing {
  /**
   * To be called when their addresses are here. Returns at once; the report comes when their servers have answered.
   * @param onlyHere only some of the addresses have come: the other connections are let go of, as by `abandon`
   */
  goOn(which?: { readonly onlyHere: boolean }): void
  /** Lets go of them without a word to their clients: the recovery will be run again. */
  abandon(): void
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #kernels: DeadKernels
  readonly #readers = new WeakMap<KernelImage['types'], ReturnType<DeadKernels['readerOf']>>()
  readonly #answers = new Map<string, { readonly server: BoxGeneration; readonly resolve: (reset: ResetReason | undefined) => void }>()
  readonly #running = new Set<Promise<void>>()
  readonly #earlier = new EarlierRuns()

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.#kernels = options.kernels ?? deadKernels
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
        log.warn({ peer: node }, 'its connections are not continued: its kernel has not panicked and may run on, and no fencing from outside is required')
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
    for (const { name, reset } of outcomes) {
      const given = this.#answers.get(name)
      if (given?.server.box !== server.box || given.server.generation !== server.generation) continue
      this.#answers.delete(name)
      given.resolve(reset)
    }
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running)
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
    return this.#options.isFencedOutside || (await this.#kernels.hasPanicked(image))
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
      goOn: ({ onlyHere } = { onlyHere: false }) => {
        const going = onlyHere ? this.#letElsewhereGo(restored, here.isLocal()) : restored
        // It is done again in full: there is nothing to tell of yet.
        if (onlyHere && going.length === 0) return
        const left = new Set(restored.filter((each) => !going.includes(each)).map(nameOf))
        this.#earlier.add(peer, life, [...connections, ...skipped].map(({ name }) => name).filter((name) => !left.has(name)))
        marks.push(time.nowUs())
        this.#run(peer, this.#goOn(peer, life, going, outcomes).then(() => {
          marks.push(time.nowUs())
          const [read, restore, address, answer] = marks.slice(1).map((mark, i) => (mark - (marks[i] as number)) / 1000) as [number, number, number, number]
          this.#options.onReport({ peer, found: known + outcomes.total, known, ...outcomes.counts, ms: { read, restore, address, answer } })
        }))
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
    const isHere = ({ local }: Pick<TcpConnection, 'local'>): boolean => isLocal(unmapped(local).address)
    const living = unknown.some(isHere) ? (this.#options.here ?? thisMachine).living() : new Set<string>()
    const isLiving = (connection: TcpConnection): boolean => isHere(connection) && living.has(livingName(connection))
    this.#earlier.add(peer, life, unknown.filter(isLiving).map(({ name }) => name))
    return { connections: unknown.filter((connection) => !isLiving(connection)), skipped: skipped.filter(({ name }) => !told.has(name)) }
  }

  /** @returns those whose address has come */
  #letElsewhereGo(restored: readonly RestoredSocket[], isLocal: (address: Uint8Array) => boolean): readonly RestoredSocket[] {
    const isHere = ({ connection }: RestoredSocket): boolean => isLocal(unmapped(connection.local).address)
    abandonConnections(restored.filter((each) => !isHere(each)))
    return restored.filter(isHere)
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

  /** The panic is told before the other processors have stopped: what moved while it was read is read again. */
  async #read(image: KernelImage, addresses: readonly AddressConfig[]): Promise<Extraction> {
    const reader = this.#readerOf(image)
    const found = await reader.read(image, wantedOf(addresses))
    let { connections, skipped } = found
    for (let readings = 1; readings < mostReadings; readings++) {
      const moved = new Set(await reader.haveMoved(image, connections))
      if (moved.size === 0) break
      const again = await reader.readAgain(image, [...moved])
      connections = [...connections.filter((connection) => !moved.has(connection)), ...again.connections]
      skipped = [...skipped, ...again.skipped]
    }
    return { connections, skipped, faults: found.faults }
  }

  async #goOn(peer: string, life: string, restored: readonly RestoredSocket[], outcomes: Outcomes): Promise<void> {
    const { network, time, areSessionsUnderWay } = this.#options
    const { activated, refused } = activateConnections(network, restored)
    this.#refuse(peer, outcomes, refused.map(withName))
    // What was on its way when the machine failed is lost, in both directions: nobody has to wait for a time-out.
    for (const failed of [resendSent(network, activated), hintResend(network, activated)]) if (failed) this.#options.log.warn({ peer, err: failed }, 'what was lost on its way is sent again later')
    const untilUs = time.nowUs() + sessionsPatienceMs * 1000
    while (areSessionsUnderWay() && time.nowUs() < untilUs) await time.pause(lookEveryMs)
    await Promise.all([...groupBy(activated, ({ connection }) => connection.local.port)].flatMap(([port, group]) => this.#give(port, life, group, outcomes)))
  }

  #give(port: number, life: string, group: readonly RestoredSocket[], outcomes: Outcomes): Promise<void>[] {
    const server = this.#options.servers.continuing(port)
    if (server === undefined) {
      for (const each of group) this.#resetHere(each, outcomes)
      return []
    }
    const given = group.map((socket): Given => {
      const { connection: { local, remote, read, written, unread, unacknowledged } } = socket
      return { name: connectionName({ local, remote }), life, port, socket, read, written, unread: unread.length, unacknowledged: unacknowledged.length }
    })
    const answers = given.map(({ name }) => this.#answer(server, name, outcomes))
    if (!this.#options.servers.give(server, given)) {
      for (const { socket, name } of given) {
        this.#resetHere(socket, undefined)
        this.onContinued(server, [{ name, reset: 'no-server' }])
      }
    }
    return answers
  }

  #answer(server: BoxGeneration, name: string, outcomes: Outcomes): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.time.later(answerPatienceMs, () => this.onContinued(server, [{ name, reset: 'no-answer' }]))
      this.#answers.set(name, {
        server,
        resolve: (reset) => {
          cancel()
          outcomes.add(reset)
          resolve()
        },
      })
    })
  }

  /** Nobody will go on with it: its client is told so. */
  #resetHere(connection: RestoredSocket, outcomes: Outcomes | undefined): void {
    outcomes?.add('no-server')
    try {
      connection.reset()
    } catch (error) {
      this.#options.log.warn({ connection: connectionName(connection.connection), err: error }, 'a connection could not be reset')
    }
  }
}

const wantedOf = (addresses: readonly AddressConfig[]): WantedConnections => ({ addresses: addresses.flatMap(({ address }) => parseInterfaceAddress(address)?.bytes ?? []) })

const nameOf = ({ connection }: RestoredSocket): string => connectionName(connection)

const withName = ({ connection, reason, error }: RefusedConnection): { name: string; reason: ResetReason; why: string } => ({ name: connectionName(connection), reason, why: error.message })

function groupBy<T>(values: readonly T[], keyOf: (value: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>()
  for (const value of values) {
    const group = groups.get(keyOf(value))
    if (group) group.push(value)
    else groups.set(keyOf(value), [value])
  }
  return groups
}
