/** What must be true of a cluster in which nothing has gone wrong for long enough: all that can be recovered is, and everybody is watched. */
import { daemonBox } from '../region/layout.js'
import type { Cluster } from './cluster.js'
import type { Host } from './host.js'
import { keepersOf } from './keepers.js'
import type { Invariant, SessionTruth } from './ledger.js'
import type { RegionLife } from './region-life.js'
import { ms } from './timing.js'

/** What has been well for so long has had the time to put in order whatever was wrong before, in microseconds. */
const settledAfterUs = 600 * ms

export interface Debt {
  readonly invariant: Invariant
  readonly what: string
}

export interface Settlement {
  /** What is owed still. */
  readonly debts: readonly Debt[]
  /** Sessions whose memory is gone, or was damaged, or whose recovery nobody can be expected to finish. */
  readonly excused: number
}

/** Moments at which nothing is wrong any more, be it between two faults: nothing may be owed then. */
export class SettledMoments {
  readonly #cluster: Cluster
  readonly #watched: number
  #wellSinceUs: number | undefined

  constructor(cluster: Cluster, watched: number) {
    this.#cluster = cluster
    this.#watched = watched
  }

  /** To be called time and again. */
  look(): void {
    const { simulation, faults, ledger } = this.#cluster
    if (!isWell(this.#cluster)) return void (this.#wellSinceUs = undefined)
    this.#wellSinceUs = Math.max(this.#wellSinceUs ?? simulation.now(), faults.lastUs)
    if (simulation.now() - this.#wellSinceUs < settledAfterUs) return
    for (const { invariant, what } of settlement(this.#cluster, this.#watched).debts) ledger.violate(invariant, what)
  }
}

/** Does everything run and reach everything, with no recovery under way or to be tried again? */
function isWell(cluster: Cluster): boolean {
  const { network, members } = cluster
  const areServing = ({ servers }: Host): boolean => [...servers.values()].every(({ process }) => process.running)
  // Of those that have left nothing is asked; one that is listed and has not started yet is missing.
  const hosts = cluster.hosts.filter(({ name }) => members.has(name))
  return network.isWell && hosts.length === members.names.length && hosts.every((host) => knowsAll(host, members.names) && host.up && host.daemon?.isBusy === false && areServing(host))
}

export function settlement(cluster: Cluster, watched: number): Settlement {
  const debts: Debt[] = []
  let excused = 0
  for (const truth of cluster.ledger.sessions.values()) {
    if (isServed(cluster, truth)) continue
    if (isExcused(cluster, truth)) excused++
    else debts.push({ invariant: 'lost', what: `${truth.id}, of which ${truth.acknowledged} was acknowledged, is served by nobody: it is ${truth.home.host}'s, in box ${truth.box}` })
  }
  return { debts: [...debts, ...planDebts(cluster, watched)], excused }
}

function isServed(cluster: Cluster, { id, acknowledged }: SessionTruth): boolean {
  const serving = cluster.servers().filter((server) => server.process.running && server.holds(id) && !server.life.isFenced(server.box, server.generation))
  return serving.some((server) => (server.valueOf(id) ?? 0) >= acknowledged)
}

function isExcused(cluster: Cluster, { home, box, damaged }: SessionTruth): boolean {
  const canTell = (life: RegionLife): boolean => !isOutOfReach(cluster, life, daemonBox) || cluster.hosts.some(({ up, daemon }) => up && daemon?.hasWitnessed(life))
  return damaged || keepersOf(cluster.recoverers, home, box, canTell).some((keeper) => isOutOfReach(cluster, keeper.life, keeper.box))
}

/**
 * Is its memory gone, or nobody there who could recover from it: one that is up, and linked to it while its daemon lends it? Where that daemon
 * runs, a machine whose own daemon is yet to start again will be linked as well.
 */
function isOutOfReach(cluster: Cluster, home: RegionLife, box: number): boolean {
  if (home.lost || isStranded(cluster, home, box)) return true
  // Its servers serve on, unwatched: what they fail in is nobody's to put right, and nothing else is forgiven.
  const left = cluster.hosts.find(({ life, hasLeft }) => hasLeft && life === home)
  if (left) return !canServe(left, box)
  const takesLinks = cluster.hosts.some((host) => host.up && host.life === home)
  const isLinked = (host: Host): boolean => host.up && host.daemon?.links.some(({ incarnation }) => incarnation === home.header.incarnation) === true
  const reaches = (host: Host): boolean => home.node.alive && (isLinked(host) || (takesLinks && host.system.running))
  return !cluster.hosts.some((host) => (host.life === home ? host.up && canServe(host, box) : reaches(host)))
}

/** Was it adopted on a machine that is up, and where no server is left to take it over? */
function isStranded({ hosts }: Cluster, home: RegionLife, box: number): boolean {
  const host = hosts.find(({ life, up }) => up && life === home)
  return box === 0 && host !== undefined && ![...host.servers.values()].some((server) => server.process.running && !home.isFenced(server.box, server.generation))
}

/** Can it bring what is in this box back by itself? Not where the server hangs, or has been fenced. */
function canServe({ life, servers }: Host, box: number): boolean {
  // What a server was offered that hangs is given to another once it is fenced, and no machine fences its own.
  if (box === 0) return ![...servers.values()].some((server) => server.alive && !server.process.running && !life.isFenced(server.box, server.generation))
  const owner = [...servers.values()].find((server) => server.life === life && server.box === box && server.alive)
  return owner ? owner.process.running && !life.isFenced(box, owner.generation) : life.words.fence(box) === 0
}

/**
 * Each node that is up knows all members and no others, watches none but them, and has as many watchers that are up as were asked for, or as
 * there are; and one that has joined watches as many.
 */
function planDebts({ hosts, members, joined }: Cluster, watched: number): Debt[] {
  const up = hosts.filter((host) => host.up)
  const due = Math.min(watched, up.length - 1)
  const debt = (what: string): Debt[] => [{ invariant: 'plan', what }]
  return up.flatMap((host) => {
    const others = up.filter((other) => other !== host)
    const watchers = others.filter((other) => watches(other, host))
    const watching = others.filter((other) => watches(host, other))
    const strangers = host.daemon?.watchers.filter(({ peer }) => !members.has(peer.name)).map(({ peer }) => peer.name) ?? []
    return [
      ...(knowsAll(host, members.names) ? [] : debt(`${host.name} is up and knows of ${listOf(knownTo(host))}, and the members are ${listOf(members.names)}`)),
      ...(strangers.length === 0 ? [] : debt(`${host.name} still watches ${listOf(strangers)}, and the members are ${listOf(members.names)}`)),
      ...(watchers.length >= due ? [] : debt(`${host.name} is up and watched by ${listOf(watchers.map(({ name }) => name))}, and ${due} were due`)),
      ...(watching.length >= due || !joined.includes(host) ? [] : debt(`${host.name} is up and watches ${listOf(watching.map(({ name }) => name))}, and ${due} were due`)),
    ]
  })
}

const knownTo = ({ daemon }: Host): string[] => daemon?.members.map(({ name }) => name) ?? []
const knowsAll = (host: Host, names: readonly string[]): boolean => listOf([host.name, ...knownTo(host)].sort()) === listOf([...names].sort())
const listOf = (names: readonly string[]): string => names.join(', ') || 'nobody'

const watches = (host: Host, other: Host): boolean =>
  host.daemon?.links.some(({ watcher, incarnation }) => incarnation === other.life.header.incarnation && watcher.verdict.kind === 'alive') === true
