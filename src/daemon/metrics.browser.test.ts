/** What the daemon measures, and the files made for it, as Prometheus's own tool sees them (Debian's `prometheus`). */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../servers/free-port.js'
import { startDaemon, type Daemon } from './daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

const docs = (file: string): string => fileURLToPath(new URL(`../../docs/${file}`, import.meta.url))
const { boxCount, ...sizes } = testGeometry
let folder: string
let daemon: Daemon
let node: FakeNode
const url = 'http://127.0.0.1'
let port: number

/** A daemon that has recovered a peer, so that every metric has a value. */
beforeAll(async () => {
  execFileSync('promtool', ['--version'], { stdio: 'ignore' })
  folder = mkdtempSync(join(tmpdir(), 'backdoors-metrics-'))
  node = new FakeNode('b', join(folder, 'b'))
  node.commit('u1', 'one apple')
  port = await freePort()
  daemon = await startDaemon({
    node: 'a', cluster: 'test', log: 'silent', region: { path: join(folder, 'a'), boxes: boxCount, ...sizes }, peers: [{ name: 'b', region: join(folder, 'b') }],
    watch: { intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 }, metrics: { port },
  })
  const watching = new Promise((resolve) => daemon.once('watching', resolve))
  await watching
  while (daemon.status().peers[0]?.osSensor === undefined) await new Promise(setImmediate)
  const recovered = new Promise((resolve) => daemon.once('recovered', resolve))
  node.stop()
  await recovered
})

afterAll(async () => {
  await daemon?.close()
  node?.close()
  rmSync(folder, { recursive: true })
})

async function scrape(accept: string): Promise<string> {
  const answer = await fetch(`${url}:${port}/metrics`, { headers: { accept } })
  expect(answer.status).toBe(200)
  return answer.text()
}

describe('promtool', () => {
  it('finds no fault with the metrics of a daemon', async () => {
    const text = await scrape('text/plain')
    expect(text).toContain('backdoors_recoveries_total{peer="b",outcome="announced",node="a"} 1')
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
  })

  it('reads what is served as OpenMetrics as OpenMetrics', async () => {
    const text = await scrape('application/openmetrics-text')
    // Blocks are made of samples with times, which a scrape has not.
    const timed = text.split('\n').map((line) => (line === '' || line.startsWith('#') ? line : `${line} 1700000000`)).join('\n')
    const file = join(folder, 'metrics.txt')
    writeFileSync(file, timed)
    const read = spawnSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', file, join(folder, 'blocks')], { encoding: 'utf8' })
    expect({ status: read.status, stderr: read.stderr }).toEqual({ status: 0, stderr: '' })
    // The tool does notice what is no OpenMetrics.
    writeFileSync(file, timed.replace('# EOF\n', ''))
    expect(spawnSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', file, join(folder, 'blocks')]).status).not.toBe(0)
  })

  it('finds no fault with the alerts', () => {
    const { status, stdout } = spawnSync('promtool', ['check', 'rules', docs('prometheus-alerts.yaml')], { encoding: 'utf8' })
    expect(stdout).toMatch(/SUCCESS: \d+ rules found/)
    expect(status).toBe(0)
  })

  it('finds no fault with what the dashboard asks', () => {
    const { panels } = JSON.parse(readFileSync(docs('grafana-dashboard.json'), 'utf8')) as { panels: { targets: { expr: string }[] }[] }
    const asked = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m').replaceAll('$node', '.*').replaceAll('$peer', '.*')))
    const file = join(folder, 'asked.yaml')
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: asked.map((expr, i) => ({ record: `asked:${i}`, expr })) }] }))
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
    expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' })
  })
})
