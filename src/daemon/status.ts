/** What the command line asks a daemon: itself, and what it can read of a peer. */
import { BackdoorsError, type ErrorCode } from '../errors.js'
import type { Condition } from '../monitor/conditions.js'
import { judge } from '../monitor/judge.js'
import type { ControlConnection, NodeVerdictKind, ObservedBox, ObservedSensor } from '../monitor/verdict.js'
import { noteStore } from '../recovery/adoption-notes.js'
import { readDirectory, readSensors, readSessions } from '../region/region-reader.js'
import type { SensorReading } from '../region/sensor-cell.js'
import type { Incident, VerdictRecord } from './incidents.js'
import type { Membership } from './membership/membership.js'
import type { PeerLink } from './peers/peer-fabric.js'
import type { PeerWatcher } from './watching/peer-watcher.js'
import type { PlannedNode } from './watching/watch-picture.js'

export interface PeerStatus {
  readonly peer: string
  readonly connected: boolean
  /** `left`: its daemon has ended in order, and nobody beats for it; what servers left there is nobody's to recover. */
  readonly verdict: NodeVerdictKind | 'left'
  readonly seen: string
  readonly incarnation?: string
  readonly control?: ControlConnection
  /** Beaten by the peer's daemon. */
  readonly osSensor?: ObservedSensor
  readonly servers?: readonly ObservedBox[]
  /** Level and pressure sensors past their limits: what they are of may be slow, and has not failed. */
  readonly conditions?: readonly Condition[]
  /** All level and pressure sensors, of the machine and of its servers, as last read. */
  readonly gauges?: readonly Gauge[]
  /** Names of what flaps, where anything does: the peer's own, and those of its servers. What is told of them is held down. */
  readonly flapping?: readonly string[]
  readonly rounds?: number
  readonly failedRounds?: number
  readonly meanRoundTripUs?: number
  /** Of all reads since the watch began, bounds that are up to a quarter too high. Left out where no native thread counts them. */
  readonly roundTripUs?: { readonly p50: number; readonly p99: number }
  readonly maxLatenessUs?: number
}

/** A level or pressure sensor. */
export interface Gauge {
  /** The server that it is about; undefined for the machine. */
  readonly server?: string
  /** Its name, with the unit of value and limit. */
  readonly sensor: string
  readonly value: number
  readonly limit: number
}

export interface DaemonStatus {
  readonly node: string
  readonly cluster: string
  readonly incarnation: string
  readonly region: string
  readonly fabric: string
  readonly fenced: boolean
  /** Servers connected to the daemon's socket. */
  readonly servers: readonly string[]
  /** Adopted sessions that no server has taken over yet. */
  readonly waitingSessions: number
  readonly membership: MembershipStatus
  readonly peers: readonly PeerStatus[]
  /** Who watches whom, as far as this daemon knows. */
  readonly plan: readonly PlannedNode[]
  /** Oldest first. */
  readonly incidents: readonly Incident[]
  /** The verdicts of the past, oldest first. */
  readonly history: readonly VerdictRecord[]
  /** This daemon's monotonic clock, by which all of its times are. In milliseconds. */
  readonly nowMs: number
  /** Where its page is served. */
  readonly page?: string
}

export interface MembershipStatus {
  readonly source: Membership['source']
  /** The other nodes of the cluster, whoever watches them. */
  readonly members: readonly string[]
  /** Why the source is not followed at the moment; the members are those that were known last. */
  readonly trouble?: { readonly code: ErrorCode; readonly message: string }
}

export function describeMembership({ source, current, trouble }: Membership): MembershipStatus {
  return { source, members: current.map(({ name }) => name), ...(trouble ? { trouble: { code: trouble.code, message: trouble.message } } : {}) }
}

