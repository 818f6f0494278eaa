/** The commands that ask a daemon, against one in this process. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { DaemonConfigInput } from '../../daemon/config.js'
import { startDaemon, type Daemon } from '../../daemon/daemon.js'
import { attach, type AttachedNode } from '../../servers/attach.js'
import { jsonOf, runCli } from '../testing/run-cli.js'

let folder: string
let a: Daemon
let b: Daemon
let server: AttachedNode
const region = (node: string): string => join(folder, `${node}.region`)

function configOf(node: string, peer: string): DaemonConfigInput {
  return {
    node, log: 'silent', region: { path: region(node), boxes: 4, sessionsPerBox: 256, heapBytes: 1 << 20 },
    peers: [{ name: peer, region: region(peer) }], watch: { osDeadlineMs: 2000 },
  }
}

beforeAll(async () => {
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'backdoors-cli-'))
  a = await startDaemon(configOf('a', 'b'))
  b = await startDaemon(configOf('b', 'a'))
  server = await attach({ region: region('b'), name: 'shop' })
  server.sensor('event-loop', { deadlineMs: 10_000 })
  server.gauge('heap').level(3, 2)
  const carts = server.sessions<{ items: string[] }>('carts', { ttlMs: 3_600_000 })
  for (let i = 0; i < 5; i++) carts.commit(`u-${i}`, { items: ['book'] })
  await vi.waitFor(() => expect(a.status().peers[0]).toMatchObject({ connected: true, servers: [{ name: 'shop', sensors: [{ name: 'event-loop' }] }] }), 10_000)
  await vi.waitFor(() => expect(b.status().servers).toEqual(['shop']), 10_000)
})

afterAll(async () => {
  await server.close()
  await Promise.all([a.close(), b.close()])
  rmSync(folder, { recursive: true })
})

const ask = (command: string): ReturnType<typeof runCli> => runCli([...command.split(' '), '--region', region('a')])

describe('status', () => {
  it('shows the daemon and the verdict on each peer', async () => {
    const { exitCode, stdout } = await ask('status')
    expect(exitCode).toBe(0)
    expect(stdout).toContain(`node a of cluster default`)
    expect(stdout).toMatch(/│ b +│ alive +│ shop /)
  })

  it('as JSON is the daemon\'s own account', async () => {
    expect(jsonOf(await ask('status --json'))).toMatchObject({ node: 'a', region: region('a'), fenced: false, peers: [{ peer: 'b', connected: true, verdict: 'alive' }] })
  })

  it('finds the daemon by its configuration as well', async () => {
    const config = join(folder, 'b.json')
    writeFileSync(config, JSON.stringify({ ...configOf('b', 'a'), region: { path: 'b.region' } }))
    expect(jsonOf(await runCli(['status', '--config', config, '--json']))).toMatchObject({ node: 'b', servers: ['shop'] })
  })

  it('exits with 1 where a peer is not connected', async () => {
    const c = await startDaemon({ ...configOf('c', 'd'), region: { path: region('c'), boxes: 2, sessionsPerBox: 16, heapBytes: 65_536 } })
    try {
      expect(await runCli(['status', '--region', region('c')])).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/│ d +│ not connected/) as string })
    } finally {
      await c.close()
    }
  })
})

describe('sessions', () => {
  it('lists what stands in the peer\'s memory', async () => {
    const { exitCode, stdout } = await ask('sessions b')
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/│ shop +│ carts +│ u-3 +│ \d+ +│ \d+ B +│ 1 +│ (59\.\d min|60\.0 min|1\.0 h) +│/)
    expect(stdout).toMatch(/^5 sessions$/m)
  })

  it('lists as many as are wanted, and counts them all', async () => {
    expect((await ask('sessions b --limit 2')).stdout).toMatch(/^5 sessions, the first 2 listed$/m)
    const listed = jsonOf(await ask('sessions b --limit 2 --json')) as { sessions: unknown[] }
    expect(listed).toMatchObject({ node: 'b', total: 5, sessions: [{ server: 'shop', store: 'carts', schemaVersion: 1 }, {}] })
    expect(listed.sessions).toHaveLength(2)
  })

  it('of a node that is not watched ends with 1 and names those that are', async () => {
    expect(await ask('sessions z')).toMatchObject({ exitCode: 1, stdout: '', stderr: expect.stringMatching(/does not watch z; it watches b\. \(PEER_UNKNOWN\)/) as string })
  })
})

describe('sensors', () => {
  it('shows each sensor and when it moved', async () => {
    const { exitCode, stdout } = await ask('sensors b')
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/│ daemon +│ os +│ progress +│ \d+ +│ \d+ +│ [\d.]+ \S+ ago +│ 2\.0 s +│ +│ +│ moves/)
    expect(stdout).toMatch(/│ shop +│ event-loop +│ progress/)
    expect(stdout).toMatch(/│ shop +│ heap +│ level .*│ 3 +│ 2 +│ over its limit/)
  })

  it('as JSON has the figures', async () => {
    expect(jsonOf(await ask('sensors b --json'))).toMatchObject({ node: 'b', sensors: expect.arrayContaining([expect.objectContaining({ server: 'shop', name: 'heap', value: 3, limit: 2 })]) as unknown[] })
  })
})

describe('a socket that is not answered as it should be', () => {
  let listener: Server | undefined
  afterEach(() => listener?.close())

  async function listenAt(path: string, answer: string): Promise<void> {
    listener = createServer((socket) => socket.once('data', () => socket.end(answer)))
    await new Promise<void>((resolve) => listener?.listen(path, resolve))
  }

  it('and is closed instead: DAEMON_UNAVAILABLE, exit code 3', async () => {
    await listenAt(`${folder}/mute.sock`, '')
    expect(await runCli(['status', '--region', `${folder}/mute`])).toMatchObject({ exitCode: 3, stderr: expect.stringMatching(/closed the connection.*DAEMON_UNAVAILABLE/) as string })
  })

  it('but with garbage: PROTOCOL_ERROR, exit code 1', async () => {
    await listenAt(`${folder}/odd.sock`, 'HTTP/1.1 400 Bad Request\r\n\r\n')
    expect(await runCli(['status', '--region', `${folder}/odd`])).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('(PROTOCOL_ERROR)') as string })
  })
})
