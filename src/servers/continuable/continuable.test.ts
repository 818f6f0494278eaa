import { once } from 'node:events'
import { createServer, type RequestListener, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { connect, createServer as createNetServer, Socket, type Server as NetServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { bytesCodec } from '../codec.js'
import { continuable, type Continuable, type ContinuableOptions } from './continuable.js'
import { IdleConnections } from './idle-connections.js'
import { decodeRecord } from './record.js'
import { listening, pairOfSockets, PlayedNode, Wire } from './testing/harness.js'

const open: { server: Server; wire: Wire }[] = []
const close: (() => void)[] = []

afterEach(() => {
  vi.useRealTimers()
  for (const end of close.splice(0)) end()
  open.length = 0
})

async function machine(handler: RequestListener, options: ContinuableOptions = {}, heapBytes?: number, serverOptions: ServerOptions = {}): Promise<{ node: PlayedNode; server: Server; connections: Continuable; port: number }> {
  const node = new PlayedNode(heapBytes)
  const server = createServer(serverOptions, handler)
  const connections = continuable(server, node, { name: 'shop', ...options })
  const port = await listening(server)
  close.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { node, server, connections, port }
}

async function connected(port: number): Promise<Wire> {
  const wire = new Wire()
  await wire.connect(port)
  close.push(() => wire.close())
  return wire
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: shop\r\n\r\n`
const answers = (wire: Wire): string[] => [...wire.text.matchAll(/\[([^\]]*)\]/g)].map(([, path]) => path!)
const echo: RequestListener = (request, response) => void response.end(`[${request.url}]`)

describe('keep-alive requests', () => {
  it('go on over the same connection when the machine dies between two of them', async () => {
    const a = await machine(echo)
    const b = await machine(echo)
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name })
    wire.send(get('/2'))
    await wire.until(() => answers(wire).length === 2)
    expect(answers(wire)).toEqual(['/1', '/2'])
    expect(b.connections.statistics).toEqual({ continued: 1, reset: {}, givenUp: {} })
  })

  it('go on over a third machine when the second one fails, too, with what waited unread in between', async () => {
    const machines = await Promise.all(Array.from({ length: 3 }, () => machine(echo)))
    const [a, b, c] = machines as [typeof machines[0], typeof machines[0], typeof machines[0]]
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    wire.send(get('/2').slice(0, 10))
    expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name })
    wire.send(get('/2').slice(10))
    await wire.until(() => answers(wire).length === 2)
    wire.kill()
    wire.unacknowledged = 5
    wire.send(get('/3') + get('/4').slice(0, 3))
    expect(await wire.restore(b.node, c.node, 'shop')).toEqual({ name: wire.name })
    wire.send(get('/4').slice(3))
    await wire.until(() => answers(wire).length === 4)
    expect(answers(wire)).toEqual(['/1', '/2', '/3', '/4'])
    expect(c.connections.statistics).toEqual({ continued: 1, reset: {}, givenUp: {} })
  })

  it('are reset when the second machine failed before its server had committed where its life of the connection began', async () => {
    const [a, b, c] = [await machine(echo), await machine(echo), await machine(echo)]
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    expect(await wire.restore(a.node, c.node, 'shop', b.node.incarnation)).toEqual({ name: wire.name, reset: 'no-record' })
    await wire.until(() => wire.ended)
    expect(answers(wire)).toEqual(['/1'])
    expect(c.connections.statistics.reset).toEqual({ 'no-record': 1 })
  })
})

describe('a connection that comes over between two requests', () => {
  const impatient = { headersTimeout: 2, requestTimeout: 2, connectionsCheckingInterval: 1 }

  async function idle(serverOptions: ServerOptions): Promise<Wire> {
    const [a, b] = [await machine(echo), await machine(echo, {}, undefined, { ...impatient, ...serverOptions })]
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name })
    return wire
  }

  it('ends without a word when it was idle for as long as its server allows', async () => {
    const wire = await idle({ keepAliveTimeout: 100 })
    await wire.until(() => wire.ended)
    expect([wire.text.split('HTTP/1.1').length, answers(wire), wire.wasReset]).toEqual([2, ['/1'], false])
  })

  it('may not take longer for a request than any other', async () => {
    const wire = await idle({ keepAliveTimeout: 0 })
    wire.send('GET /2 HT')
    await wire.until(() => wire.ended)
    expect(wire.text).toContain('HTTP/1.1 408 Request Timeout')
  })
})

describe('a server that ends its connections', () => {
  /** A connection that came over between two requests to a server that does not answer `/slow`. */
  async function cameOver(): Promise<{ server: Server; wire: Wire; asked: () => Promise<ServerResponse> }> {
    const slow: ServerResponse[] = []
    const [a, b] = [await machine(echo), await machine((request, response) => (request.url === '/slow' ? void slow.push(response) : response.end(`[${request.url}]`)), {}, undefined, { keepAliveTimeout: 0 })]
    b.server.on('upgrade', (_request, socket: Socket) => {
      close.push(() => socket.destroy())
      socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n[/words]')
      socket.on('data', () => socket.write('[/more]'))
    })
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name })
    const asked = async (): Promise<ServerResponse> => {
      while (slow.length === 0) await turn()
      return slow[0] as ServerResponse
    }
    return { server: b.server, wire, asked }
  }

  it.each(['closeIdleConnections', 'closeAllConnections', 'close'] as const)('ends by %s one that came over and is idle', async (how) => {
    const { server, wire } = await cameOver()
    server[how]()
    await wire.until(() => wire.ended)
    expect([answers(wire), wire.wasReset]).toEqual([['/1'], false])
  })

  it.each(['closeIdleConnections', 'close'] as const)('leaves by %s one that came over and waits for an answer', async (how) => {
    const { server, wire, asked } = await cameOver()
    wire.send(get('/slow'))
    const response = await asked()
    server[how]()
    response.end('[/slow]')
    await wire.until(() => answers(wire).length === 2)
    expect(answers(wire)).toEqual(['/1', '/slow'])
  })

  it('ends by closeAllConnections one that came over and waits for an answer', async () => {
    const { server, wire, asked } = await cameOver()
    wire.send(get('/slow'))
    await asked()
    server.closeAllConnections()
    await wire.until(() => wire.ended)
    expect(answers(wire)).toEqual(['/1'])
  })

  it('ends by closeIdleConnections one that came over when its next request is answered, too', async () => {
    const { server, wire } = await cameOver()
    wire.send(get('/2'))
    await wire.until(() => answers(wire).length === 2)
    server.closeIdleConnections()
    await wire.until(() => wire.ended)
    expect(answers(wire)).toEqual(['/1', '/2'])
  })

  it('leaves one that came over and speaks another protocol now', async () => {
    const { server, wire } = await cameOver()
    wire.send('GET /words HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\n')
    await wire.until(() => answers(wire).length === 2)
    server.close()
    server.closeAllConnections()
    wire.send('words')
    await wire.until(() => answers(wire).length === 3)
    expect(answers(wire)).toEqual(['/1', '/words', '/more'])
  })

  it('ends an idle one as soon as what another machine answered is sent', async () => {
    const server = createServer(echo)
    const idle = new IdleConnections(server)
    const [client, socket] = await pairOfSockets()
    close.push(() => client.destroy())
    idle.add(socket)
    let received = ''
    client.setEncoding('utf8').on('data', (text: string) => (received += text))
    const isOver = Promise.all([once(socket, 'close'), once(client, 'end')])
    socket.cork()
    socket.write('the end of an answer')
    server.closeIdleConnections()
    await isOver
    expect(received).toBe('the end of an answer')
  })
})

it.each([['a connection that had another request', get('/2')], ['one that is no longer HTTP\'s', `GET /2 HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\n`]])('%s is not ended as an idle one', async (_, second) => {
  const [a, b] = [await machine(echo), await machine(echo)]
  for (const { server } of [a, b]) server.on('upgrade', (_request, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n[/2]')
    socket.on('data', () => socket.write('[/3]'))
  })
  const wire = await connected(a.port)
  const isUpgrade = second !== get('/2')
  wire.send(isUpgrade ? second : get('/1'))
  await wire.until(() => answers(wire).length === 1)
  wire.kill()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name })
  if (!isUpgrade) wire.send(second)
  await wire.until(() => answers(wire).at(-1) === '/2')
  vi.advanceTimersByTime(60_000)
  wire.send(get('/3'))
  await wire.until(() => answers(wire).at(-1) === '/3')
  expect(answers(wire)).toEqual([isUpgrade ? [] : '/1', '/2', '/3'].flat())
})

it.each([true, false])('a connection that came over has its server\'s options (%s)', async (is) => {
  const node = [new PlayedNode(), new PlayedNode()] as const
  const seen: Socket[] = []
  const servers = node.map((one, i) => {
    const server = createNetServer({ allowHalfOpen: is, noDelay: is, keepAlive: is, keepAliveInitialDelay: 7000 }, (socket) => {
      if (i === 1) seen.push(socket)
    })
    continuable(server, one, { name: 'shop' })
    close.push(() => server.close())
    return server
  })
  const wire = await connected(await listening(servers[0] as NetServer))
  while (node[0].records('shop').get(wire.name) === undefined) await turn()
  await listening(servers[1] as NetServer)
  wire.kill()
  const setters = (['setNoDelay', 'setKeepAlive'] as const).map((name) => vi.spyOn(Socket.prototype, name))
  expect(await wire.restore(node[0], node[1], 'shop')).toEqual({ name: wire.name })
  expect(seen.map(({ allowHalfOpen }) => allowHalfOpen)).toEqual([is])
  expect(setters.map(({ mock }) => mock.calls)).toEqual(is ? [[[true]], [[true, 7000]]] : [[[false]], [[false, 7000]]])
  vi.restoreAllMocks()
  seen[0]?.destroy()
})

describe('a connection that cannot be kept', () => {
  it('gets not a byte more when its server is fenced', async () => {
    const a = await machine(echo)
    const wire = await connected(a.port)
    wire.send(get('/1'))
    await wire.until(() => answers(wire).length === 1)
    a.node.machine.setFence(a.node.owner.box, a.node.owner.generation)
    wire.send(get('/2'))
    await wire.until(() => wire.ended)
    expect([answers(wire), wire.wasReset]).toEqual([['/1'], true])
    expect(a.connections.statistics.givenUp).toEqual({ FENCED: 1 })
  })

  it('ends by a reset when its server is fenced: an orderly end would look like the end of the answer', async () => {
    let say = (_: string): void => undefined
    const a = await machine((_, response) => {
      response.useChunkedEncodingByDefault = false
      response.shouldKeepAlive = false
      say = (text) => void response.write(text)
      say('[the beginning]')
    })
    const wire = await connected(a.port)
    wire.send(get('/'))
    await wire.until(() => answers(wire).length === 1)
    a.node.machine.setFence(a.node.owner.box, a.node.owner.generation)
    say('[more]')
    await wire.until(() => wire.ended)
    expect([answers(wire), wire.wasReset]).toEqual([['the beginning'], true])
  })

  it('ends by a reset when its server\'s node was closed before it', async () => {
    const a = await machine(echo)
    const idle = await connected(a.port)
    idle.send(get('/1'))
    await idle.until(() => answers(idle).length === 1)
    a.node.owner.close()
    idle.send(get('/2'))
    await idle.until(() => idle.ended)
    const [refused] = (await once(connect(a.port, '127.0.0.1'), 'error')) as [NodeJS.ErrnoException]
    expect([answers(idle), idle.wasReset, refused.code]).toEqual([['/1'], true, 'ECONNRESET'])
    expect(a.connections.statistics.givenUp).toEqual({ CLOSED: 2 })
  })

  const upload = (bytes: number): string => `PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: ${bytes}\r\n\r\n${'x'.repeat(bytes)}`

  it('is served to its end where the box is full, and reset if its machine dies', async () => {
    const a = await machine((request, response) => void request.resume().on('end', () => response.end('[done]')), {}, 256 << 10)
    const b = await machine(echo)
    const others = a.node.sessions<Uint8Array>('others', { codec: bytesCodec })
    const wire = await connected(a.port)
    expect(() => {
      for (let i = 0; ; i++) others.commit(String(i), new Uint8Array(20 << 10))
    }).toThrow(expect.objectContaining({ code: 'BOX_FULL' }))
    wire.send(upload(60 << 10))
    await wire.until(() => answers(wire).length === 1)
    expect(a.connections.statistics.givenUp).toEqual({ 'not-continuable': 1 })
    wire.kill()
    expect(await wire.restore(a.node, b.node, 'shop')).toEqual({ name: wire.name, reset: 'no-record' })
  })

  it.each<[string, ContinuableOptions, number]>([
    ['where more input is under way than is kept', { maxInputBytes: 1000 }, 1 << 20],
    ['where the box is full', {}, 256 << 10],
  ])('gets not a byte more when its server is fenced, %s', async (_, options, heapBytes) => {
    let arrived = 0
    let answer = (): void => undefined
    const a = await machine((request, response) => void request.on('data', (part: Buffer) => {
      arrived += part.length
      answer = () => void response.write('[an answer]')
    }), options, heapBytes)
    const others = a.node.sessions<Uint8Array>('others', { codec: bytesCodec })
    const wire = await connected(a.port)
    if (options.maxInputBytes === undefined) expect(() => {
      for (let i = 0; ; i++) others.commit(String(i), new Uint8Array(20 << 10))
    }).toThrow(expect.objectContaining({ code: 'BOX_FULL' }))
    wire.send(upload(60 << 10).slice(0, 50_000))
    while (arrived < 49_000) await turn()
    a.node.machine.setFence(a.node.owner.box, a.node.owner.generation)
    const before = arrived
    answer()
    wire.send('more')
    await wire.until(() => wire.ended)
    expect([arrived - before, wire.text, wire.wasReset]).toEqual([0, '', true])
    expect(a.connections.statistics.givenUp).toMatchObject({ FENCED: 1 })
  })

  it('is reset while more input is under way than is kept, and goes on after that', async () => {
    let arrived = 0
    let answer = (): void => undefined
    const handler: RequestListener = (request, response) => void request.on('data', (part: Buffer) => void (arrived += part.length)).on('end', () => (answer = () => void response.end('[done]')))
    const a = await machine(handler, { maxInputBytes: 1000 })
    const [b, c] = [await machine(echo), await machine(echo)]
    const wire = await connected(a.port)
    wire.send(upload(3000))
    while (arrived < 3000) await turn()
    const record = decodeRecord(a.node.records('shop').get(wire.name)!)!
    expect(record.broken).toBe('too-large')
    const { read } = wire
    const [ours, theirs] = await pairOfSockets()
    ours.on('error', () => undefined)
    b.node.records('shop').commit(wire.name, a.node.records('shop').get(wire.name)!)
    expect(await b.node.onlyHandler({ name: wire.name, life: a.node.incarnation.toString(16), socket: theirs, read, written: 0, unread: 0, unacknowledged: 0 })).toEqual({ name: wire.name, reset: 'too-large' })
    await turn()
    answer()
    await wire.until(() => answers(wire).length === 1)
    wire.kill()
    expect(await wire.restore(a.node, c.node, 'shop')).toEqual({ name: wire.name })
  })

  it.each([['https', () => createHttpsServer()], ['tls', () => createTlsServer()], ['http2', () => createHttp2Server() as unknown as Server]])('is refused where its server is one of %s', (_, make) => {
    expect(() => continuable(make() as Server, new PlayedNode())).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', details: { field: 'server' } }))
  })
})
