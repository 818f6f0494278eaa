/** The daemon's Prometheus metrics, and the page they are scraped from. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { asBackdoorsError } from '../errors.js'
import type { Condition } from '../monitor/conditions.js'
import { nodeVerdicts, type NodeVerdictKind } from '../monitor/verdict.js'
import type { RecoveryReport } from '../recovery/recover.js'

export class Metrics {
  readonly registry = new Registry()
  readonly #verdicts: Counter<'peer' | 'verdict'>
  readonly #recoveries: Counter<'peer' | 'outcome'>
  readonly #sessions: Counter<'peer' | 'fate'>
  readonly #recoverySeconds: Histogram
  readonly #peerVerdict: Gauge<'peer' | 'verdict'>
  readonly #conditions: Gauge<'peer' | 'server' | 'sensor'>
  readonly #flapping: Gauge<'peer' | 'subject'>
  readonly #collect: (metrics: Metrics) => void
  #server: Server | undefined

  /** @param collect is run before each scrape, to bring the gauges up to date */
  constructor(node: string, collect: (metrics: Metrics) => void) {
    const registers = [this.registry]
    this.registry.setDefaultLabels({ node })
    this.#verdicts = new Counter({ name: 'backdoors_verdicts_total', help: 'Verdicts reached, by watched peer and kind.', labelNames: ['peer', 'verdict'], registers })
    this.#recoveries = new Counter({ name: 'backdoors_recoveries_total', help: 'Recoveries ended, by failed peer and outcome.', labelNames: ['peer', 'outcome'], registers })
    this.#sessions = new Counter({ name: 'backdoors_recovered_sessions_total', help: 'Sessions found in failed peers, by what became of them.', labelNames: ['peer', 'fate'], registers })
    this.#recoverySeconds = new Histogram({ name: 'backdoors_recovery_duration_seconds', help: 'From suspicion to announcement.', buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10], registers })
    this.#peerVerdict = new Gauge({ name: 'backdoors_peer_verdict', help: '1 for the verdict that stands on a watched peer.', labelNames: ['peer', 'verdict'], registers })
    this.#conditions = new Gauge({ name: 'backdoors_peer_condition', help: '1 for each level or pressure sensor of a watched peer that is past its limit; server is empty for the machine.', labelNames: ['peer', 'server', 'sensor'], registers })
    this.#flapping = new Gauge({ name: 'backdoors_peer_flapping', help: '1 for each node or server whose verdict flaps.', labelNames: ['peer', 'subject'], registers })
    this.#collect = collect
  }

  /** A gauge of the daemon's own, made at its first use. */
  gauge(name: string, help: string, value: number, labels: Record<string, string> = {}): void {
    const known = this.registry.getSingleMetric(name) as Gauge | undefined
    const gauge = known ?? new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.registry] })
    gauge.set(labels, value)
  }

  verdict(peer: string, verdict: string): void {
    this.#verdicts.inc({ peer, verdict })
  }

  peerVerdict(peer: string, verdict: NodeVerdictKind): void {
    for (const kind of nodeVerdicts) this.#peerVerdict.set({ peer, verdict: kind }, kind === verdict ? 1 : 0)
  }

  /** What is over is no longer shown. */
  forgetConditions(): void {
    this.#conditions.reset()
    this.#flapping.reset()
  }

  peerConditions(peer: string, conditions: readonly Condition[], flapping: readonly string[]): void {
    for (const { server = '', sensor } of conditions) this.#conditions.set({ peer, server, sensor }, 1)
    for (const subject of flapping) this.#flapping.set({ peer, subject }, 1)
  }

  recovery(report: RecoveryReport): void {
    const { peer, outcome, adopted, refused, expired, corrupt, stale, steps } = report
    this.#recoveries.inc({ peer, outcome })
    for (const [fate, count] of Object.entries({ adopted, refused, expired, corrupt, stale })) this.#sessions.inc({ peer, fate }, count)
    const [first, last] = [steps[0], steps.at(-1)]
    if (outcome === 'announced' && first && last) this.#recoverySeconds.observe((last.atMs - first.atMs) / 1000)
  }

  recoveryFailed(peer: string): void {
    this.#recoveries.inc({ peer, outcome: 'failed' })
  }

  /** Serves `/metrics`. @returns the port. @throws BackdoorsError SYSTEM_CALL_FAILED */
  async listen(host: string, port: number): Promise<number> {
    const server = createServer((request, response) => {
      if (request.method !== 'GET' || request.url !== '/metrics') return void response.writeHead(404).end()
      void this.#page().then(
        (text) => response.writeHead(200, { 'content-type': this.registry.contentType }).end(text),
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

  #page(): Promise<string> {
    this.#collect(this)
    return this.registry.metrics()
  }

  async close(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}
