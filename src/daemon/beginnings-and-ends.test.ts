/** Recoveries that fail at first, regions that must not be taken away or left behind, and daemons that have left. */
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RecoveryReport } from '../recovery/recover.js'
import { attach } from '../servers/attach.js'
import type { DaemonConfigInput } from './config.js'
import { startDaemon, type Daemon } from './daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

let folder: string
const closers: (() => Promise<void> | void)[] = []
const pathOf = (node: string): string => join(folder, node)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-daemon-'))
})

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

const { boxCount, ...sizes } = testGeometry
const config = (more: Partial<DaemonConfigInput> = {}): DaemonConfigInput => ({
  node: 'b', cluster: 'test', log: 'silent',
  region: { path: pathOf('b'), boxes: boxCount, ...sizes },
  peers: [{ name: 'a', region: pathOf('a') }],
  watch: { peers: 3, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
  ...more,
})

async function start(more?: Partial<DaemonConfigInput>): Promise<Daemon> {
  const daemon = await startDaemon(config(more))
  closers.push(() => daemon.close())
  return daemon
}

/** Says no when it is run first, and yes from then on. */
const refusesOnce = `const fs = require('node:fs'); const path = process.argv[1]; if (!fs.existsSync(path)) { fs.writeFileSync(path, ''); process.exit(1) }`

describe('a recovery that failed', () => {
  it('is tried again as long as the verdict stands', { timeout: 30_000 }, async () => {
    const a = new FakeNode('a', pathOf('a'))
    closers.push(() => a.close())
    a.commit('u1', 'one apple')
    const fence = { command: [process.execPath, '-e', refusesOnce, join(folder, 'asked')], required: true, timeoutMs: 20_000 }
    const b = await start({ recovery: { fence } })
    while ((b.status().peers[0]?.servers?.[0]?.sensors.length ?? 0) === 0) await new Promise(setImmediate)
    const failed = once(b, 'failed')
    const recovered = once(b, 'recovered')
    a.stop()
    expect((await failed)[2]).toMatchObject({ code: 'FENCE_FAILED' })
    expect(((await recovered) as [RecoveryReport])[0]).toMatchObject({ peer: 'a', outcome: 'announced', adopted: 1 })
  })
})

describe('a daemon that cannot start', () => {
  it('leaves no region behind that it has made', async () => {
    const busy = createServer().listen(0, '127.0.0.1')
    await once(busy, 'listening')
    closers.push(() => void busy.close())
    const { port } = busy.address() as AddressInfo
    await expect(startDaemon(config({ metrics: { host: '127.0.0.1', port } }))).rejects.toMatchObject({ message: expect.stringContaining('EADDRINUSE') as string })
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('a daemon that has ended in order', () => {
  it('is seen as left, whose servers go on unwatched', async () => {
    const a = await startDaemon({ ...config(), node: 'a', region: { path: pathOf('a'), boxes: boxCount, ...sizes }, peers: [] })
    const b = await start()
    while (b.status().peers[0]?.connected !== true) await new Promise(setImmediate)
    expect(b.status().peers[0]).toMatchObject({ verdict: 'alive' })
    await a.close()
    while (b.status().peers[0]?.verdict === 'alive') await new Promise(setImmediate)
    expect(b.status().peers[0]).toMatchObject({ verdict: 'left', seen: 'its daemon has ended in order' })
  })
})

describe('a daemon whose region has other sizes than its configuration', () => {
  it('refuses to start while a server is attached, and makes a new region when it is gone', async () => {
    const first = await start()
    const server = await attach({ region: pathOf('b'), name: 'web' })
    closers.push(() => server.close())
    await first.close()
    const larger = { region: { path: pathOf('b'), boxes: boxCount + 1, ...sizes } }
    await expect(startDaemon(config(larger))).rejects.toMatchObject({ code: 'BOX_IN_USE', details: { path: pathOf('b'), box: 1 } })
    await server.close()
    expect((await start(larger)).status()).toMatchObject({ node: 'b' })
  })
})
