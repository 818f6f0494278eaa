import { once } from 'node:events'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type Socket } from 'socket.io'
import { io, type Socket as Client } from 'socket.io-client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AttachedNode } from '../attach.js'
import { recoveryAdapter, type RecoveryAdapter, type RecoveryAdapterOptions } from './socket.io.js'
import { loneNode, type LoneNode } from './testing/lone-node.js'
import { Switchboard } from './testing/switchboard.js'

let lone: LoneNode
let board: Switchboard
let closers: (() => unknown)[]

beforeEach(async () => {
  lone = await loneNode()
  board = await new Switchboard().open()
  closers = [() => lone.close(), () => board.close()]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

interface Served {
  readonly io: Server
  readonly http: HttpServer
  readonly adapter: RecoveryAdapter
  socket(): Promise<Socket>
}

/** A server whose life is the node's; clients reach it by the board. */
async function serve(node: AttachedNode, options: RecoveryAdapterOptions = {}): Promise<Served> {
  const http = createServer().listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server = new Server(http, { connectionStateRecovery: {}, adapter: recoveryAdapter(node, options), serveClient: false })
  const arrived: Socket[] = []
  server.on('connection', (socket) => void arrived.push(socket))
  closers.push(() => server.close())
  board.lead((http.address() as AddressInfo).port)
  const socket = async (): Promise<Socket> => {
    if (arrived.length === 0) await once(server, 'connection')
    return arrived.shift() as Socket
  }
  return { io: server, http, adapter: server.of('/').adapter as unknown as RecoveryAdapter, socket }
}

interface Listener {
  readonly client: Client
  readonly heard: unknown[]
  /** Resolves when so much was heard in all. */
  until(count: number): Promise<unknown[]>
}

function listen(): Listener {
  const client = io(`http://127.0.0.1:${board.port}`, { transports: ['websocket'], reconnectionDelay: 5, reconnectionDelayMax: 20 })
  const heard: unknown[] = []
  client.on('news', (what: unknown) => void heard.push(what))
  closers.push(() => client.disconnect())
  const until = async (count: number): Promise<unknown[]> => {
    while (heard.length < count) await new Promise((resolve) => client.once('news', resolve))
    return heard
  }
  return { client, heard, until }
}

/** The server dies: its sockets get no farewell, and nothing that it does from now on counts. */
async function die(): Promise<AttachedNode> {
  board.lead(undefined)
  return await lone.restart()
}

describe('a client of Socket.IO whose server dies', () => {
  it('recovers at the next one: its rooms, its data, and what it has missed, in order and once', async () => {
    const first = await serve(lone.node)
    const { client, heard, until } = listen()
    const socket = await first.socket()
    socket.data = { user: 'ann' }
    await socket.join('sports')
    const { id } = socket
    first.io.to('sports').emit('news', 1)
    await until(1)
    board.lead(undefined)
    for (const what of [2, 3]) first.io.to('sports').emit('news', what)
    first.io.to('weather').emit('news', 'not for it')
    first.io.except('sports').emit('news', 'not for it')
    socket.emit('news', 4)
    const second = await serve(await lone.restart())
    second.io.to('sports').emit('news', 5)
    board.lead((second.http.address() as AddressInfo).port)
    const recovered = await second.socket()
    expect([recovered.recovered, recovered.id, recovered.data, [...recovered.rooms].sort()]).toEqual([true, id, { user: 'ann' }, [id, 'sports'].sort()])
    second.io.to('sports').emit('news', 6)
    expect(await until(6)).toEqual([1, 2, 3, 4, 5, 6])
    expect(client.recovered).toBe(true)
    expect(heard).toHaveLength(6)
  })

  it('recovers again and again', async () => {
    let served = await serve(lone.node)
    const { until } = listen()
    for (let life = 1; life <= 3; life++) {
      const socket = await served.socket()
      expect(socket.recovered).toBe(life > 1)
      socket.emit('news', life)
      await until(2 * life - 1)
      board.lead(undefined)
      served.io.emit('news', `missed in ${life}`)
      served = await serve(await die())
    }
    expect(await until(6)).toEqual([1, 'missed in 1', 2, 'missed in 2', 3, 'missed in 3'])
  })

  it('recovers where it was cut off and comes back to the very same server', async () => {
    const { io: server, http, socket } = await serve(lone.node)
    const { until } = listen()
    ;(await socket()).emit('news', 1)
    await until(1)
    board.lead(undefined)
    server.emit('news', 2)
    board.lead((http.address() as AddressInfo).port)
    expect((await socket()).recovered).toBe(true)
    expect(await until(2)).toEqual([1, 2])
  })

  it('is given bytes as bytes', async () => {
    const first = await serve(lone.node)
    const { until } = listen()
    ;(await first.socket()).emit('news', 1)
    await until(1)
    board.lead(undefined)
    first.io.emit('news', Buffer.from([1, 2, 250]))
    await serve(await die())
    expect((await until(2))[1]).toEqual(Buffer.from([1, 2, 250]))
  })

  it('has its data as they were saved', async () => {
    const first = await serve(lone.node)
    const { until } = listen()
    const socket = await first.socket()
    socket.emit('news', 1)
    await until(1)
    socket.data = { score: 7 }
    first.adapter.save(socket)
    expect((await (await serve(await die())).socket()).data).toEqual({ score: 7 })
  })
})

describe('a client of Socket.IO does not recover, and starts anew,', () => {
  it('where it has left by itself', async () => {
    const first = await serve(lone.node)
    const { client, until } = listen()
    const socket = await first.socket()
    socket.emit('news', 1)
    await until(1)
    const left = once(socket, 'disconnect')
    client.disconnect()
    await left
    expect([...lone.node.sessions('socket.io').ids()].filter((id) => id.startsWith('s/'))).toEqual([])
    client.connect()
    expect((await first.socket()).recovered).toBe(false)
  })

  it('where it has missed more than is kept', async () => {
    const first = await serve(lone.node, { maxPackets: 3 })
    const { until } = listen()
    ;(await first.socket()).emit('news', 1)
    await until(1)
    board.lead(undefined)
    for (let i = 0; i < 4; i++) first.io.emit('news', `missed ${i}`)
    expect([...lone.node.sessions('socket.io').ids()].filter((id) => id.startsWith('p/'))).toHaveLength(3)
    const second = await serve(await die())
    expect((await second.socket()).recovered).toBe(false)
  })

  it.each(['', 'x', 'x.1', '!.1', '../../..', `${'a'.repeat(100)}.1`])('where it says %j for what it has heard last', async (offset) => {
    const { adapter, socket } = await serve(lone.node)
    listen()
    const { pid } = (await socket()) as unknown as { pid: string }
    expect(await adapter.restoreSession(pid, offset)).toBeNull()
    expect(await adapter.restoreSession('nobody', offset)).toBeNull()
  })

  it('where a packet is missing, until that comes over', async () => {
    const first = await serve(lone.node)
    const { until } = listen()
    const socket = await first.socket()
    const { pid } = socket as unknown as { pid: string }
    const store = lone.node.sessions<{ kind: string }>('socket.io')
    socket.emit('news', 1)
    await until(1)
    const offset = [...store.ids()].find((id) => id.startsWith('p/'))?.slice(2) ?? ''
    first.io.emit('news', 2)
    const missing = [...store.ids()].filter((id) => id.startsWith('p/')).at(-1) ?? ''
    const packet = store.get(missing) as { kind: string }
    store.delete(missing)
    expect(await first.adapter.restoreSession(pid, offset)).toBeNull()
    const second = await serve(lone.node, { waitMs: 60_000 })
    const restoring = second.adapter.restoreSession(pid, offset)
    store.commit(missing, packet)
    store.emit('adopted', { from: 'b', ids: [] })
    expect(await restoring).toMatchObject({ pid, sid: socket.id, missedPackets: [['news', 2, expect.any(String)]] })
  })
})

describe('the adapter of Socket.IO', () => {
  it('sends nothing, and says so, once the server is fenced; who comes then is sent away', async () => {
    const { io: server, socket } = await serve(lone.node)
    const { client, heard, until } = listen()
    ;(await socket()).emit('news', 1)
    await until(1)
    lone.fence()
    expect(() => server.emit('news', 2)).toThrow(expect.objectContaining({ code: 'FENCED' }) as Error)
    await new Promise<void>((resolve) => {
      client.once('disconnect', () => resolve())
      client.io.engine.close()
    })
    // It comes back to the same server, which cannot keep its rooms.
    await new Promise<void>((resolve) => client.io.once('close', () => resolve()))
    expect(heard).toEqual([1])
  })

  it('is refused to a server that recovers nothing', () => {
    const adapter = recoveryAdapter(lone.node)
    expect(() => new Server({ adapter: adapter as never })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
  })
})