export function describePeer({ peer, link, watch, verdict, flapping }: PeerWatcher): PeerStatus {
  const base = { peer: peer.name, connected: link !== undefined, verdict: verdict.kind, seen: verdict.seen, ...(flapping.length > 0 ? { flapping } : {}) }
  if (!link || !watch) return base
  const { rounds, failedRounds, meanRoundTripUs, maxLatenessUs, histograms } = watch.state
  const gauges = watch.gauges.map(({ server, sensor, value, limit }): Gauge => ({ ...(server === undefined ? {} : { server }), sensor, value, limit }))
  const trips = histograms?.roundTrips
  const roundTrips = trips && trips.total > 0 ? { roundTripUs: { p50: trips.quantileUs(0.5), p99: trips.quantileUs(0.99) } } : {}
  const observation = watch.observe()
  const { boxes, control, osSensor } = observation
  // A verdict is told when it changes; what is seen now says more, as long as it comes to the same. But for what others were asked.
  const now = judge(observation)?.node
  const seen = now?.kind === verdict.kind && now.kind !== 'unreachable' ? now.seen : verdict.seen
  const left = watch.hasLeft && verdict.kind === 'alive' ? { verdict: 'left', seen: 'its daemon has ended in order' } as const : {}
  return { ...base, seen, ...left, incarnation: link.header.incarnation.toString(16), control, ...(osSensor ? { osSensor } : {}), servers: boxes, conditions: watch.conditions, gauges, rounds, failedRounds, meanRoundTripUs, ...roundTrips, maxLatenessUs }
}

export interface ListedSession {
  readonly server: string
  readonly store: string
  readonly id: string
  readonly sequence: number
  readonly bytes: number
  readonly schemaVersion: number
  readonly remainingMs: number
  /** Node that it was adopted from. */
  readonly adoptedFrom?: string
}

export interface SessionList {
  readonly total: number
  readonly sessions: readonly ListedSession[]
}

/**
 * The sessions in a peer's boxes, as they stand: a glance at a living node, or a look before a recovery.
 * @param limit how many to list; all are counted
 */
export async function peerSessions(watcher: PeerWatcher, limit: number): Promise<SessionList> {
  const { header, sampling } = linkOf(watcher)
  const listed: ListedSession[] = []
  let total = 0
  for (const [box, entry] of (await readDirectory(sampling, header)).entries()) {
    if (entry === undefined || entry.state === 'free') continue
    const sessions = (await readSessions(sampling, header, box)).sessions.filter(({ store }) => store !== noteStore)
    total += sessions.length
    for (const { store, id, sequence, payload, schemaVersion, remainingMs, origin } of sessions.slice(0, limit - listed.length)) {
      listed.push({ server: entry.name, store, id, sequence, bytes: payload.length, schemaVersion, remainingMs, ...(origin ? { adoptedFrom: origin.node } : {}) })
    }
  }
  return { total, sessions: listed }
}

export interface ListedSensor extends SensorReading {
  readonly server: string
  /** For progress sensors: since it last moved. */
  readonly ageUs?: number
  readonly stalled?: boolean
}

export async function peerSensors(watcher: PeerWatcher): Promise<ListedSensor[]> {
  const { header, sampling } = linkOf(watcher)
  const directory = await readDirectory(sampling, header)
  const open = directory.flatMap((entry, box) => (entry?.state === 'open' ? [box] : []))
  const found = await readSensors(sampling, header, open)
  const { boxes, osSensor } = watcher.watch?.observe() ?? { boxes: [], osSensor: undefined }
  return open.flatMap((box, i) =>
    (found[i]?.sensors ?? []).map((sensor) => {
      const observed = box === 0 ? osSensor : boxes.find((other) => other.box === box)?.sensors.find(({ name }) => name === sensor.name)
      return { server: directory[box]?.name ?? '', ...sensor, ...(observed ? { ageUs: observed.ageUs, stalled: observed.stalled } : {}) }
    }),
  )
}

function linkOf(watcher: PeerWatcher): PeerLink {
  if (watcher.link) return watcher.link
  throw new BackdoorsError('PEER_UNREACHABLE', `Node ${watcher.peer.name} is not connected.`, { peer: watcher.peer.name })
}
