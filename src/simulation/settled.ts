/** What must be true of a cluster in which nothing has gone wrong for long enough: all that can be recovered is, and everybody is watched. */
import { decodeClaim, isBefore } from '../region/control.js'
import { claimKey, type Cluster } from './cluster.js'
import type { Expectations } from './expectations.js'
import type { Host } from './host.js'
import type { Invariant, SessionTruth } from './ledger.js'
import type { RegionLife } from './region-life.js'

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

export function settlement(cluster: Cluster, expectations: Expectations, watched: number): Settlement {
  const debts: Debt[] = []
  let excused = 0
  for (const truth of cluster.ledger.sessions.values()) {
    if (isServed(cluster, truth)) continue
    if (isExcused(cluster, truth, expectations)) excused++
    else debts.push({ invariant: 'lost', what: `${truth.id}, of which ${truth.acknowledged} was acknowledged, is served by nobody: it is ${truth.home.host}'s, in box ${truth.box}` })
  }
  return { debts: [...debts, ...planDebts(cluster, watched)], excused }
}

function isServed(cluster: Cluster, { id, acknowledged }: SessionTruth): boolean {
  const serving = cluster.servers().filter((server) => server.process.running && server.holds(id) && !server.life.isFenced(server.box, server.generation))
  return serving.some((server) => (server.valueOf(id) ?? 0) >= acknowledged)
}

function isExcused(cluster: Cluster, { home, box, damaged, disputed }: SessionTruth, expectations: Expectations): boolean {
  return damaged || disputed || home.lost || isAbandoned(cluster, home, box, expectations) || !isWatched(cluster, home)
}

/** Is there anybody that could recover it: its own machine, which is up, or one that is linked to its memory, which its daemon has to lend? */
function isWatched(cluster: Cluster, home: RegionLife): boolean {
  const isLinked = (host: Host): boolean => home.node.alive && host.daemon?.links.some(({ incarnation }) => incarnation === home.header.incarnation) === true
  return cluster.hosts.some((host) => host.up && (host.life === home || isLinked(host)))
}

/** Did its recoverer fail before it was done, so that another would have to go on? */
function isAbandoned(cluster: Cluster, home: RegionLife, box: number, { succession }: Expectations): boolean {
  return ([box, 'node'] as const).some((each) => {
    const claim = decodeClaim(home.words.claim(each))
    const recoverer = cluster.recoverers.get(claimKey(home, each))
    if (claim === undefined) return false
    // What was announced was the recoverer's own by then, and is lost with it.
    if (!isBefore(claim.step, 'announced')) return recoverer?.life.lost === true
    return !succession && recoverer?.daemon.active !== true
  })
}

/** Each node that is up has as many watchers that are up as were asked for, or as there are. */
function planDebts({ hosts }: Cluster, watched: number): Debt[] {
  const up = hosts.filter((host) => host.up)
  return up.flatMap((host) => {
    const watchers = up.filter((other) => other !== host && watches(other, host))
    const due = Math.min(watched, up.length - 1)
    return watchers.length >= due ? [] : [{ invariant: 'plan' as const, what: `${host.name} is up and watched by ${watchers.map(({ name }) => name).join(', ') || 'nobody'}, and ${due} were due` }]
  })
}

const watches = (host: Host, other: Host): boolean =>
  host.daemon?.links.some(({ watcher, incarnation }) => incarnation === other.life.header.incarnation && watcher.verdict.kind === 'alive') === true
