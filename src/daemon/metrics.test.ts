import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { describe, expect, it } from 'vitest'
import type { ObservedSensor } from '../monitor/verdict.js'
import type { RecoveryReport } from '../recovery/recover.js'
import { asOpenMetrics, Metrics, type Measured } from './metrics.js'

const sensor = (stalled: boolean): ObservedSensor => ({ name: 'os', counter: 1, pending: 1, ageUs: 1, deadlineUs: 2, stalled })

const measured = (more: Partial<Measured['status']> = {}): Measured => ({
  status: {
    fenced: false, servers: ['web'], waitingSessions: 3,
    peers: [
      { peer: 'b', connected: true, verdict: 'os-stalled', seen: '', osSensor: sensor(true), rounds: 100, failedRounds: 2, meanRoundTripUs: 5, maxLatenessUs: 700, servers: [{ box: 1, name: 'w', generation: 1, exited: false, sensors: [sensor(true), sensor(false)] }] },
      { peer: 'c', connected: false, verdict: 'alive', seen: 'nothing yet' },
    ],
    ...more,
  },
  damagedSessions: 4, droppedSessions: 2, incidents: { total: 6, unresolved: 1 }, beats: 1000,
})

const report: RecoveryReport = {
  peer: 'b', target: { kind: 'node' }, outcome: 'announced', steps: [{ step: 'suspected', atMs: 100 }, { step: 'announced', atMs: 125 }], boxes: [1], unsettled: [], inherited: [],
  found: 9, adopted: 8, known: 0, refused: 1, expired: 2, corrupt: 0, stale: 0, damagedNotes: 3, reads: 5, bytes: 6,
}

function filled(): Metrics {
  const metrics = new Metrics('a', measured)
  metrics.verdict('b', 'os-stalled')
  metrics.recovery(report)
  metrics.recoveryFailed('b')
  return metrics
}

const valueOf = (text: string, sample: string): string | undefined => text.split('\n').find((line) => line.startsWith(`${sample} `))?.slice(sample.length + 1)

describe('a scrape', () => {
  it('has what an operator needs, in base units', async () => {
    const text = await filled().text()
    const values = {
      'backdoors_sampling_rounds_total{peer="b",node="a"}': '100', 'backdoors_sampling_failed_rounds_total{peer="b",node="a"}': '2',
      'backdoors_sampling_round_trip_seconds{peer="b",node="a"}': '0.000005', 'backdoors_sampling_lateness_max_seconds{peer="b",node="a"}': '0.0007',
      'backdoors_peer_verdict{peer="b",verdict="os-stalled",node="a"}': '1', 'backdoors_peer_verdict{peer="b",verdict="alive",node="a"}': '0',
      'backdoors_peer_connected{peer="b",node="a"}': '1', 'backdoors_peer_connected{peer="c",node="a"}': '0',
      'backdoors_peer_servers{peer="b",node="a"}': '1', 'backdoors_stalled_sensors{peer="b",node="a"}': '2',
      'backdoors_verdicts_total{peer="b",verdict="os-stalled",node="a"}': '1', 'backdoors_incidents_total{node="a"}': '6', 'backdoors_incidents_unresolved{node="a"}': '1',
      'backdoors_recoveries_total{peer="b",outcome="announced",node="a"}': '1', 'backdoors_recoveries_total{peer="b",outcome="failed",node="a"}': '1',
      'backdoors_recovered_sessions_total{peer="b",fate="adopted",node="a"}': '8', 'backdoors_last_recovery_duration_seconds{peer="b",node="a"}': '0.025',
      'backdoors_damaged_adoption_notes_total{peer="b",node="a"}': '3',
      'backdoors_waiting_sessions{node="a"}': '3', 'backdoors_damaged_sessions{node="a"}': '4', 'backdoors_dropped_sessions_total{node="a"}': '2', 'backdoors_attached_servers{node="a"}': '1', 'backdoors_fenced{node="a"}': '0', 'backdoors_beats_total{node="a"}': '1000',
    }
    expect(Object.fromEntries(Object.keys(values).map((sample) => [sample, valueOf(text, sample)]))).toEqual(values)
    expect(valueOf(text, 'backdoors_recovery_duration_seconds_count{node="a"}')).toBe('1')
  })

  it('does not count twice what is counted elsewhere', async () => {
    const metrics = filled()
    await metrics.text()
    expect(valueOf(await metrics.text(), 'backdoors_sampling_rounds_total{peer="b",node="a"}')).toBe('100')
  })

  it('knows who has left in order from who is alive', async () => {
    const metrics = new Metrics('a', () => measured({ peers: [{ peer: 'b', connected: true, verdict: 'left', seen: '' }] }))
    const text = await metrics.text()
    expect([valueOf(text, 'backdoors_peer_verdict{peer="b",verdict="left",node="a"}'), valueOf(text, 'backdoors_peer_verdict{peer="b",verdict="alive",node="a"}')]).toEqual(['1', '0'])
  })

  it('is OpenMetrics for who asks for that', async () => {
    const metrics = filled()
    const port = await metrics.listen('127.0.0.1', 0)
    const ask = async (accept: string): Promise<Response> => fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept } })
    try {
      const open = await ask('application/openmetrics-text;version=1.0.0,text/plain;q=0.5')
      expect(open.headers.get('content-type')).toMatch(/^application\/openmetrics-text; version=1\.0\.0/)
      const text = await open.text()
      expect(text).toMatch(/^# HELP backdoors_verdicts .*\n# TYPE backdoors_verdicts counter\nbackdoors_verdicts_total\{/)
      expect(text).toMatch(/\n# EOF\n$/)
      expect(text).not.toContain('\n\n')
      const plain = await ask('text/plain')
      expect(plain.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
      expect(asOpenMetrics(await plain.text())).toBe(text)
    } finally {
      await metrics.close()
    }
  })
})

