/** The fabric between simulated machines: who can reach whom, how well, and the links that daemons hold. */
import { BackdoorsError } from '../errors.js'
import type { Conditions } from '../fabric/mock/conditions.js'
import { MockMemory } from '../fabric/mock/mock-memory.js'
import { quiet, type Simulation } from '../fabric/mock/simulation.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { PeerConfig } from '../daemon/config.js'
import type { PeerFabric, PeerHandlers, PeerLink } from '../daemon/peers/peer-fabric.js'
import { Observers, opinionTimeoutMs, type ObserverChannel } from '../daemon/watching/observers.js'
import type { ControlConnection } from '../monitor/verdict.js'
import type { RegionHeader } from '../region/header.js'
import type { Host } from './host.js'
import type { Process } from './process.js'
import { ProcessMemory } from './process-memory.js'
import type { RegionLife } from './region-life.js'
import { ms, timing } from './timing.js'

/** A machine that says nothing for so long is silent, in microseconds. */
const silentAfterUs = 100 * ms

const calm: Partial<Conditions> = { delayUs: 2, jitterUs: 6, tearProbability: 0.02, tearSpreadUs: 20, timeoutUs: 60 * ms, retryUs: ms, failProbability: 0, loseProbability: 0, cut: false }

const isWell = (conditions: Partial<Conditions> = {}): boolean => Object.keys(conditions).length === 0

/** Links between two machines, whichever way. */
const linkKey = (a: string, b: string): string => [a, b].sort().join('–')

/** A machine's memory, as it is lent to another's daemon. */
interface Loan {
  readonly to: string
  readonly life: RegionLife
  readonly memory: MockMemory
  isOver: boolean
}

export class Network {
  readonly simulation: Simulation
  readonly #hostOf: (name: string) => Host | undefined
  readonly #conditions = new Map<string, Partial<Conditions>>()
  /** When each link was last well again after it had not been, in microseconds; infinite while it is not. */
  readonly #troubledUntilUs = new Map<string, number>()
  /** Machines that their clients cannot reach: the switch keeps them away. */
  readonly #closedPorts = new Set<string>()
  readonly #loans = new Set<Loan>()

  constructor(simulation: Simulation, hostOf: (name: string) => Host | undefined) {
    this.simulation = simulation
    this.#hostOf = hostOf
  }

