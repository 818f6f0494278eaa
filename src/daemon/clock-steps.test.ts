/** Nothing that is decided hangs on the time of day, which an operator or NTP may set to anything. */
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { temporaryFolder, until } from '../../addon/test/native-fixture.js'
import { startDaemon } from './daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

const tenYearsMs = 10 * 365 * 24 * 3_600_000

afterEach(() => void vi.useRealTimers())

it('clock steps of years, to and fro, raise no suspicion, end no session, and hinder no recovery', { timeout: 60_000 }, async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const folder = temporaryFolder()
  const { boxCount, ...sizes } = testGeometry
  const b = new FakeNode('b', join(folder, 'b'))
  const carts = b.server.sessions.store('carts')
  b.server.sessions.commit(carts, 'u1', Buffer.from('one apple'), { ttlMs: 3_600_000, schemaVersion: 1 })
  const a = await startDaemon({
    node: 'a', cluster: 'test', log: 'silent', region: { path: join(folder, 'a'), boxes: boxCount, ...sizes },
    peers: [{ name: 'b', region: join(folder, 'b') }], watch: { intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
  })
  const rounds = (): number => a.status().peers[0]?.rounds ?? 0
  for (const step of [tenYearsMs, -2 * tenYearsMs, tenYearsMs, 1]) {
    vi.setSystemTime(Date.now() + step)
    const before = rounds()
    // Longer than every deadline there is, in rounds of the watcher.
    await until('rounds after the step', () => rounds() > before + 1000)
    expect(a.status()).toMatchObject({ fenced: false, incidents: [], history: [], peers: [{ peer: 'b', verdict: 'alive' }] })
    expect(b.server.sessions.get(carts, 'u1')?.payload).toEqual(Uint8Array.from(Buffer.from('one apple')))
  }
  vi.setSystemTime(Date.now() - tenYearsMs)
  b.stop()
  await until('the recovery', () => a.status().incidents.some(({ outcome }) => outcome === 'announced'))
  expect(a.status().incidents).toMatchObject([{ peer: 'b', outcome: 'announced', sessions: { adopted: 1 } }])
  expect(a.status().waitingSessions).toBe(1)
  await a.close()
  b.close()
})
