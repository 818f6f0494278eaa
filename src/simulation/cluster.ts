/** A whole cluster on the simulated fabric: machines, clients, and who looks on. */
import { Simulation } from '../fabric/mock/simulation.js'
import type { Random } from '../fabric/mock/random.js'
import type { BoxVerdict, NodeVerdict } from '../monitor/verdict.js'
import { decodeClaim, isBefore, type RecoveryStep } from '../region/control.js'
import type { RecoveryTarget } from '../recovery/recover.js'
import { Client } from './client.js'
import { nameOf, type Daemon } from './daemon.js'
import { EvidenceCheck } from './evidence.js'
import { EveryEvent } from './every-event.js'
import { Faults } from './faults.js'
import { Fencing } from './fencing.js'
import { Host } from './host.js'
import { claimKey, keepersOf } from './keepers.js'
import { Ledger } from './ledger.js'
import { Members } from './members.js'
import { Network } from './network.js'
import { geometry, RegionLife } from './region-life.js'
import { nodeName, serversPerNode, type Scenario } from './scenario.js'
import type { Server } from './server.js'
import { valueOf } from './payload.js'

/** Two for each server of a machine that joins. */
const sessionsOfNewHost = 2 * serversPerNode

/** Of a fence that is on its way to a server in the middle of a commit, so many come before the commit ends. */
const fencedMidCommit = 0.5

/** Most machines that a cluster comes to have, and most sessions: each box has room for all of them. */
const maxHosts = 26
const maxSessions = geometry.sessionsPerBox

/** Who took a claim, and with which memory of its own. */
export interface Recoverer {
  readonly daemon: Daemon
  readonly life: RegionLife
}

export class Cluster {
  readonly simulation: Simulation
  readonly ledger: Ledger
  readonly network: Network
  readonly members: Members
  /** Those that have left among them. */
  readonly hosts: Host[] = []
  /** Those that were no members at the beginning, in the order in which they came. */
  readonly joined: Host[] = []
  readonly clients: Client[] = []
  readonly faults: Faults
  readonly story: (readonly [atUs: number, what: string])[] = []
  /** Of each box and node that is or was being recovered, who came last to hold its claim. */
  readonly recoverers = new Map<string, Recoverer>()
  recoveries = 0
  /** How many nodes have left in order. */
  left = 0
  readonly #evidence: EvidenceCheck
  readonly #fencing: Fencing
  readonly #lives = new Map<bigint, RegionLife>()
  readonly #random: Random
  /** What is drawn when nodes come and go; nothing else is changed by it. */
  readonly #membersRandom: Random
  readonly #scenario: Scenario
  readonly #byName = new Map<string, Host>()
  #named = 0
  /** Fences that are about to be raised, by the box or node that they are for. */
  readonly #fences = new Map<string, { readonly daemon: Daemon; readonly target: RecoveryTarget }>()

  constructor(scenario: Scenario) {
    const simulation = new Simulation(scenario.seed, { keepTrace: 100, afterEvent: () => everyEvent.check() })
    this.simulation = simulation
    this.#random = simulation.random('cluster')
    this.ledger = new Ledger(simulation.now, () => this.servers())
    this.#evidence = new EvidenceCheck(this.ledger, simulation.now)
    const everyEvent = new EveryEvent({
      ledger: this.ledger,
      hosts: () => this.hosts,
      isCondemned: (...fence) => this.#evidence.isCondemned(...fence),
    })
    this.network = new Network(simulation, (name) => this.#byName.get(name))
    this.#fencing = new Fencing({ network: this.network, ledger: this.ledger, nowUs: simulation.now, hosts: () => this.hosts, tell: this.tell }, scenario.fencing)
    this.#scenario = scenario
    this.#membersRandom = simulation.random('joining')
    const names = Array.from({ length: scenario.nodes }, () => this.#nextName())
    this.members = new Members(simulation, names)
    for (const name of names) this.#addHost(name)
    this.#begin(this.servers(), scenario.sessions)
    this.faults = new Faults(this, scenario.faults, scenario.nodes)
  }

  /** Into the trace, and into what people read of it. */
  readonly tell = (what: string): void => {
    this.simulation.record(what)
    this.story.push([this.simulation.now(), what])
  }

  servers(): Server[] {
    return this.hosts.flatMap(({ servers }) => [...servers.values()])
  }

  /** A machine that the cluster did not have is set up: an operator lists it as a member, and its own daemon starts at some time while that goes round. */
  join(withinUs: number): void {
    if (this.#named === maxHosts) return
    const name = this.#nextName()
    this.members.add(name, withinUs)
    this.simulation.schedule(this.#membersRandom.integer(0, withinUs), () => {
      this.tell(`${name} starts with members ${this.members.names.join(', ')}`)
      const host = this.#addHost(name)
      this.joined.push(host)
      this.#begin([...host.servers.values()], Math.min(sessionsOfNewHost, maxSessions - this.clients.length))
    })
  }

  /** A machine is taken out of the cluster: its daemon is told to end, and when it has, it is listed as a member no more. @param us until it is back; `Infinity` for good */
  leave(host: Host, withinUs: number, us: number): void {
    if (!this.#canBeSpared(host)) return this.tell(`${host.name} cannot be spared`)
    host.leave(() => {
      this.left++
      this.tell(`${host.name} has left in order`)
      this.members.remove(host.name, withinUs)
      if (!Number.isFinite(us)) return
      this.simulation.schedule(us, () => {
        this.tell(`${host.name} is back`)
        this.members.add(host.name, withinUs)
        host.comeBack()
      })
    })
  }

  /** One machine's file of the members lacks another for a while. */
  forget(host: Host, other: Host, us: number): void {
    if (host === other || !this.members.has(other.name) || !this.#canBeSpared(host)) return
    this.members.forget(host.name, other.name, us)
  }

  /**
   * Where nodes fence who is unreachable, one that knows of one other alone fences it on its own word, be that by an operator's mistake or not
   * (`docs/detection.md`). So none comes to know so few.
   */
  #canBeSpared(host: Host): boolean {
    const enough = this.#scenario.fencing === null ? 2 : 3
    const leaving = this.hosts.filter(({ name, isLeaving }) => isLeaving && this.members.has(name))
    return this.members.has(host.name) && this.members.isWhole && !leaving.includes(host) && this.members.names.length - leaving.length > enough
  }

  #nextName(): string {
    return nodeName(this.#named++)
  }

  #addHost(name: string): Host {
    const host = this.#host(name, this.#scenario)
    this.hosts.push(host)
    this.#byName.set(name, host)
    return host
  }

  #host(name: string, { nodes, watched, canary, fencing }: Scenario): Host {
    return new Host({
      simulation: this.simulation, network: this.network, ledger: this.ledger, name, nodes, watched, canary, fencing: this.#fencing, fencingPlan: fencing,
      membersFile: this.members.fileOf(name),
      serverNames: Array.from({ length: serversPerNode }, (_, index) => `web-${index}`),
      newLife: (host) => this.#newLife(host),
      lifeOf: (incarnation) => this.#lives.get(incarnation) as RegionLife,
      midCommit: (server) => this.#midCommit(server),
      events: {
        onVerdict: (daemon, life, verdict) => this.#onVerdict(daemon, life, verdict),
        onStep: (daemon, life, target, step) => this.#onStep(daemon, life, target, step),
        tell: this.tell,
      },
    })
  }

  #newLife(host: string): RegionLife {
    const incarnation = BigInt(this.#lives.size + 1)
    const life = new RegionLife(this.simulation, host, incarnation)
    this.#lives.set(incarnation, life)
    return life
  }

  #begin(servers: readonly Server[], sessions: number): void {
    for (let index = 0; index < sessions; index++) {
      const first = servers[index % servers.length] as Server
      const id = `s${this.clients.length}`
      first.begin(id)
      this.clients.push(new Client({ simulation: this.simulation, id, servers: () => this.servers(), first, isOpen: (host) => this.network.isPortOpen(host) }))
    }
  }

