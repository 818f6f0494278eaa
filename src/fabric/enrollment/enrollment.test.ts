import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { revokeNode } from '../../keys/index.js'
import { enroll } from './client.js'
import type { EnrolledConnection } from './client.js'
import type { ControlConnection } from './control-connection.js'
import { Credentials } from './credentials.js'
import { cluster, eventually, hello, TestAuthority, TestServer, welcome } from './testing/fixtures.js'

let authority: TestAuthority
let lender: Credentials
let watcher: Credentials
beforeAll(async () => {
  authority = await TestAuthority.make()
  lender = await authority.credentials('db-1')
  watcher = await authority.credentials('web-1')
})
afterAll(async () => authority.remove())

let node: TestServer
const open: { close(): Promise<void> }[] = []
beforeEach(async () => {
  node = await new TestServer(lender, ['web-1', 'web-2']).start()
  open.push(node.server)
})
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()))
})

async function startServer(...args: ConstructorParameters<typeof TestServer>): Promise<TestServer> {
  const server = await new TestServer(...args).start()
  open.push(server.server)
  return server
}

async function enrolled(server = node, credentials = watcher): Promise<{ here: EnrolledConnection; there: ControlConnection }> {
  const arrival = once(server.server, 'enrolled')
  const here = await enroll(server.toEnroll(credentials))
  open.push(here)
  const [, there] = (await arrival) as [string, ControlConnection]
  return { here, there }
}

describe('a peer that may enroll', () => {
  test('is lent memory, and both ends know each other by certificate', async () => {
    const { here, there } = await enrolled()
    expect(here.welcome).toEqual({ node: 'db-1', ...welcome })
    expect([here.peer, there.peer]).toEqual(['db-1', 'web-1'])
    expect([...node.server.connections.keys()]).toEqual(['web-1'])
    expect(node.refusals).toEqual([])
  })

  test('gives the lender its endpoints', async () => {
    const lend = vi.fn(() => Promise.resolve(welcome))
    const server = await startServer(lender, ['web-1'], { lend })
    await enrolled(server)
    expect(lend).toHaveBeenCalledWith('web-1', hello, expect.any(AbortSignal))
  })

  test('over shared memory is told the path instead', async () => {
    const { windows, incarnation, layoutVersion, regionLength } = welcome
    const shm = { fabric: 'shm', path: '/dev/shm/region', windows, incarnation, layoutVersion, regionLength } as const
    const server = await startServer(lender, ['web-1'], { lend: () => Promise.resolve(shm) })
    const here = await enroll(server.toEnroll(watcher, { hello: { fabric: 'shm' } }))
    open.push(here)
    expect(here.welcome).toEqual({ node: 'db-1', ...shm })
  })

  test('that comes again replaces its old connection, whose loan is taken back first', async () => {
    const signals: AbortSignal[] = []
    const abortedAtLend: boolean[][] = []
    const server = await startServer(lender, ['web-1'], {
      lend: (_peer, _hello, signal) => {
        abortedAtLend.push(signals.map((earlier) => earlier.aborted))
        signals.push(signal)
        return Promise.resolve(welcome)
      },
    })
    const first = await enrolled(server)
    const second = await enrolled(server)
    expect(await first.there.closed).toMatchObject({ reason: 'dismissed', by: 'us' })
    expect(await first.here.closed).toMatchObject({ reason: 'reset', by: 'peer' })
    expect(server.server.connections.get('web-1')).toBe(second.there)
    expect(abortedAtLend).toEqual([[], [true]])
    expect(signals.map((signal) => signal.aborted)).toEqual([true, false])
  })
})

