import { beforeEach, describe, expect, it } from 'vitest'
import type { Catalogue } from '../database/catalogue.js'
import { PageSeen } from '../users/page-reader.js'
import { item } from '../testing/items.js'
import type { Reply } from './reply.js'
import { Router, visitIn } from './router.js'
import type { Step, Visit } from './visit.js'
import { Visits } from './visits.js'

const catalogue = {
  login: async (name: string, password: string) => (password === 'right' ? { id: 4, name } : undefined),
  categories: async () => [{ id: 2, name: 'Maps', items: 1 }],
  category: async () => [],
  busiest: async () => [item],
  item: async (id: number) => (id === item.id ? item : undefined),
  items: async (ids: readonly number[]) => (ids.includes(item.id) ? [item] : []),
  history: async () => [],
} as unknown as Catalogue

let stored: Map<string, Visit>
let steps: Step[]
let router: Router
let cookie: string

async function send(method: string, url: string, fields: Record<string, string> = {}): Promise<Reply> {
  const reply = await router.answer({ method, url, cookie, body: new URLSearchParams(fields).toString() })
  cookie = reply.headers['set-cookie']?.split(';')[0] ?? cookie
  return reply
}

const page = async (url: string): Promise<PageSeen> => new PageSeen((await send('GET', url)).body)

async function logIn(): Promise<void> {
  const form = (await page('/login')).form('/login')
  await send('POST', '/login', { ...form?.fields, name: 'user-1', password: 'right' })
}

beforeEach(() => {
  stored = new Map()
  steps = []
  cookie = ''
  let drawn = 0
  const visits = new Visits({
    store: { get: (id) => stored.get(id), ids: () => stored.keys(), commit: (id, visit) => void stored.set(id, visit) },
    run: async (step) => {
      steps.push(step)
      return { result: { kind: 'bid', isAccepted: true, highestCents: 950 }, wasDone: false }
    },
  })
  router = new Router({ node: 'a', visits, catalogue, randomText: () => `random-text-number-${++drawn}` })
})

describe('a visit', () => {
  it('begins with the first page, and is known by its cookie', async () => {
    const reply = await send('GET', '/')
    expect(reply.headers['set-cookie']).toBe('visit=a~random-text-number-1; Path=/; HttpOnly; SameSite=Lax')
    expect([...stored.keys()]).toEqual(['a~random-text-number-1'])
    expect((await send('GET', '/categories')).headers).not.toHaveProperty('set-cookie')
    expect(stored.size).toBe(1)
  })

  it('that is elsewhere is not begun anew', async () => {
    cookie = 'visit=b~random-text-number-1'
    expect(await send('GET', '/')).toMatchObject({ status: 421 })
    expect(stored.size).toBe(0)
  })

  it.each(['', 'visit=', 'visit=b', 'visit=../x~random-text-number-1', 'visited=b~random-text-number-1', 'visit=b~short'])('has no cookie %j', (text) => {
    expect(visitIn(text)).toBeUndefined()
  })
})

it.each(['//', 'http://', '//:x/'])('a path that is no URL, %j, is refused, and begins no visit', async (path) => {
  expect(await send('GET', path)).toMatchObject({ status: 400 })
  expect(stored.size).toBe(0)
})

describe('a form', () => {
  it('logs in, with the right password only', async () => {
    const form = (await page('/login')).form('/login')
    const reply = await send('POST', '/login', { ...form?.fields, name: 'user-1', password: 'wrong' })
    expect((await page(reply.headers['location'] ?? '')).row('notice')).toMatchObject({ outcome: 'refused' })
    await logIn()
    expect((await page('/')).user).toBe('user-1')
  })

  it('leads to the page that asked for the login, and to no other site', async () => {
    const form = (await page('/bid/7')).form('/login')
    expect(form?.fields['next']).toBe('/bid/7')
    const reply = await send('POST', '/login', { ...form?.fields, next: '//elsewhere.example/x', name: 'user-1', password: 'right' })
    expect(reply.headers['location']).toMatch(/^\/\?form=/)
  })

  it('that is sent twice is run once, and answered twice', async () => {
    await logIn()
    const draft = (await page('/bid/7')).form('/draft')
    await send('POST', '/draft', { ...draft?.fields, amount: '9.50' })
    const place = (await page('/bids')).form('/place', 7)
    const first = await send('POST', '/place', { ...place?.fields })
    const second = await send('POST', '/place', { ...place?.fields })
    expect(second).toEqual(first)
    expect(first).toMatchObject({ status: 303, headers: { location: `/item/7?form=${place?.fields['key']}` } })
    expect(steps).toEqual([{ kind: 'bid', key: place?.fields['key'], user: 4, item: 7, cents: 950 }])
    expect((await page(first.headers['location'] ?? '')).row('notice')).toMatchObject({ form: place?.fields['key'], outcome: 'accepted' })
  })

  it('without a login leads to it', async () => {
    await send('GET', '/')
    expect(await send('POST', '/checkout', { key: 'key-of-the-form-1' })).toMatchObject({ status: 303, headers: { location: '/login' } })
  })

  it.each([
    ['/draft', { item: '7', amount: '9.50' }, 400],
    ['/draft', { key: 'key-of-the-form-1', item: '7', amount: '-1' }, 400],
    ['/draft', { key: 'key-of-the-form-1', item: '8', amount: '9.50' }, 404],
    ['/place', { key: 'key-of-the-form-1', item: '7' }, 400],
    ['/add', { key: 'key-of-the-form-1', item: '7', quantity: '99' }, 400],
    ['/checkout', { key: 'key-of-the-form-1' }, 400],
    ['/sell', { key: 'key-of-the-form-1', title: '\u0000', description: 'x', category: '2', start: '1' }, 400],
    ['/sell', { key: 'key-of-the-form-1', title: 'x', description: 'x', category: '3', start: '1' }, 404],
    ['/constructor', { key: 'key-of-the-form-1' }, 404],
  ])('%s with %j is refused, and changes nothing', async (path, fields, status) => {
    await logIn()
    const before = structuredClone([...stored])
    expect((await send('POST', path, fields as Record<string, string>)).status).toBe(status)
    expect([...stored]).toEqual(before)
    expect(steps).toEqual([])
  })

  it('keeps a log-out', async () => {
    await logIn()
    const form = (await page('/')).form('/logout')
    await send('POST', '/logout', { ...form?.fields })
    const again = await send('POST', '/logout', { ...form?.fields })
    expect(again).toMatchObject({ status: 303, headers: { location: `/?form=${form?.fields['key']}` } })
    expect((await page('/')).user).toBe('')
  })
})

it.each(['/nothing', '/item/8', '/item/x', '/category/9', '/constructor', '/category/2?page=-1'])('%s is not found', async (path) => {
  const reply = await send('GET', path)
  expect(reply.status).toBe(404)
  expect(new PageSeen(reply.body).name).toBe('error')
})

it('what people write is text on the pages', async () => {
  const reply = await send('GET', '/')
  expect(reply.body).toContain('Brass &lt;globe&gt; &amp; &quot;stand&quot;')
  expect(reply.body).not.toContain('<globe>')
})
