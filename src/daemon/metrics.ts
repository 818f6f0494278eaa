/** The daemon's Prometheus metrics, and the page they are scraped from. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { asBackdoorsError } from '../errors.js'
import { nodeVerdicts } from '../monitor/verdict.js'
import type { RecoveryReport } from '../recovery/recover.js'
import type { ConnectionsReport } from './connections/report.js'
import type { DaemonStatus, PeerStatus } from './status.js'

/** What the gauges and counters are brought up to date from, before each scrape. */
export interface Measured {
  readonly status: Pick<DaemonStatus, 'fenced' | 'servers' | 'waitingSessions' | 'peers'>
  /** Adopted sessions that fail their CRC in the daemon's own box. */
  readonly damagedSessions: number
  /** Adopted sessions that gave way to a local server's own of the same id. */
  readonly droppedSessions: number
  readonly incidents: { readonly total: number; readonly unresolved: number }
  /** Of the daemon's own OS sensor. */
  readonly beats: number
}

const verdictLabels: readonly PeerStatus['verdict'][] = [...nodeVerdicts, 'left']
const openMetrics = 'application/openmetrics-text'

/**
 * Prometheus's own text as OpenMetrics: there a counter's family has no `_total`, though its samples do, and the end is marked.
 * (prom-client does so, too, but renames its metrics for good.)
 */