describe('what is lent', () => {
  let signal: AbortSignal
  let server: TestServer
  const lend = (_peer: string, _hello: unknown, lifetime: AbortSignal): Promise<typeof welcome> => {
    signal = lifetime
    return Promise.resolve(welcome)
  }
  beforeEach(async () => {
    server = await startServer(lender, ['web-1'], { lend })
  })

  test('stays lent when the connection is lost, as the peer may be reading, until it enrolls anew', async () => {
    const { here, there } = await enrolled(server)
    const first = signal
    here.dismiss('as if it had died')
    expect(await there.closed).toMatchObject({ reason: 'reset' })
    expect(first.aborted).toBe(false)
    await enrolled(server)
    expect([first.aborted, signal.aborted]).toEqual([true, false])
  })

  test('is taken back when the peer says bye', async () => {
    const { here, there } = await enrolled(server)
    await here.close()
    await there.closed
    expect(signal.reason).toMatchObject({ code: 'CLOSED', details: { peer: 'web-1' } })
  })

  test.each([
    [
      'struck from the list',
      async () => {
        server.peers.clear()
        server.server.recheckPeers()
        return Promise.resolve()
      },
    ],
    [
      'revoked',
      async () => {
        await revokeNode(authority.folder, watcher.keys.serial)
        lender.replace(await authority.reload('db-1'))
      },
    ],
    ['left by a node that shuts down', async () => server.server.close()],
  ])('is taken back from a lost peer that is %s', async (_, act) => {
    const { here, there } = await enrolled(server)
    here.dismiss('as if it had died')
    await there.closed
    await act()
    expect(signal.aborted).toBe(true)
    watcher = await authority.credentials('web-1')
  })

  test('is taken back when the peer goes before it is enrolled', async () => {
    const hanging = await startServer(lender, ['web-1'], { lend: (...args) => lend(...args).then(() => new Promise(() => undefined)), limits: { handshakeTimeoutMs: 200 } })
    await expect(enroll(hanging.toEnroll(watcher))).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED' })
    expect(signal.reason).toMatchObject({ code: 'HANDSHAKE_TIMEOUT' })
  })
})

describe('a peer that is known is told why it is refused', () => {
  test.each([
    ['another cluster', { cluster: 'other' }, 'cluster'],
    ['another fabric', { hello: { fabric: 'shm' } as const }, 'fabric'],
  ])('%s', async (_, options, refusal) => {
    await expect(enroll(node.toEnroll(watcher, options))).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED', details: { peer: 'db-1', field: refusal } })
    expect(node.refusals).toEqual(['HANDSHAKE_REFUSED'])
    await enrolled()
  })

  test('the lender has nothing left, and what was begun is taken back', async () => {
    let signal!: AbortSignal
    const server = await startServer(lender, ['web-1'], {
      lend: (_peer, _hello, lifetime) => {
        signal = lifetime
        return Promise.reject(new BackdoorsError('MEMLOCK_LIMIT', 'no more memory to lock'))
      },
    })
    await expect(enroll(server.toEnroll(watcher))).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED', message: expect.stringContaining('no more memory to lock') as string, details: { field: 'lend' } })
    await eventually(() => expect(signal.aborted).toBe(true))
    expect(server.refusals).toEqual(['MEMLOCK_LIMIT'])
  })
})