describe('names', () => {
  it('follow the conventions: one prefix, base units, _total for counters alone, words of help', async () => {
    for (const { name, type, help } of await new Metrics('a', measured).registry.getMetricsAsJSON()) {
      expect(name).toMatch(/^backdoors_[a-z_]+$/)
      expect(name).not.toMatch(/_(ms|us|ns|milliseconds|microseconds|kib|mib)\b/)
      expect({ name, isCounter: name.endsWith('_total') }).toEqual({ name, isCounter: (type as unknown) === 'counter' })
      expect(help).toMatch(/\w.*\.$/)
    }
  })

  const docs = (file: string): string => readFileSync(new URL(`../../docs/${file}`, import.meta.url), 'utf8')
  const namesIn = (text: string): string[] => [...new Set([...text.matchAll(/\bbackdoors_[a-z_]+/g)].map(([name]) => name))]
  const known = async (): Promise<Set<string>> => {
    const metrics = await new Metrics('a', measured).registry.getMetricsAsJSON()
    return new Set(metrics.flatMap(({ name, type }) => ((type as unknown) === 'histogram' ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name])))
  }

  it.each(['grafana-dashboard.json', 'prometheus-alerts.yaml', 'monitoring.md', 'operating.md'])('in docs/%s are those of the daemon', async (file) => {
    const all = await known()
    const named = namesIn(docs(file))
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter((name) => !all.has(name))).toEqual([])
  })

  it('are all in docs/monitoring.md', async () => {
    const documented = namesIn(docs('monitoring.md'))
    const metrics = await new Metrics('a', measured).registry.getMetricsAsJSON()
    expect(metrics.map(({ name }) => name).filter((name) => !documented.includes(name))).toEqual([])
  })

  it('of alerts are each explained in docs/monitoring.md', () => {
    const { groups } = parse(docs('prometheus-alerts.yaml')) as { groups: { rules: { alert: string; annotations: Record<string, string> }[] }[] }
    const alerts = groups.flatMap(({ rules }) => rules)
    expect(alerts.length).toBeGreaterThan(5)
    for (const { alert, annotations } of alerts) {
      expect(Object.keys(annotations)).toEqual(['summary', 'description'])
      expect(docs('monitoring.md')).toContain(`\`${alert}\``)
    }
  })

  it('of the dashboard are asked of the data source that the user chooses', () => {
    const { panels } = JSON.parse(docs('grafana-dashboard.json')) as { panels: { title: string; datasource: unknown; targets: { expr: string }[] }[] }
    expect(panels.length).toBeGreaterThan(8)
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length)
    for (const { datasource, targets } of panels) {
      expect(datasource).toEqual({ type: 'prometheus', uid: '${datasource}' })
      for (const { expr } of targets) expect(expr).toMatch(/backdoors_/)
    }
  })
})
