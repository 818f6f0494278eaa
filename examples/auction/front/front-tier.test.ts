/** The front tier in front of servers that this test makes, on loopback. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { readBody } from '../http.js'
import { HttpClient } from '../users/http-client.js'
import { FrontTier, type ApplicationNode } from './front-tier.js'

const key = 'abcdefghijklmnopqrst'
let servers: Server[] = []
let fronts: FrontTier[] = []
let clients: HttpClient[] = []

afterEach(() => {
  for (const client of clients) client.close()
  for (const front of fronts) front.close()
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
  servers = []
  fronts = []
  clients = []
})

const portOf = (server: Server): number => (server.address() as AddressInfo).port

/** A node that has these visits, and says what it was sent. */
async function startNode(node: string, visits: Set<string>, received: string[] = []): Promise<ApplicationNode & { server: Server; received: string[] }> {
  const server = createServer((request, response) => void readBody(request).then((body) => {
    const visit = /visit=([^;]*)/.exec(request.headers.cookie ?? '')?.[1]
    received.push(`${request.method} ${request.url} ${body?.toString('utf8') ?? ''}`.trim())
    if (visit !== undefined && !visits.has(visit)) return response.writeHead(421).end()
    const made = `${node}~${key}`
    if (visit === undefined) visits.add(made)
    return response.writeHead(200, visit === undefined ? { 'set-cookie': `visit=${made}; Path=/` } : {}).end(`${node} ${visit ?? 'new'}`)
  }))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  return { node, host: '127.0.0.1', port: portOf(server), server, received }
}

async function startFront(nodes: readonly ApplicationNode[], patienceMs = 10_000): Promise<HttpClient> {
  const front = new FrontTier({ nodes, patienceMs, silenceMs: 5000 })
  front.server.listen(0, '127.0.0.1')
  await once(front.server, 'listening')
  fronts.push(front)
  // It has no retries: whatever is to be asked again, the front tier asks.
  const client = new HttpClient({ addresses: [{ host: '127.0.0.1', port: portOf(front.server) }] })
  clients.push(client)
  return client
}

async function endNode({ server }: { server: Server }): Promise<void> {
  server.close()
  server.closeAllConnections()
  await once(server, 'close')
}

describe('the front tier', () => {
  it('sends each request of a visit to the node that made it', async () => {
    const [a, b] = [await startNode('a', new Set()), await startNode('b', new Set())]
    const client = await startFront([a, b])
    expect((await client.get('/')).body).toBe('a new')
    expect((await client.get('/me')).body).toBe(`a a~${key}`)
    expect((await client.get('/cart')).body).toBe(`a a~${key}`)
    expect(b.received).toEqual([])
  })

  it('sends a form to whoever has the visit now, the same as it was, on the same connection of its client', async () => {
    const has = new Set<string>()
    const [a, b] = [await startNode('a', new Set()), await startNode('b', has)]
    const client = await startFront([a, b])
    await client.get('/')
    await endNode(a)
    has.add(`a~${key}`)
    expect(await client.post('/place', { key, item: 7 })).toMatchObject({ status: 200, body: `b a~${key}`, sentAgain: 0 })
    expect(b.received).toEqual([`POST /place key=${key}&item=7`])
    expect(client.connections).toBe(1)
    expect(fronts[0]?.sentAgain).toBe(1)
  })

  it('waits for a visit that is on its way', async () => {
    const has = new Set<string>()
    const received: string[] = []
    const [a, b] = [await startNode('a', new Set()), await startNode('b', has, received)]
    const client = await startFront([a, b])
    await client.get('/')
    await endNode(a)
    const answer = client.get('/me')
    await expect.poll(() => received.length, { timeout: 20_000, interval: 5 }).toBeGreaterThan(1)
    has.add(`a~${key}`)
    expect((await answer).body).toBe(`b a~${key}`)
  })

  it('begins a new visit where nobody has the old one', async () => {
    const [a, b] = [await startNode('a', new Set()), await startNode('b', new Set())]
    const client = await startFront([a, b], 1)
    await client.get('/')
    await endNode(a)
    const answer = await client.post('/place', { key })
    expect(answer.body).toBe('b new')
    expect(b.received).toEqual([`POST /place key=${key}`, 'GET /'])
  })

  it('says so where no node answers', async () => {
    const a = await startNode('a', new Set())
    const client = await startFront([a], 1)
    await endNode(a)
    expect(await client.get('/')).toMatchObject({ status: 503, body: 'No application node answers.\n' })
  })
})

describe('a client without retries', () => {
  it('takes a lost connection for an error', async () => {
    const server = createServer((request) => request.destroy())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    servers.push(server)
    const client = new HttpClient({ addresses: [{ host: '127.0.0.1', port: portOf(server) }] })
    clients.push(client)
    await expect(client.get('/')).rejects.toMatchObject({ code: 'ECONNRESET' })
  })
})

it('a client with retries sends the same form to the next address', async () => {
  const [a, b] = [await startNode('a', new Set()), await startNode('b', new Set([`a~${key}`]))]
  const client = new HttpClient({ addresses: [a, b], retries: { silenceMs: 5000, patienceMs: 20_000 } })
  clients.push(client)
  await client.get('/')
  await endNode(a)
  expect(await client.post('/place', { key })).toMatchObject({ status: 200, sentAgain: 1 })
  expect(b.received).toEqual([`POST /place key=${key}`])
})
