/** Strangers who cannot even speak TLS, by the thousands: the process that they knock at beats, watches and recovers meanwhile. */
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { closing, temporaryFolder } from '../../addon/test/native-fixture.js'
import { enroll } from '../fabric/enrollment/client.js'
import { TestAuthority, TestServer } from '../fabric/enrollment/testing/fixtures.js'
import { ShmMemory } from '../fabric/shm/shm-memory.js'
import { readHeader, readSensors } from '../region/region-reader.js'
import { startDaemon } from './daemon.js'
import { osSensorName } from './own-region.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

const handshakes = 10_000
const atATime = 200
const malformed = [
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  Buffer.from([0x16, 0x03, 0x01, 0xff, 0xff, 0x01]),
  Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00]),
  Buffer.alloc(4096, 0xa5),
  Buffer.alloc(0),
]

let authority: TestAuthority
beforeAll(async () => void (authority = await TestAuthority.make()))
afterAll(async () => authority.remove())

/** Resolves when the node has done with it. */
function knock(address: { host: string; port: number }, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(address, () => socket.end(bytes))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.resume()
  })
}

it('is no reason to stop beating, nor to leave a dead peer\'s sessions, nor to keep a good peer out', { timeout: 300_000 }, async () => {
  const folder = temporaryFolder()
  const { boxCount, ...sizes } = testGeometry
  const b = new FakeNode('b', join(folder, 'b'))
  for (const id of ['u1', 'u2', 'u3']) b.commit(id, 'one apple')
  const a = await startDaemon({
    node: 'a', cluster: 'test', log: 'silent', region: { path: join(folder, 'a'), boxes: boxCount, ...sizes },
    peers: [{ name: 'b', region: join(folder, 'b') }], watch: { osDeadlineMs: testDeadlineMs, refreshMs: 20 },
  })
  const server = await new TestServer(await authority.credentials('db-1'), ['web-1']).start()
  const memory = closing(new ShmMemory({ peer: 'a', path: join(folder, 'a') }))
  const header = await readHeader(memory)
  const beats = async (): Promise<number> => (await readSensors(memory, header, [0]))[0]?.sensors.find(({ name }) => name === osSensorName)?.counter ?? NaN
  const counters = [await beats()]
  const announced = () => a.status().incidents.filter(({ peer, outcome }) => peer === 'b' && outcome === 'announced')
  for (let made = 0; made < handshakes || announced().length === 0; made += atATime) {
    if (made === 1000) b.stop()
    await Promise.all(Array.from({ length: atATime }, (_, i) => knock(server.address, malformed[i % malformed.length] as Buffer)))
    if (made % 2000 === 0) counters.push(await beats())
  }
  for (const [i, counter] of counters.slice(1).entries()) expect(counter).toBeGreaterThan(counters[i] as number)
  expect(announced().map(({ sessions, lost }) => [sessions?.adopted, lost ?? 0])).toEqual([[3, 0]])
  expect(a.status().fenced).toBe(false)
  const connection = await enroll(server.toEnroll(await authority.credentials('web-1')))
  expect(server.server.connections.has('web-1')).toBe(true)
  await connection.close()
  await server.server.close()
  await a.close()
  b.close()
})
