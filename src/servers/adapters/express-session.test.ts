import express from 'express'
import session from 'express-session'
import fastify from 'fastify'
import fastifyCookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import { once } from 'node:events'
import { get as httpGet, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../errors.js'
import type { SessionStore } from '../session-store.js'
import { BackdoorsStore, type BackdoorsStoreOptions, type StoredSession } from './express-session.js'
import { loneNode, type LoneNode } from './testing/lone-node.js'
import { Asked, sessionWith, storeSuite } from './testing/store-suite.js'

storeSuite('the store', async () => {
  const lone = await loneNode()
  return { store: new BackdoorsStore(lone.node.sessions('web')), close: () => lone.close() }
})

let lone: LoneNode
let sessions: SessionStore<StoredSession>
const secret = 'a secret that is long enough for everybody'

beforeEach(async () => {
  lone = await loneNode({ sessionsPerBox: 16, heapBytes: 64 << 10 })
  sessions = lone.node.sessions('web')
})
afterEach(() => lone.close())

const open = (options: BackdoorsStoreOptions = {}): BackdoorsStore => new BackdoorsStore(sessions, options)
const failure = (code: ErrorCode): unknown => expect.objectContaining({ name: 'BackdoorsError', code })

describe('the store of express-session', () => {
  it('keeps its sessions over a restart of its server', async () => {
    await new Asked(open()).set('s1', sessionWith({ name: 'one' }))
    const restarted = await lone.restart()
    expect(await new Asked(new BackdoorsStore(restarted.sessions('web'))).get('s1')).toMatchObject({ name: 'one' })
  })

  it('gives the cookie that a touch brought with it', async () => {
    const asked = new Asked(open())
    await asked.set('s1', sessionWith({ name: 'one' }, 1000))
    const touched = sessionWith({}, 60_000)
    await asked.touch('s1', touched)
    expect(await asked.get('s1')).toMatchObject({ name: 'one', cookie: JSON.parse(JSON.stringify(touched.cookie)) as object })
  })

  it('removes at once what is saved with a cookie that has ended', async () => {
    const asked = new Asked(open())
    await asked.set('s1', sessionWith({ name: 'one' }))
    await asked.set('s1', sessionWith({ name: 'two' }, -1))
    expect([...sessions.ids()]).toEqual([])
  })

  it('gives records a time to live: the cookie\'s, at most 49 days, or its own where the cookie has no end', async () => {
    const asked = new Asked(open({ ttlMs: 5000 }))
    const ttls: (number | undefined)[] = []
    const commit = sessions.commit.bind(sessions)
    sessions.commit = (id, value, ttlMs) => {
      ttls.push(ttlMs)
      commit(id, value, ttlMs)
    }
    await asked.set('s1', sessionWith({}, null))
    await asked.touch('s1', sessionWith({}, 365 * 86_400_000))
    expect(ttls).toEqual([5000, 2 ** 32 - 1])
  })

  it('waits for a session that has not come over yet, as long as it is told to', async () => {
    const asked = new Asked(open({ waitMs: 60_000 }))
    const found = asked.get('s1')
    sessions.emit('adopted', { from: 'b', ids: ['s0'] })
    sessions.commit('s1', [0, '{"cookie":{},"name":"one"}'])
    sessions.emit('adopted', { from: 'b', ids: ['s1'] })
    expect(await found).toMatchObject({ name: 'one' })
    expect(await new Asked(open({ waitMs: 1 })).get('s2')).toBeUndefined()
  })

  it('tells a session that waits when the server is fenced meanwhile', async () => {
    const found = new Asked(open({ waitMs: 60_000 })).get('s1')
    lone.fence()
    sessions.emit('adopted', { from: 'b', ids: [] })
    await expect(found).rejects.toEqual(failure('FENCED'))
  })
})

describe('errors of the store', () => {
  it.each(['get', 'set', 'touch', 'destroy'] as const)('FENCED is what %s says once another node serves its sessions', async (method) => {
    const asked = new Asked(open())
    await asked.set('s1', sessionWith({}))
    lone.fence()
    await expect(asked[method]('s1', sessionWith({}))).rejects.toEqual(failure('FENCED'))
  })

  it('BOX_FULL and SESSION_TOO_LARGE change nothing', async () => {
    const asked = new Asked(open())
    for (let i = 0; i < 16; i++) await asked.set(`s${i}`, sessionWith({ name: 'one' }))
    await expect(asked.set('s16', sessionWith({}))).rejects.toEqual(failure('BOX_FULL'))
    await expect(asked.set('s1', sessionWith({ name: 'x'.repeat(40_000) }))).rejects.toEqual(failure('SESSION_TOO_LARGE'))
    expect(await asked.get('s1')).toMatchObject({ name: 'one' })
  })

  it('INVALID_ARGUMENT names what cannot be made text, PAYLOAD_INVALID what is none, SESSION_ID_INVALID an id that is none', async () => {
    const asked = new Asked(open())
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    await expect(asked.set('s1', sessionWith({ cycle }))).rejects.toEqual(failure('INVALID_ARGUMENT'))
    sessions.commit('s2', [0, 'no JSON'])
    await expect(asked.get('s2')).rejects.toEqual(failure('PAYLOAD_INVALID'))
    await expect(asked.names()).rejects.toEqual(failure('PAYLOAD_INVALID'))
    await expect(asked.set('a\0b', sessionWith({}))).rejects.toEqual(failure('SESSION_ID_INVALID'))
    expect(() => open({ ttlMs: 0 })).toThrow(failure('INVALID_ARGUMENT'))
  })

  it('do not come back to a callback that throws', () => {
    let calls = 0
    expect(() => open().get('s1', () => {
      calls++
      throw new TypeError('its own')
    })).toThrow(TypeError)
    expect(calls).toBe(1)
  })
})

interface Answer {
  readonly status: number | undefined
  readonly body: string
  readonly cookie: string
}

async function ask(port: number, path: string, cookie = ''): Promise<Answer> {
  const request = httpGet({ port, host: '127.0.0.1', path, agent: false, headers: cookie === '' ? {} : { cookie } })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode, body, cookie: response.headers['set-cookie']?.[0]?.split(';')[0] ?? cookie }
}

