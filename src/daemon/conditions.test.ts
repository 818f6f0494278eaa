/** Levels and pressure between two daemons of this machine: measured by one, reported by the other, and nobody is condemned. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Condition } from '../monitor/conditions.js'
import { attach } from '../servers/attach.js'
import type { DaemonConfigInput } from './config.js'
import { startDaemon, type Daemon } from './daemon.js'
import type { PeerStatus } from './status.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

let folder: string
const closers: (() => Promise<void> | void)[] = []
const pathOf = (node: string): string => join(folder, node)
const sizes = { boxes: 3, sensorsPerBox: 16, sessionsPerBox: 64, heapBytes: 1 << 16 }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-conditions-'))
})

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function start(node: string, peers: readonly string[], more: Partial<DaemonConfigInput> = {}): Promise<Daemon> {
  const daemon = await startDaemon({
    node, cluster: 'test', log: 'silent',
    region: { path: pathOf(node), ...sizes },
    peers: peers.map((name) => ({ name, region: pathOf(name) })),
    watch: { intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20, conditions: { raiseAfterMs: 0, clearAfterMs: 0 } },
    ...more,
  })
  closers.push(() => daemon.close())
  return daemon
}

/** The next change of this sensor. */
async function changeOf(daemon: Daemon, sensor: string): Promise<[string, Condition, boolean]> {
  for (;;) {
    const change = (await once(daemon, 'condition')) as [string, Condition, boolean]
    if (change[1].sensor === sensor) return change
  }
}

it('a gauge of a server past its limit is a condition of its peer, which is alive, and then is none any more', async () => {
  const a = new FakeNode('a', pathOf('a'))
  closers.push(() => a.close())
  const gauge = a.server.sensor({ name: 'jobs-waiting', kind: 'pressure', deadlineUs: 0 })
  gauge.level(3, 10)
  const { boxCount: _, ...geometry } = testGeometry
  const b = await start('b', ['a'], { region: { path: pathOf('b'), boxes: 4, ...geometry } })
  const verdicts: unknown[] = []
  b.on('verdict', (...verdict) => verdicts.push(verdict))
  const raised = changeOf(b, 'jobs-waiting')
  gauge.level(11, 10)
  expect(await raised).toMatchObject(['a', { kind: 'pressure', server: 'web', sensor: 'jobs-waiting', value: 11, limit: 10 }, true])
  expect(b.status().peers[0]).toMatchObject({ peer: 'a', verdict: 'alive', conditions: [{ server: 'web', sensor: 'jobs-waiting', value: 11 }] })
  const cleared = changeOf(b, 'jobs-waiting')
  gauge.level(9, 10)
  expect((await cleared)[2]).toBe(false)
  expect(b.status().peers[0]?.conditions).toEqual([])
  expect(verdicts).toEqual([])
})

it('what a daemon measures of its servers is reported by its peers with the server\'s name', async () => {
  // Any process has more than this, and it has it at once.
  await start('a', [], { sensors: { intervalMs: 50, limits: { serverMemory: 1e-9 } } })
  const web = await attach({ region: pathOf('a'), name: 'web' })
  closers.push(() => web.close())
  const b = await start('b', ['a'])
  const [peer, condition, raised] = await changeOf(b, 'rss-bytes')
  expect([peer, condition.server, raised]).toEqual(['a', 'web', true])
  expect(condition.value).toBeGreaterThan(10 << 20)
  const over = changeOf(b, 'rss-bytes')
  await web.close()
  expect((await over)[2]).toBe(false)
})

it('conditions and what flaps are metrics, and are gone from them when they are over', async () => {
  const { Metrics } = await import('./metrics.js')
  const conditions: Condition[] = [{ kind: 'pressure', server: 'web', sensor: 'rss-bytes', value: 2, limit: 1, sinceUs: 0 }, { kind: 'pressure', sensor: 'mem-used-bytes', value: 2, limit: 1, sinceUs: 0 }]
  let peer: PeerStatus = { peer: 'a', connected: true, verdict: 'alive', seen: '', conditions, flapping: ['web'] }
  const metrics = new Metrics('b', () => ({ status: { fenced: false, servers: [], waitingSessions: 0, peers: [peer] }, damagedSessions: 0, droppedSessions: 0, incidents: { total: 0, unresolved: 0 }, beats: 0 }))
  const text = await metrics.text()
  expect(text).toContain('backdoors_peer_condition{peer="a",server="web",sensor="rss-bytes",node="b"} 1')
  expect(text).toContain('backdoors_peer_condition{peer="a",server="",sensor="mem-used-bytes",node="b"} 1')
  expect(text).toContain('backdoors_peer_flapping{peer="a",subject="web",node="b"} 1')
  peer = { ...peer, conditions: [], flapping: [] }
  expect(await metrics.text()).not.toMatch(/backdoors_peer_(condition|flapping)\{/)
})
