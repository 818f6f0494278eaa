/** Strangers who cannot even speak TLS, by the thousands, at the listener of a daemon: it beats, watches and recovers meanwhile. */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { closing, temporaryFolder } from '../../addon/test/native-fixture.js'
import { enroll } from '../fabric/enrollment/client.js'
import { hello, patienceMs, TestAuthority, welcome } from '../fabric/enrollment/testing/fixtures.js'
import { ShmMemory } from '../fabric/shm/shm-memory.js'
import { readHeader, readSensors } from '../region/region-reader.js'
import { parseConfig, type PeerConfig } from './config.js'
import { Daemon, type OpenFabric } from './daemon.js'
import { osSensorName } from './own-region.js'
import type { PeerFabric } from './peers/peer-fabric.js'
import { loadCredentials, PeerEnrollment } from './peers/peer-enrollment.js'
import { ShmPeers } from './peers/shm-peers.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

const handshakes = 10_000
const perSecond = 10_000
/** More than are ever in their handshake, so that some always wait; not more than wait in a listener's queue. */
const atATime = 500
const malformed = [
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  Buffer.from([0x16, 0x03, 0x01, 0xff, 0xff, 0x01]),
  Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00]),
  Buffer.alloc(4096, 0xa5),
  Buffer.alloc(0),
]

interface Knocked {
  readonly begun: number
  readonly done: number
  readonly ms: number
}

let authority: TestAuthority
beforeAll(async () => void (authority = await TestAuthority.make()))
afterAll(async () => authority.remove())

/**
 * The memory of peers is files, as there may be no RDMA device; peers enroll all the same, by the listener that a daemon on verbs has
 * (`VerbsPeers`), with its limits. What they would be lent is made up.
 */
class EnrollingShmPeers extends ShmPeers implements PeerFabric {
  readonly enrollment: PeerEnrollment

  constructor(cluster: string, enrollment: PeerEnrollment) {
    super(cluster)
    this.enrollment = enrollment
  }

  override setMembers(members: readonly PeerConfig[]): void {
    this.enrollment.setMembers(members)
  }

  override async close(): Promise<void> {
    await this.enrollment.close()
    await super.close()
  }
}

it('is no reason for a daemon to stop beating, nor to leave a dead peer\'s sessions, nor to keep a good peer out', { timeout: 300_000 }, async () => {
  const folder = temporaryFolder()
  const { boxCount, ...sizes } = testGeometry
  const b = new FakeNode('b', join(folder, 'b'), 'shop')
  for (const id of ['u1', 'u2', 'u3']) b.commit(id, 'one apple')
  await authority.keys('a')
  const config = parseConfig({
    node: 'a', cluster: 'shop', region: { path: join(folder, 'a'), boxes: boxCount, ...sizes }, listen: { host: '127.0.0.1', port: 0 }, keys: join(authority.folder, 'nodes', 'a'),
    peers: [{ name: 'b', region: join(folder, 'b') }], watch: { osDeadlineMs: testDeadlineMs, refreshMs: 20 },
  })
  let address = config.listen as { host: string; port: number }
  const openFabric: OpenFabric = async (_, __, log, handlers) => {
    const enrollment = new PeerEnrollment({ config, credentials: await loadCredentials(config), lend: () => welcome, release: () => undefined, handlers, log })
    address = await enrollment.start()
    return new EnrollingShmPeers(config.cluster, enrollment)
  }
  const a = new Daemon(config, pino({ level: 'silent' }), openFabric)
  await a.start()
  const memory = closing(new ShmMemory({ peer: 'a', path: join(folder, 'a') }))
  const header = await readHeader(memory)
  const beats = async (): Promise<number> => (await readSensors(memory, header, [0]))[0]?.sensors.find(({ name }) => name === osSensorName)?.counter ?? NaN
  const announced = () => a.status().incidents.filter(({ peer, outcome }) => peer === 'b' && outcome === 'announced')

  const knocker = new Worker(new URL('./testing/knock.mjs', import.meta.url), { workerData: { address, perSecond, atATime, malformed } })
  let knocked: Knocked = { begun: 0, done: 0, ms: 0 }
  const counters = [await beats()]
  for (let due = 1000; due <= handshakes || announced().length === 0; due += 1000) {
    while (knocked.done < due) [knocked] = (await once(knocker, 'message')) as [Knocked]
    if (due === 1000) b.stop()
    counters.push(await beats())
  }
  knocker.postMessage('stop')
  await once(knocker, 'exit')
  console.info(`${knocked.begun} malformed handshakes, ${Math.round((1000 * knocked.begun) / knocked.ms)} a second (meant: ${perSecond}, as far as this machine comes to it)`)
  for (const [i, counter] of counters.slice(1).entries()) expect(counter).toBeGreaterThan(counters[i] as number)
  expect(announced().map(({ sessions, lost }) => [sessions?.adopted, lost ?? 0])).toEqual([[3, 0]])
  expect(a.status().fenced).toBe(false)
  const connection = await enroll({ address, peer: 'a', credentials: await authority.credentials('b'), cluster: 'shop', hello, timeoutMs: patienceMs })
  expect(connection.welcome).toMatchObject({ incarnation: welcome.incarnation })
  await connection.close()
  await a.close()
  b.close()
})