export function asOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+)_total counter$/gm)].map(([, family]) => family))
  const lines = text.split('\n').filter((line) => line !== '')
  const renamed = lines.map((line) => line.replace(/^(# (?:TYPE|HELP) )(\S+)_total /, (whole, head: string, family: string) => (counters.has(family) ? `${head}${family} ` : whole)))
  return `${renamed.join('\n')}\n# EOF\n`
}

export class Metrics {
  readonly registry = new Registry()
  readonly #verdicts = this.#counter('backdoors_verdicts_total', 'Verdicts reached, by watched peer and kind.', ['peer', 'verdict'])
  readonly #recoveries = this.#counter('backdoors_recoveries_total', 'Recoveries ended, by failed peer and outcome.', ['peer', 'outcome'])
  readonly #sessions = this.#counter('backdoors_recovered_sessions_total', 'Sessions found in failed peers, by what became of them.', ['peer', 'fate'])
  readonly #connections = this.#counter('backdoors_continued_connections_total', "Clients' connections of failed hosts, by what became of them here: continued, or why they were reset.", ['peer', 'outcome'])
  readonly #damagedNotes = this.#counter('backdoors_damaged_adoption_notes_total', 'Notes of a failed node on recoveries of its own that were damaged in part or in whole.', ['peer'])
  readonly #incidents = this.#counter('backdoors_incidents_total', 'Incidents: times that a peer or a server on one came to be other than alive.')
  readonly #rounds = this.#counter('backdoors_sampling_rounds_total', 'Rounds in which a peer was sampled, since it was connected last.', ['peer'])
  readonly #failedRounds = this.#counter('backdoors_sampling_failed_rounds_total', 'Rounds whose read failed, since the peer was connected last.', ['peer'])
  readonly #beats = this.#counter('backdoors_beats_total', "Beats of this daemon's OS sensor.")
  readonly #recoverySeconds: Histogram
  readonly #lastRecoverySeconds = this.#gauge('backdoors_last_recovery_duration_seconds', 'From suspicion to announcement, of the last recovery of a peer that this node carried out.', ['peer'])
  readonly #peerVerdict = this.#gauge('backdoors_peer_verdict', '1 for the verdict that stands on a watched peer.', ['peer', 'verdict'])
  readonly #connected = this.#gauge('backdoors_peer_connected', '1 where the memory of a watched peer is connected.', ['peer'])
  readonly #roundTrip = this.#gauge('backdoors_sampling_round_trip_seconds', 'Mean round trip of sampling a peer.', ['peer'])
  readonly #lateness = this.#gauge('backdoors_sampling_lateness_max_seconds', "The watcher's own worst wake-up since the peer was connected last, so much too late.", ['peer'])
  readonly #peerServers = this.#gauge('backdoors_peer_servers', 'Servers with an open box on a watched peer.', ['peer'])
  readonly #stalledSensors = this.#gauge('backdoors_stalled_sensors', 'Sensors of a watched peer that are past their deadline.', ['peer'])
  readonly #unresolved = this.#gauge('backdoors_incidents_unresolved', 'Incidents that are neither recovered nor over.')
  readonly #waiting = this.#gauge('backdoors_waiting_sessions', 'Adopted sessions that no local server has taken over yet.')
  readonly #damaged = this.#gauge('backdoors_damaged_sessions', "Adopted sessions that fail their CRC in the daemon's box, so that no server is offered them.")
  readonly #dropped = this.#counter('backdoors_dropped_sessions_total', 'Adopted sessions that were dropped, because a local server has one of the same id of its own.')
  readonly #servers = this.#gauge('backdoors_attached_servers', 'Local servers that are connected to the daemon.')
  readonly #fenced = this.#gauge('backdoors_fenced', '1 where this node has been fenced.')
  readonly #conditions = this.#gauge('backdoors_peer_condition', '1 for each level or pressure sensor of a watched peer that is past its limit; server is empty for the machine.', ['peer', 'server', 'sensor'])
  readonly #flapping = this.#gauge('backdoors_peer_flapping', '1 for each node or server whose verdict flaps.', ['peer', 'subject'])
  readonly #measure: () => Measured
  #server: Server | undefined

  /** @param measure is run before each scrape */
  constructor(node: string, measure: () => Measured) {
    this.registry.setDefaultLabels({ node })
    this.#recoverySeconds = new Histogram({ name: 'backdoors_recovery_duration_seconds', help: 'From suspicion to announcement.', buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10], registers: [this.registry] })
    this.#measure = measure
  }

  #counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] })
  }

  #gauge(name: string, help: string, labelNames: string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] })
  }

  verdict(peer: string, verdict: string): void {
    this.#verdicts.inc({ peer, verdict })
  }

  recovery(report: RecoveryReport): void {
    const { peer, outcome, adopted, refused, expired, corrupt, stale, damagedNotes, steps } = report
    this.#recoveries.inc({ peer, outcome })
    for (const [fate, count] of Object.entries({ adopted, refused, expired, corrupt, stale })) this.#sessions.inc({ peer, fate }, count)
    this.#damagedNotes.inc({ peer }, damagedNotes)
    const [first, last] = [steps[0], steps.at(-1)]
    if (outcome !== 'announced' || !first || !last) return
    this.#recoverySeconds.observe((last.atMs - first.atMs) / 1000)
    this.#lastRecoverySeconds.set({ peer }, (last.atMs - first.atMs) / 1000)
  }

  connections({ peer, continued, reset }: ConnectionsReport): void {
    for (const [outcome, count] of Object.entries({ continued, ...reset })) this.#connections.inc({ peer, outcome }, count)
  }

  recoveryFailed(peer: string): void {
    this.#recoveries.inc({ peer, outcome: 'failed' })
  }

  /** Serves `/metrics`. @returns the port. @throws BackdoorsError SYSTEM_CALL_FAILED */
  async listen(host: string, port: number): Promise<number> {
    const server = createServer((request, response) => {
      if (request.method !== 'GET' || request.url !== '/metrics') return void response.writeHead(404).end()
      const isOpen = (request.headers.accept ?? '').includes(openMetrics)
      void this.text().then(
        (text) => response.writeHead(200, { 'content-type': isOpen ? Registry.OPENMETRICS_CONTENT_TYPE : this.registry.contentType }).end(isOpen ? asOpenMetrics(text) : text),
        () => response.writeHead(500).end(),
      )
    })
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `Cannot serve metrics on ${host}:${port}`)))
      server.listen(port, host, resolve)
    })
    return (server.address() as AddressInfo).port
  }

  /** What a scrape gets, as Prometheus's text format has it. */
  async text(): Promise<string> {
    this.#update(this.#measure())
    return this.registry.metrics()
  }

  #update({ status: { waitingSessions, servers, fenced, peers }, damagedSessions, droppedSessions, incidents, beats }: Measured): void {
    this.#waiting.set(waitingSessions)
    this.#damaged.set(damagedSessions)
    this.#servers.set(servers.length)
    this.#fenced.set(fenced ? 1 : 0)
    this.#unresolved.set(incidents.unresolved)
    // What is counted elsewhere is taken over as it stands; a counter that begins anew is known to Prometheus as one that was reset.
    for (const counter of [this.#dropped, this.#incidents, this.#beats, this.#rounds, this.#failedRounds]) counter.reset()
    this.#dropped.inc(droppedSessions)
    this.#incidents.inc(incidents.total)
    this.#beats.inc(beats)
    // A peer that is watched no more, and a condition that is over, are shown no more.
    for (const gauge of [this.#peerVerdict, this.#connected, this.#peerServers, this.#stalledSensors, this.#roundTrip, this.#lateness, this.#conditions, this.#flapping]) gauge.reset()
    for (const peer of peers) this.#updatePeer(peer)
  }

  #updatePeer({ peer, connected, verdict, rounds, failedRounds, meanRoundTripUs, maxLatenessUs, osSensor, servers = [], conditions = [], flapping = [] }: PeerStatus): void {
    for (const kind of verdictLabels) this.#peerVerdict.set({ peer, verdict: kind }, kind === verdict ? 1 : 0)
    this.#connected.set({ peer }, connected ? 1 : 0)
    this.#peerServers.set({ peer }, servers.length)
    const sensors = [...(osSensor ? [osSensor] : []), ...servers.flatMap((server) => server.sensors)]
    this.#stalledSensors.set({ peer }, sensors.filter(({ stalled }) => stalled).length)
    for (const { server = '', sensor } of conditions) this.#conditions.set({ peer, server, sensor }, 1)
    for (const subject of flapping) this.#flapping.set({ peer, subject }, 1)
    if (rounds === undefined) return
    this.#rounds.inc({ peer }, rounds)
    this.#failedRounds.inc({ peer }, failedRounds ?? 0)
    this.#roundTrip.set({ peer }, (meanRoundTripUs ?? 0) / 1e6)
    this.#lateness.set({ peer }, (maxLatenessUs ?? 0) / 1e6)
  }

  async close(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}
