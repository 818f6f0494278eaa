/** A response of which the client has a part is to be made anew, and the server says nothing, or less than it had said. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createNetServer, type Server as NetServer } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { continuable, type Continuable, type ContinuableOptions } from './continuable.js'
import { listening, PlayedNode, Wire } from './testing/harness.js'

const close: (() => void)[] = []
afterEach(() => {
  vi.useRealTimers()
  for (const end of close.splice(0)) end()
})

interface Played {
  readonly node: PlayedNode
  readonly server: NetServer
  readonly connections: Continuable
}

async function machine(server: NetServer, options: ContinuableOptions = {}): Promise<Played & { port: number }> {
  const node = new PlayedNode()
  const connections = continuable(server, node, { name: 'shop', ...options })
  const port = await listening(server)
  close.push(() => {
    ;(server as Partial<Server>).closeAllConnections?.()
    server.close()
  })
  return { node, server, connections, port }
}

/** A client that has got this of its answer when the machine dies. */
async function cutOff(server: NetServer, request: string, has: string): Promise<{ wire: Wire; from: PlayedNode }> {
  const { node, port } = await machine(server)
  const wire = new Wire()
  await wire.connect(port)
  close.push(() => wire.close())
  wire.send(request)
  await wire.until(() => wire.text.endsWith(has))
  wire.kill()
  return { wire, from: node }
}

const http = (listener: RequestListener): Server => createServer(listener)
const get = 'GET / HTTP/1.1\r\nHost: shop\r\n\r\n'
const begins: RequestListener = (_, response) => void response.writeHead(200, { 'content-length': 100 }).write('the beginning')

describe('a server that makes a response anew', () => {
  it.each<[string, () => Server]>([
    ['says nothing', () => http(() => undefined)],
    ['says less than the client has', () => http((_, response) => void response.writeHead(200, { 'content-length': 100 }).write('the begin'))],
  ])('and %s ends the connection by a reset, with a reason', async (_, make) => {
    const { wire, from } = await cutOff(http(begins), get, 'the beginning')
    const b = await machine(make(), { replaySilenceMs: 5 })
    expect(await wire.restore(from, b.node, 'shop')).toEqual({ name: wire.name, reset: 'replay-silent' })
    await wire.until(() => wire.ended)
    expect([wire.wasReset, wire.text.endsWith('the beginning')]).toEqual([true, true])
    expect(b.connections.statistics).toEqual({ continued: 0, reset: { 'replay-silent': 1 }, givenUp: {} })
    expect([...b.node.records('shop').ids()]).toEqual([])
  })

  it('of another protocol and says nothing ends it likewise', async () => {
    const { wire, from } = await cutOff(createNetServer((socket) => void socket.on('data', () => socket.write('hello'))), 'x', 'hello')
    const b = await machine(createNetServer((socket) => void socket.resume()), { replaySilenceMs: 5, replay: () => true })
    expect(await wire.restore(from, b.node, 'shop')).toEqual({ name: wire.name, reset: 'replay-silent' })
    await wire.until(() => wire.ended)
    expect(wire.wasReset).toBe(true)
  })

  it('has its time anew with every byte of it', async () => {
    const { wire, from } = await cutOff(http(begins), get, 'the beginning')
    let say: ((bytes: string) => void) | undefined
    const b = await machine(http((_, response) => {
      response.writeHead(200, { 'content-length': 100 }).flushHeaders()
      say = (bytes) => void response.write(bytes)
    }))
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const outcome = wire.restore(from, b.node, 'shop')
    while (say === undefined) await turn()
    for (const byte of 'the beginning') {
      vi.advanceTimersByTime(29_999)
      say(byte)
      await turn()
    }
    expect(await outcome).toEqual({ name: wire.name })
    // From here on it is as any other: nobody hurries it.
    vi.advanceTimersByTime(3_600_000)
    say(' and the end')
    await wire.until(() => wire.text.endsWith('the beginning and the end'))
    expect(wire.ended).toBe(false)
  })

  const untilClose: RequestListener = (_, response) => {
    response.useChunkedEncodingByDefault = false
    response.shouldKeepAlive = false
    response.write('the beginning')
  }

  it.each<[string, RequestListener]>([
    ['ends it where less of it has come', (_, response) => {
      untilClose(_, response)
      response.end()
    }],
    ['destroys it', ({ socket }) => void socket.destroy()],
    ['destroys it with an error of its own', (_, response) => void response.destroy(new Error('the cart is gone'))],
  ])('and %s does so by a reset: an orderly end would look like the end of the answer', async (_, handler) => {
    const first: RequestListener = (request, response) => {
      untilClose(request, response)
      response.write(', and more')
    }
    const { wire, from } = await cutOff(http(first), get, ', and more')
    const b = await machine(http(handler))
    expect(await wire.restore(from, b.node, 'shop')).toEqual({ name: wire.name, reset: 'output-differs' })
    await wire.until(() => wire.ended)
    expect(wire.wasReset).toBe(true)
  })

  it('for a client that has gone meanwhile harms nobody, and is not counted as reset', async () => {
    const { wire, from } = await cutOff(http(begins), get, 'the beginning')
    const b = await machine(http(() => wire.close()))
    expect(await wire.restore(from, b.node, 'shop')).toEqual({ name: wire.name })
    expect(b.connections.statistics.reset).toEqual({})
  })
})

describe('a request that is given again, and of whose response nothing had left', () => {
  it('is as any other: its server\'s own limit ends it, if there is one', async () => {
    let isAsked = false
    const { node, port } = await machine(http(() => (isAsked = true)))
    const wire = new Wire()
    await wire.connect(port)
    close.push(() => wire.close())
    wire.send(get)
    while (!isAsked) await turn()
    wire.kill()
    const b = await machine(http(() => undefined).setTimeout(5), { replaySilenceMs: 1 })
    expect(await wire.restore(node, b.node, 'shop')).toEqual({ name: wire.name })
    await wire.until(() => wire.ended)
    expect([wire.wasReset, wire.text]).toEqual([false, ''])
  })

  it.each([0, 0.5, 2 ** 31, Number.NaN])('%s milliseconds are no patience', (replaySilenceMs) => {
    expect(() => continuable(http(begins), new PlayedNode(), { replaySilenceMs })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', details: { field: 'replaySilenceMs' } }))
  })
})