declare module 'express-session' {
  interface SessionData {
    carried?: string[]
  }
}

async function expressOn(store: BackdoorsStore, beforeAnswer: () => void): Promise<{ port: number; server: Server; told: unknown[] }> {
  const app = express()
  const told: unknown[] = []
  app.use(session({ store, secret, resave: false, saveUninitialized: false, cookie: { maxAge: 60_000 } }))
  app.get('/add/:item', ({ session: cart, params }, response) => {
    cart.carried = [...(cart.carried ?? []), params.item]
    beforeAnswer()
    response.send(cart.carried.join())
  })
  app.get('/show', ({ session: cart }, response) => {
    beforeAnswer()
    response.send(cart.carried?.join() ?? '')
  })
  app.use((error: unknown, _request: express.Request, response: express.Response, next: express.NextFunction) => {
    told.push(error)
    if (response.headersSent) next(error)
    else response.sendStatus(503)
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, server, told }
}

describe('Express with the store', () => {
  it('keeps a cart over requests', async () => {
    const { port, server } = await expressOn(open(), () => undefined)
    const { cookie } = await ask(port, '/add/book')
    expect(await ask(port, '/add/pen', cookie)).toMatchObject({ status: 200, body: 'book,pen' })
    expect(await ask(port, '/show', cookie)).toMatchObject({ status: 200, body: 'book,pen' })
    expect(await ask(port, '/show')).toMatchObject({ status: 200, body: '' })
    server.close()
  })

  it.each(['/add/pen', '/show'])('does not answer %s where the server is fenced while it is at work', async (path) => {
    let fence = (): void => undefined
    const { port, server, told } = await expressOn(open(), () => fence())
    const { cookie } = await ask(port, '/add/book')
    fence = () => lone.fence()
    await expect(ask(port, path, cookie)).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(told).toEqual([failure('FENCED')])
    server.close()
  })

  it('says that it cannot where the server is fenced before', async () => {
    const { port, server, told } = await expressOn(open(), () => undefined)
    const { cookie } = await ask(port, '/add/book')
    lone.fence()
    expect(await ask(port, '/show', cookie)).toMatchObject({ status: 503 })
    expect(told).toEqual([failure('FENCED')])
    server.close()
  })
})

describe('Fastify with the store', () => {
  it('keeps a cart over requests, and answers with an error once it is fenced', async () => {
    const app = fastify()
    await app.register(fastifyCookie)
    await app.register(fastifySession, { secret, store: open() as never, saveUninitialized: false, cookie: { secure: false, maxAge: 60_000 } })
    let fence = (): void => undefined
    app.get('/add/:item', async (request) => {
      const cart = request.session as unknown as { items?: string[] }
      cart.items = [...(cart.items ?? []), (request.params as { item: string }).item]
      fence()
      return cart.items.join()
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const { cookie } = await ask(port, '/add/book')
    expect(await ask(port, '/add/pen', cookie)).toMatchObject({ status: 200, body: 'book,pen' })
    fence = () => lone.fence()
    const refused = await ask(port, '/add/cup', cookie)
    expect([refused.status, (JSON.parse(refused.body) as { code: string }).code]).toEqual([500, 'FENCED'])
    await app.close()
  })
})