describe('a client learns what is wrong with the other end', () => {
  test('another node stands at the address', async () => {
    // Its server name would not be answered, so this node answers to the other's.
    const impostor = await startServer(await authority.credentials('db-2'), ['web-1'])
    vi.spyOn(impostor.credentials, 'knocks', 'get').mockReturnValue(lender.knocks)
    await expect(enroll({ ...impostor.toEnroll(watcher), peer: 'db-1' })).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
      message: expect.stringContaining('is that of db-2, not of db-1') as string,
      details: { peer: 'db-1' },
    })
  })

  test('another node at the address does not even answer to a name that is not its own', async () => {
    const other = await startServer(await authority.credentials('db-2'), ['web-1'])
    await expect(enroll({ ...other.toEnroll(watcher), peer: 'db-1' })).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED', details: { peer: 'db-1' } })
  })

  test('its certificate is from a foreign authority', async () => {
    const foreign = await TestAuthority.make()
    try {
      const impostor = await startServer(await foreign.credentials('db-1'), ['web-1'])
      vi.spyOn(impostor.credentials, 'knocks', 'get').mockReturnValue(lender.knocks)
      await expect(enroll({ ...impostor.toEnroll(watcher) })).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', details: { peer: 'db-1' } })
    } finally {
      await foreign.remove()
    }
  })

  test('its certificate has expired', async () => {
    const before = new Date(Date.now() - 10 * 86_400_000)
    const expired = new Credentials(await authority.keys('db-3', { days: 1, now: before }))
    const server = await startServer(expired, ['web-1'])
    await expect(enroll(server.toEnroll(watcher))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringContaining('expired') as string })
  })

  test('nothing listens there', async () => {
    await node.server.close()
    await expect(enroll(node.toEnroll(watcher))).rejects.toMatchObject({ code: 'PEER_UNREACHABLE', details: { peer: 'db-1', errnoName: 'ECONNREFUSED' } })
  })

  test.each([
    ['garbage', 'PROTOCOL_ERROR', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['nothing but an end', 'HANDSHAKE_REFUSED', undefined],
  ])('it answers %s', async (_, code, bytes) => {
    const server = createServer((socket) => void socket.on('error', () => undefined).end(bytes ?? '')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    await expect(enroll({ ...node.toEnroll(watcher), address: { host: '127.0.0.1', port } })).rejects.toMatchObject({ code, details: { peer: 'db-1' } })
    server.close()
  })

  test('it takes the connection and says nothing', async () => {
    const server = createServer(() => undefined).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const options = { ...node.toEnroll(watcher), address: { host: '127.0.0.1', port }, timeoutMs: 50 }
    await expect(enroll(options)).rejects.toMatchObject({ code: 'HANDSHAKE_TIMEOUT', details: { peer: 'db-1' } })
    server.close()
  })

  test('it says nothing after TLS is up', async () => {
    const server = await startServer(lender, ['web-1'], { lend: () => new Promise(() => undefined) })
    await expect(enroll(server.toEnroll(watcher, { timeoutMs: 100 }))).rejects.toMatchObject({ code: 'HANDSHAKE_TIMEOUT' })
    await eventually(() => expect(server.refusals).toEqual(['HANDSHAKE_REFUSED']))
  })

  test('or that it has given up itself', async () => {
    const given = AbortSignal.abort()
    await expect(enroll(node.toEnroll(watcher, { signal: given }))).rejects.toMatchObject({ code: 'CLOSED' })
    const giving = new AbortController()
    const server = await startServer(lender, ['web-1'], {
      lend: () => {
        giving.abort()
        return new Promise(() => undefined)
      },
    })
    await expect(enroll(server.toEnroll(watcher, { signal: giving.signal }))).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('a hello that breaks the bounds is not sent', async () => {
    const endpoints = { sampling: { ...hello, qpn: -1 }, recovery: {} } as never
    await expect(enroll(node.toEnroll(watcher, { hello: { fabric: 'verbs', endpoints } }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('the server', () => {
  test('says where it listens, and that a port is taken', async () => {
    const second = new TestServer(lender, [], { listen: { host: '127.0.0.1', port: node.address.port } })
    await expect(second.server.start()).rejects.toMatchObject({ code: 'SYSTEM_CALL_FAILED', details: { errnoName: 'EADDRINUSE' } })
  })

  test('closes with a word to its peers, twice if asked, and does not start again', async () => {
    const { here, there } = await enrolled()
    await Promise.all([node.server.close(), node.server.close()])
    expect(await here.closed).toMatchObject({ reason: 'closed-orderly', by: 'peer', detail: 'shutting down' })
    expect(await there.closed).toMatchObject({ reason: 'closed-orderly', by: 'us' })
    await expect(node.server.start()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('closes with connections in every stage', async () => {
    const half = connectTcp(node.address)
    half.on('error', () => undefined)
    await once(half, 'connect')
    await enrolled()
    await node.server.close()
    if (!half.destroyed) await once(half, 'close')
  })

  test('lets a peer go that is struck from the list', async () => {
    const { here, there } = await enrolled()
    node.peers.delete('web-1')
    node.server.recheckPeers()
    expect(await there.closed).toMatchObject({ reason: 'dismissed' })
    expect(await here.closed).toMatchObject({ reason: 'reset' })
    await expect(enroll(node.toEnroll(watcher))).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED' })
  })

  test('cannot have a cluster without a proper name', () => {
    expect(() => new TestServer(lender, [], { cluster: 'NO NAME' })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
    expect(cluster).toBe('shop')
  })
})