  /** A fence that is on its way may come between the two looks of a commit. */
  #midCommit({ life, box, generation }: Pick<Server, 'life' | 'box' | 'generation'>): void {
    if (this.#fences.size === 0) return
    const ofNode = this.#fences.get(claimKey(life, 'node'))
    const ofBox = this.#fences.get(claimKey(life, box))
    const coming = ofNode ?? (ofBox?.target.kind === 'box' && ofBox.target.generation === generation ? ofBox : undefined)
    const canCome = coming?.daemon.process.running && life.leftUs === undefined && !this.network.isCut(coming.daemon.life.host, life.host) && !life.isFenced(box, generation)
    if (!canCome || !this.#random.chance(fencedMidCommit)) return
    this.tell(`the fence of ${coming.daemon.life.host} comes in the middle of a commit on ${life.host}`)
    if (coming === ofNode) life.raiseFence('node', 1)
    else life.raiseFence(box, generation)
  }

  #onVerdict(daemon: Daemon, life: RegionLife, verdict: NodeVerdict | BoxVerdict): void {
    this.tell(`${daemon.life.host} says ${life.host}${'box' in verdict ? `/${verdict.name}` : ''} is ${verdict.kind}: ${verdict.seen}`)
    this.#evidence.onVerdict(daemon, life, verdict)
  }

  #onStep(daemon: Daemon, life: RegionLife, target: RecoveryTarget, step: RecoveryStep): void {
    this.tell(`${daemon.life.host} has ${step} ${life.host} ${nameOf(target)}`)
    const key = claimKey(life, target.kind === 'node' ? 'node' : target.box)
    if (step === 'suspected') this.#fences.set(key, { daemon, target })
    else this.#fences.delete(key)
    if (step === 'fenced') this.#evidence.onFenced(daemon, life, target)
    if (step === 'claimed') this.#claimed(daemon, life, target)
    if (step === 'announced') this.#announced(daemon, life, target)
    const hostOf = (name: string): Host => this.hosts.find((host) => host.name === name) as Host
    this.faults.onStep(step, { recoverer: hostOf(daemon.life.host), suspect: hostOf(life.host) })
  }

  #claimed(daemon: Daemon, life: RegionLife, target: RecoveryTarget): void {
    const each = target.kind === 'node' ? 'node' : target.box
    const key = claimKey(life, each)
    // One that is started anew finds the claim of its earlier life, which may have come to its end.
    const claim = decodeClaim(life.words.claim(each))
    if (claim !== undefined && !isBefore(claim.step, 'adopted')) return
    this.recoverers.set(key, { daemon, life: daemon.life })
  }

  /** What was the failed node's, or had been adopted by it, is the recoverer's from now on. */
  #announced(daemon: Daemon, life: RegionLife, target: RecoveryTarget): void {
    this.recoveries++
    for (const truth of this.ledger.sessions.values()) {
      const isMeant = keepersOf(this.recoverers, truth.home, truth.box).some((keeper) => keeper.life === life && (target.kind === 'node' || target.box === keeper.box))
      const payload = isMeant ? daemon.payloadOf(truth.id) : undefined
      const value = payload && valueOf(truth.id, payload)
      if (value !== undefined) this.ledger.movedTo(truth.id, value, { life: daemon.life, box: 0 })
    }
  }
}