  /** @param conditions on top of calm ones; nothing for a link that is well */
  setLink(a: string, b: string, conditions: Partial<Conditions> = {}): void {
    const key = linkKey(a, b)
    if (isWell(this.#conditions.get(key)) !== isWell(conditions)) this.#troubledUntilUs.set(key, isWell(conditions) ? this.simulation.now() : Infinity)
    this.#conditions.set(key, conditions)
    for (const loan of this.#loans) if (linkKey(loan.to, loan.life.host) === key && !loan.isOver) loan.memory.setConditions({ ...calm, ...conditions })
  }

  mendAll(): void {
    for (const key of [...this.#conditions.keys()]) this.setLink(...(key.split('–') as [string, string]))
    this.#closedPorts.clear()
  }

  /** Has anything been wrong with this link at any time since then? */
  wasTroubled(a: string, b: string, sinceUs: number): boolean {
    return (this.#troubledUntilUs.get(linkKey(a, b)) ?? -1) >= sinceUs
  }

  closePort(name: string): void {
    this.#closedPorts.add(name)
  }

  openPort(name: string): void {
    this.#closedPorts.delete(name)
  }

  isPortOpen(name: string): boolean {
    return !this.#closedPorts.has(name)
  }

  /** Is every link as good as it gets, and nobody kept from the clients? */
  get isWell(): boolean {
    return this.#closedPorts.size === 0 && [...this.#conditions.values()].every(isWell)
  }

  isCut(a: string, b: string): boolean {
    return this.#conditions.get(linkKey(a, b))?.cut === true
  }

  /** The peer, where its daemon would answer a connection from `from` now. */
  answering(from: string, to: string): Host | undefined {
    const host = this.#hostOf(to)
    return !this.isCut(from, to) && host?.daemon?.process.running === true && host.daemon.lendsTo(from) && host.life.node.alive ? host : undefined
  }

  /** What `from` hears of the machine otherwise. */
  control(from: string, life: RegionLife, knownForUs: number | undefined): ControlConnection {
    if (knownForUs === undefined) return 'answers'
    const host = this.#hostOf(life.host) as Host
    const isHeard = !this.isCut(from, life.host) && host.system.running
    if (isHeard && host.daemon?.process.running === true) return 'answers'
    if (isHeard && host.daemon?.process.alive !== true) return 'reset'
    return knownForUs < silentAfterUs ? 'unheard' : 'silent'
  }

  /**
   * A request over the control connection between two daemons.
   * @throws BackdoorsError TIMEOUT, INVALID_ARGUMENT
   */
  request(from: string, to: string, by: Process, { body, timeoutMs }: { readonly body: unknown; readonly timeoutMs: number }): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const cancel = by.later(timeoutMs * ms, () => reject(new BackdoorsError('TIMEOUT', `${to} did not answer within ${timeoutMs} ms`, { peer: to })))
      const deliver = (settle: () => void): unknown => by.whenRunning(() => {
        cancel()
        settle()
      })
      const answer = (settle: () => void): void => void this.simulation.schedule(timing.controlMessageUs, () => (this.isCut(from, to) ? quiet : deliver(settle)))
      this.simulation.schedule(timing.controlMessageUs, () => {
        const daemon = this.#hostOf(to)?.daemon
        if (daemon === undefined || this.isCut(from, to)) return quiet
        return daemon.process.whenRunning(() => void daemon.observe(body, from).then((sees) => answer(() => resolve(sees)), () => answer(() => reject(new BackdoorsError('INVALID_ARGUMENT', `${to} does not take what it was asked`, { peer: to })))))
      })
    })
  }

  /** Names of the machines whose daemons answer `from` now. */
  connectedTo(from: string, nodes: readonly string[]): string[] {
    return nodes.filter((name) => name !== from && this.answering(from, name) !== undefined)
  }

  connect(from: string, life: RegionLife, process: Process): { memory: RemoteMemory; close: () => Promise<void>; isLent: () => boolean } {
    const mock = new MockMemory(this.simulation, life.node, { from, conditions: { ...calm, ...this.#conditions.get(linkKey(from, life.host)) } })
    const loan = { to: from, life, memory: mock, isOver: false }
    this.#loans.add(loan)
    const close = (): Promise<void> => {
      this.#loans.delete(loan)
      return mock.close()
    }
    process.onEnd(() => void close())
    return { memory: new ProcessMemory(mock, process, (us, run) => void this.simulation.schedule(us, run)), close, isLent: () => !loan.isOver }
  }

  /** Who may not enroll with a daemon any more is cut off from its memory, as its queue pairs end. */
  endLoans(life: RegionLife, isOver: (to: string) => boolean): void {
    for (const loan of this.#loans) {
      if (loan.life !== life || loan.isOver || !isOver(loan.to)) continue
      loan.isOver = true
      loan.memory.setConditions({ ...calm, cut: true })
    }
  }
}

/** One daemon's way to its peers. */
export class SimulatedFabric implements PeerFabric {
  readonly observers: Observers

  /** Who may enroll with this daemon, and whom it enrolls with. */
  #members: ReadonlySet<string> = new Set()

  constructor(
    readonly network: Network,
    readonly life: RegionLife,
    readonly process: Process,
  ) {
    const from = life.host
    const to = (peer: string): ObserverChannel => ({ request: (_, body, timeoutMs) => network.request(from, peer, process, { body, timeoutMs }) })
    this.observers = new Observers(() => new Map(network.connectedTo(from, [...this.#members]).map((peer) => [peer, to(peer)])), opinionTimeoutMs(timing.unreachableAfterUs / ms))
  }

  get from(): string {
    return this.life.host
  }

  lendsTo(name: string): boolean {
    return this.#members.has(name)
  }

  keep(peer: PeerConfig, handlers: PeerHandlers): { close(): Promise<void> } {
    let incarnation: bigint | undefined
    let troubled = false
    const look = (): void => {
      const host = this.network.answering(this.from, peer.name)
      if (host === undefined) {
        if (!troubled) handlers.onTrouble(new BackdoorsError('PEER_UNREACHABLE', `${peer.name} does not answer.`, { peer: peer.name }))
        troubled = true
        return
      }
      troubled = false
      if (host.life.header.incarnation === incarnation) return
      incarnation = host.life.header.incarnation
      handlers.onLink(new SimulatedLink(this, host.life, () => void (incarnation = undefined)))
    }
    this.process.later(0, look)
    const stop = this.process.every(timing.connectEveryUs, look)
    return { close: async () => stop() }
  }

  setMembers(members: readonly PeerConfig[]): void {
    this.#members = new Set(members.map(({ name }) => name))
    this.network.endLoans(this.life, (to) => !this.#members.has(to))
  }

  async reloadKeys(): Promise<void> {}

  async close(): Promise<void> {}
}

export class SimulatedLink implements PeerLink {
  readonly header: RegionHeader
  readonly sampling: RemoteMemory
  readonly recovery: RemoteMemory
  readonly renew: () => void
  /** Has its peer not cut it off? */
  readonly isLent: () => boolean
  readonly #close: () => Promise<unknown>
  readonly #control: PeerLink['control']

  constructor({ network, from, process }: SimulatedFabric, life: RegionLife, renew: () => void) {
    const sampling = network.connect(from, life, process)
    const recovery = network.connect(from, life, process)
    this.header = life.header
    this.sampling = sampling.memory
    this.recovery = recovery.memory
    this.isLent = sampling.isLent
    this.renew = renew
    this.#control = (knownForUs) => network.control(from, life, knownForUs)
    this.#close = () => Promise.all([sampling.close(), recovery.close()])
  }

  control(knownForUs: number | undefined): ControlConnection {
    return this.#control(knownForUs)
  }

  forRecovery(): Promise<RemoteMemory> {
    return Promise.resolve(this.recovery)
  }

  async close(): Promise<void> {
    await this.#close()
  }
}
