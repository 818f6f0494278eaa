/** What Socket.IO's documentation promises of connection state recovery. Its own in-memory adapter passes it as well, which shows that it asks for nothing else. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type ServerOptions, type Socket } from 'socket.io'
import { SessionAwareAdapter } from 'socket.io-adapter'
import { io, type Socket as Client } from 'socket.io-client'
import { describe, expect, it } from 'vitest'
import { recoveryAdapter } from './socket.io.js'
import { loneNodeEach } from './testing/lone-node-each.js'

const { lone, closers } = loneNodeEach()

/** @returns what a client is told with this event */
const told = (client: Client, event: string): Promise<unknown> => new Promise((resolve) => client.once(event, resolve))

type Adapter = ServerOptions['adapter']

class Player {
  readonly heard: unknown[] = []

  constructor(readonly io: Server, readonly namespace: string, readonly client: Client) {
    client.on('news', (what: unknown) => void this.heard.push(what))
  }

  async connect(): Promise<Socket> {
    const connected = told(this.client, 'connect')
    const [socket] = (await once(this.io.of(this.namespace), 'connection')) as [Socket]
    await connected
    return socket
  }

  /** The connection ends as if by the network. */
  async lose(socket: Socket): Promise<void> {
    const lost = once(socket, 'disconnect')
    this.client.io.engine.close()
    await lost
  }

  async again(): Promise<Socket> {
    this.client.connect()
    return await this.connect()
  }

  async until(count: number): Promise<unknown[]> {
    while (this.heard.length < count) await told(this.client, 'news')
    return this.heard
  }
}

/** A server, and a client that connects again only when it is told to. */
async function play(adapter: Adapter, connectionStateRecovery: ServerOptions['connectionStateRecovery'] = {}, namespace = '/'): Promise<Player> {
  const http = createServer().listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server = new Server(http, { connectionStateRecovery, adapter, serveClient: false })
  server.of(namespace)
  const client = io(`http://127.0.0.1:${(http.address() as AddressInfo).port}${namespace}`, { transports: ['websocket'], reconnection: false })
  closers.push(() => server.close(), () => client.disconnect())
  return new Player(server, namespace, client)
}

const adapters: Record<string, () => Adapter> = {
  'the in-memory adapter of Socket.IO': () => SessionAwareAdapter as never,
  'the adapter of this project': () => recoveryAdapter(lone.node) as never,
}

describe.each(Object.keys(adapters))('connection state recovery with %s', (name) => {
  const adapter = (): Adapter => (adapters[name] as () => Adapter)()

  it.each(['/', '/chat'])('gives back id, rooms, data and what was missed, in order, in the namespace %s', async (namespace) => {
    const player = await play(adapter(), {}, namespace)
    const first = await player.connect()
    expect([first.recovered, player.client.recovered]).toEqual([false, false])
    first.data = { user: 'ann', tags: ['a'] }
    await first.join(['sports', 'weather'])
    first.emit('news', 0)
    await player.until(1)
    await first.leave('weather')
    await player.lose(first)
    const room = player.io.of(namespace)
    room.emit('news', 'all')
    room.to('sports').emit('news', { score: [1, 2] })
    room.to('weather').emit('news', 'a room that it has left')
    room.except('sports').emit('news', 'all but its room')
    room.to(first.id).emit('news', Buffer.from([7]))
    const second = await player.again()
    room.emit('news', 'after')
    expect(await player.until(5)).toEqual([0, 'all', { score: [1, 2] }, Buffer.from([7]), 'after'])
    expect([second.recovered, player.client.recovered, second.id, player.client.id]).toEqual([true, true, first.id, first.id])
    expect([second.data, [...second.rooms].sort()]).toEqual([{ user: 'ann', tags: ['a'] }, [first.id, 'sports'].sort()])
  })

  it('does so as often as the connection is lost', async () => {
    const player = await play(adapter())
    let socket = await player.connect()
    socket.emit('news', 0)
    for (const what of [1, 2, 3]) {
      await player.until(what)
      await player.lose(socket)
      player.io.emit('news', what)
      socket = await player.again()
      expect(socket.recovered).toBe(true)
    }
    expect(await player.until(4)).toEqual([0, 1, 2, 3])
  })

  it('keeps no volatile events and none that are to be acknowledged', async () => {
    const player = await play(adapter())
    const first = await player.connect()
    first.emit('news', 1)
    await player.until(1)
    await player.lose(first)
    player.io.volatile.emit('news', 'volatile')
    player.io.timeout(60_000).emit('news', 'to be acknowledged', () => undefined)
    player.io.emit('news', 2)
    expect((await player.again()).recovered).toBe(true)
    expect(await player.until(2)).toEqual([1, 2])
  })

  it.each([
    ['the client has left by itself', (player: Player, _socket: Socket) => player.client.disconnect()],
    ['the server has disconnected it', (_player: Player, socket: Socket) => socket.disconnect()],
    ['the server has closed its connection', (_player: Player, socket: Socket) => socket.disconnect(true)],
  ])('is none where %s', async (_why, leave) => {
    const player = await play(adapter())
    const first = await player.connect()
    first.emit('news', 1)
    await player.until(1)
    const gone = Promise.all([once(first, 'disconnect'), told(player.client, 'disconnect')])
    leave(player, first)
    await gone
    player.io.emit('news', 'missed')
    const second = await player.again()
    expect([second.recovered, player.client.recovered, second.id === first.id]).toEqual([false, false, false])
    player.io.emit('news', 2)
    expect(await player.until(2)).toEqual([1, 2])
  })

  it('is none after maxDisconnectionDuration', async () => {
    const maxDisconnectionDuration = 20
    const player = await play(adapter(), { maxDisconnectionDuration })
    const first = await player.connect()
    first.emit('news', 1)
    await player.until(1)
    await player.lose(first)
    for (const lostAtMs = Date.now(); Date.now() <= lostAtMs + 2 * maxDisconnectionDuration;) await new Promise((resolve) => setTimeout(resolve, maxDisconnectionDuration))
    const second = await player.again()
    expect([second.recovered, second.id === first.id]).toEqual([false, false])
  })

  it('is none for a client that has heard nothing yet', async () => {
    const player = await play(adapter())
    await player.lose(await player.connect())
    expect((await player.again()).recovered).toBe(false)
  })

  it.each([[undefined, 1], [true, 1], [false, 2]])('where skipMiddlewares is %s, has middleware run %d times for a client that connects and recovers', async (skipMiddlewares, times) => {
    const player = await play(adapter(), skipMiddlewares === undefined ? {} : { skipMiddlewares })
    let count = 0
    player.io.use((_socket, next) => {
      count++
      next()
    })
    const first = await player.connect()
    first.emit('news', 1)
    await player.until(1)
    await player.lose(first)
    expect((await player.again()).recovered).toBe(true)
    expect(count).toBe(times)
  })

  it('is none for a client whom middleware refuses, until it does not', async () => {
    const player = await play(adapter(), { skipMiddlewares: false })
    const first = await player.connect()
    first.emit('news', 1)
    await player.until(1)
    await player.lose(first)
    let refuses = true
    player.io.use((_socket, next) => next(refuses ? new Error('no') : undefined))
    const refused = told(player.client, 'connect_error')
    player.client.connect()
    expect(await refused).toMatchObject({ message: 'no' })
    player.client.disconnect()
    refuses = false
    player.io.emit('news', 2)
    const second = await player.again()
    expect([second.recovered, second.id]).toEqual([true, first.id])
    expect(await player.until(2)).toEqual([1, 2])
  })
})
