import { EventEmitter, once } from 'node:events'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type ServerOptions, type Socket } from 'socket.io'
import { io, type Socket as Client } from 'socket.io-client'
import { beforeEach, describe, expect, it } from 'vitest'
import type { AttachedNode } from '../attach.js'
import { recoveryAdapter, type RecoveryAdapter, type RecoveryAdapterOptions } from './socket.io.js'
import { loneNodeEach } from './testing/lone-node-each.js'
import { Switchboard } from './testing/switchboard.js'

const { lone, closers } = loneNodeEach()
let board: Switchboard

beforeEach(async () => {
  board = await new Switchboard().open()
  closers.push(() => board.close())
})

interface Served {
  readonly io: Server
  readonly http: HttpServer
  readonly adapter: RecoveryAdapter
  socket(): Promise<Socket>
}

/** A server whose life is the node's; clients reach it by the board. */
async function serve(node: AttachedNode, options: RecoveryAdapterOptions = {}, connectionStateRecovery: ServerOptions['connectionStateRecovery'] = {}): Promise<Served> {
  const http = createServer().listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server = new Server(http, { connectionStateRecovery, adapter: recoveryAdapter(node, options), serveClient: false })
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

/** @param auth what it says of itself when it connects at first, in the place of what it knows by itself */
function listen(auth: { readonly pid?: string; readonly offset?: string } = {}): Listener {
  let says = auth
  const client = io(`http://127.0.0.1:${board.port}`, { transports: ['websocket'], reconnectionDelay: 5, reconnectionDelayMax: 20, auth: (tell: (of: object) => void) => tell(says) })
  client.once('connect', () => (says = {}))
  const heard: unknown[] = []
  client.on('news', (what: unknown) => void heard.push(what))
  closers.push(() => client.disconnect())
  const until = async (count: number): Promise<unknown[]> => {
    while (heard.length < count) await new Promise((resolve) => client.once('news', resolve))
    return heard
  }
  return { client, heard, until }
}

/** What a client says of itself to recover. */
function stateOf(client: Client): { pid: string; offset: string } {
  const { _pid: pid, _lastOffset: offset } = client as unknown as { _pid: string; _lastOffset: string }
  return { pid, offset }
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

describe('a client of Socket.IO that comes back before its server knows that it was gone', () => {
  it('recovers, and its old connection is closed and takes nothing from it', async () => {
    const first = await serve(lone.node)
    const old = listen()
    const oldSocket = await first.socket()
    await oldSocket.join('sports')
    oldSocket.emit('news', 1)
    await old.until(1)
    old.client.io.reconnection(false)
    const closed = Promise.all([once(oldSocket, 'disconnect'), new Promise((resolve) => old.client.once('disconnect', resolve))])
    const { client, until } = listen(stateOf(old.client))
    const socket = await first.socket()
    expect([socket.recovered, socket.id]).toEqual([true, oldSocket.id])
    expect(await closed).toEqual([['forced close', undefined], 'transport close'])
    first.io.to('sports').emit('news', 2)
    socket.emit('news', 3)
    expect(await until(2)).toEqual([2, 3])
    expect(old.heard).toEqual([1])
    board.lead(undefined)
    first.io.to('sports').emit('news', 4)
    const recovered = await (await serve(await die())).socket()
    expect([recovered.recovered, [...recovered.rooms].sort()]).toEqual([true, [socket.id, 'sports'].sort()])
    expect(await until(3)).toEqual([2, 3, 4])
    expect(client.recovered).toBe(true)
  })

  it('has what was sent as its old connection ended', async () => {
    const first = await serve(lone.node)
    const old = listen()
    const oldSocket = await first.socket()
    oldSocket.emit('news', 1)
    await old.until(1)
    old.client.io.reconnection(false)
    oldSocket.on('disconnect', () => first.io.emit('news', 'somebody left'))
    const { until } = listen(stateOf(old.client))
    expect((await first.socket()).recovered).toBe(true)
    expect(await until(1)).toEqual(['somebody left'])
  })

  it('starts anew where one that has recovered the same is about to be let in', async () => {
    const first = await serve(lone.node, { waitMs: 60_000 }, { skipMiddlewares: false })
    const { client, until } = listen()
    ;(await first.socket()).emit('news', 1)
    await until(1)
    client.io.reconnection(false)
    const letIn: (() => void)[] = []
    const asked = new EventEmitter()
    first.io.use((_socket, next) => {
      letIn.push(next)
      asked.emit('asked')
    })
    const comes = async (): Promise<Listener> => {
      const isAsked = once(asked, 'asked')
      const listener = listen(stateOf(client))
      await isAsked
      return listener
    }
    const [one, other] = [await comes(), await comes()]
    letIn.forEach((next) => next())
    const sockets = [await first.socket(), await first.socket()]
    expect(sockets.map(({ recovered }) => recovered)).toEqual([true, false])
    expect(new Set(sockets.map(({ id }) => id)).size).toBe(2)
    first.io.emit('news', 2)
    expect([await one.until(1), await other.until(1)]).toEqual([[2], [2]])
  })
})

describe('a client of Socket.IO has no gap', () => {
  it('where others are let in, and are told of, between its recovery and its own being let in', async () => {
    const first = await serve(lone.node)
    const listeners = [listen(), listen(), listen()]
    for (const _ of listeners) await first.socket()
    first.io.emit('news', 'first')
    for (const { until } of listeners) await until(1)
    board.lead(undefined)
    const node = await lone.restart()
    const store = node.sessions('socket.io')
    const records = [...store.ids()].map((id) => [id, store.get(id) as never] as const)
    for (const [id] of records) store.delete(id)
    const second = await serve(node, { waitMs: 60_000 })
    second.io.on('connection', (socket) => second.io.emit('news', socket.id))
    const waiting = new EventEmitter()
    let count = 0
    const restore = second.adapter.restoreSession.bind(second.adapter)
    second.adapter.restoreSession = (...of) => {
      if (++count === listeners.length) waiting.emit('all')
      return restore(...of)
    }
    if (count < listeners.length) await once(waiting, 'all')
    for (const [id, record] of records) store.commit(id, record)
    store.emit('adopted', { from: 'a', ids: records.map(([id]) => id) })
    const sockets = [await second.socket(), await second.socket(), await second.socket()]
    expect(sockets.map(({ recovered }) => recovered)).toEqual([true, true, true])
    const told = ['first', ...sockets.map(({ id }) => id)]
    for (const { until } of listeners) expect(await until(4)).toEqual(told)
  })

  it('where middleware takes its time', async () => {
    const first = await serve(lone.node)
    const { client, until } = listen()
    const socket = await first.socket()
    await socket.join('sports')
    socket.emit('news', 1)
    await until(1)
    const second = await serve(await die(), {}, { skipMiddlewares: false })
    second.io.use((_socket, next) => {
      second.io.emit('news', 2)
      second.io.to('weather').emit('news', 'not for it')
      second.io.to('sports').emit('news', 3)
      setImmediate(next)
    })
    const again = await second.socket()
    second.io.emit('news', 4)
    expect(await until(4)).toEqual([1, 2, 3, 4])
    expect([again.recovered, client.recovered]).toEqual([true, true])
  })

  it('where more was sent meanwhile than is kept: it is sent away, and starts anew', async () => {
    const first = await serve(lone.node)
    const { client, until } = listen()
    ;(await first.socket()).emit('news', 1)
    await until(1)
    const second = await serve(await die(), { maxPackets: 2 }, { skipMiddlewares: false })
    let sent = false
    second.io.use((_socket, next) => {
      if (!sent) for (const missed of ['a', 'b', 'c']) second.io.emit('news', missed)
      sent = true
      next()
    })
    const sentAway = await second.socket()
    expect(sentAway.recovered).toBe(true)
    expect(await once(sentAway, 'disconnect')).toEqual(['forced close', undefined])
    const anew = await second.socket()
    expect(anew.recovered).toBe(false)
    expect([...second.io.sockets.sockets.keys()]).toEqual([anew.id])
    second.io.emit('news', 2)
    expect(await until(2)).toEqual([1, 2])
    expect(client.recovered).toBe(false)
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

  it.each([['what Socket.IO cannot write', ['news', 2n]], ['no list', 7]])('where a packet that came over is %s', async (_what, data) => {
    const first = await serve(lone.node)
    const { until } = listen()
    ;(await first.socket()).emit('news', 1)
    await until(1)
    board.lead(undefined)
    first.io.emit('news', 'missed')
    const node = await die()
    const store = node.sessions<object>('socket.io')
    const missed = [...store.ids()].filter((id) => id.startsWith('p/')).at(-1) ?? ''
    store.commit(missed, { ...store.get(missed), data })
    const second = await serve(node)
    expect((await second.socket()).recovered).toBe(false)
    second.io.emit('news', 2)
    expect(await until(2)).toEqual([1, 2])
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
    expect(server.sockets.sockets.size).toBe(0)
    expect(heard).toEqual([1])
  })

  it('sends nothing, and keeps nothing to be sent, where the data of its socket cannot be kept', async () => {
    const { io: server, socket } = await serve(lone.node)
    const { until } = listen()
    const spoken = await socket()
    spoken.emit('news', 1)
    await until(1)
    const data: { self?: unknown } = {}
    data.self = data
    spoken.data = data
    const packets = (): string[] => [...lone.node.sessions('socket.io').ids()].filter((id) => id.startsWith('p/'))
    const before = packets()
    expect(() => spoken.emit('news', 'not sent')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
    expect(packets()).toEqual(before)
    spoken.data = {}
    server.emit('news', 2)
    expect(await until(2)).toEqual([1, 2])
    board.lead(undefined)
    const second = await serve(await die())
    expect((await second.socket()).recovered).toBe(true)
    second.io.emit('news', 3)
    expect(await until(3)).toEqual([1, 2, 3])
  })

  it('keeps nothing that Socket.IO cannot write', async () => {
    const { io: server, socket } = await serve(lone.node)
    const { until } = listen()
    ;(await socket()).emit('news', 1)
    await until(1)
    const { size } = lone.node.sessions('socket.io')
    expect(() => server.emit('news', 2n)).toThrow(TypeError)
    expect(lone.node.sessions('socket.io').size).toBe(size)
    expect((await (await serve(await die())).socket()).recovered).toBe(true)
  })

  it('is refused to a server that recovers nothing', () => {
    const adapter = recoveryAdapter(lone.node)
    expect(() => new Server({ adapter: adapter as never })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
  })
})
