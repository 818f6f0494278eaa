import { get, request, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DaemonStatus } from '../status.js'
import { isOwnHost } from './host-check.js'
import { StatusPage } from './status-page.js'

const status = { node: 'a', peers: [], incidents: [{ id: 1 }], history: [{ peer: 'b' }] } as unknown as DaemonStatus
let revision: number
let page: StatusPage

beforeEach(async () => {
  revision = 1
  page = await StatusPage.open({ host: '127.0.0.1', port: 0 }, { status: () => status, revision: () => revision })
})

afterEach(() => page.close())

interface Answer {
  readonly code: number | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

function ask(path: string, headers: OutgoingHttpHeaders = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(new URL(path, page.url), { headers, method, agent: false }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () => resolve({ code: response.statusCode, headers: response.headers, body }))
    }).on('error', reject).end()
  })
}

const codeOf = ({ body }: Answer): unknown => (JSON.parse(body) as { error: { code: string } }).error.code

/** Reads server-sent events as they come. */
class Follower {
  text = ''
  response: IncomingMessage | undefined
  #onText: () => void = () => undefined

  static async at(path = 'events'): Promise<Follower> {
    const follower = new Follower()
    follower.response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(new URL(path, page.url), { agent: false }, resolve).on('error', reject)
    })
    follower.response.on('error', () => undefined)
    follower.response.on('data', (chunk: Buffer) => {
      follower.text += chunk.toString()
      follower.#onText()
    })
    return follower
  }

  count(event: string): number {
    return this.text.split(`event: ${event}\n`).length - 1
  }

  async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise<void>((resolve) => (this.#onText = resolve))
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.response?.once('close', resolve))
    this.response?.destroy()
    await closed
  }
}

describe('the page', () => {
  it('is served with all that it needs, and may load nothing else', async () => {
    const { code, headers, body } = await ask('/')
    expect(code).toBe(200)
    expect(headers).toMatchObject({ 'content-type': 'text/html; charset=utf-8', 'x-content-type-options': 'nosniff', 'cross-origin-resource-policy': 'same-origin', 'cache-control': 'no-store' })
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';.*frame-ancestors 'none'$/)
    expect(headers).not.toHaveProperty('access-control-allow-origin')
    const links = [...body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link]) => link as string)
    expect(links).toEqual(['/icon.svg', '/page.css', '/main.js', '/status.json'])
    const seen = new Set<string>()
    for (const waiting = links.slice(); waiting.length > 0;) {
      const path = waiting.pop() as string
      if (seen.has(path)) continue
      seen.add(path)
      const answer = await ask(path)
      expect({ path, code: answer.code }).toEqual({ path, code: 200 })
      // What a script imports stands beside it.
      if (path.endsWith('.js')) waiting.push(...[...answer.body.matchAll(/from '\.(\/[\w-]+\.js)'/g)].map(([, module]) => module as string))
      expect(answer.body.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|innerHTML|outerHTML|insertAdjacentHTML|document\.write/)
    }
    expect(seen.size).toBe(10)
  })

  it('gives the status as the local socket does', async () => {
    expect(JSON.parse((await ask('/status.json')).body)).toEqual(status)
  })

  it.each([
    ['POST', '/', {}, 405], ['PUT', '/status.json', {}, 405], ['HEAD', '/events', {}, 405], ['OPTIONS', '/status.json', {}, 405],
    ['GET', '/nothing', {}, 404], ['GET', '/../package.json', {}, 404], ['GET', '/%2e%2e/assets.ts', {}, 404], ['GET', '//[', {}, 400],
    ['GET', '/', { host: 'evil.example' }, 421], ['GET', '/status.json', { host: '127.0.0.1.evil.example:80' }, 421], ['GET', '/events', { host: 'evil.example:9480' }, 421],
    ['GET', '/status.json', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, 403], ['GET', '/events', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }, 403],
  ] as const)('answers %s %s %j with %i', async (method, path, headers, expected) => {
    const raw = await new Promise<Answer>((resolve, reject) => {
      const { hostname, port } = new URL(page.url)
      request({ hostname, port, path, method, headers, agent: false }, (response) => {
        let body = ''
        response.on('data', (chunk: Buffer) => (body += chunk.toString()))
        response.on('end', () => resolve({ code: response.statusCode, headers: response.headers, body }))
      }).on('error', reject).end()
    })
    expect(raw.code).toBe(expected)
    if (method !== 'HEAD') expect(codeOf(raw)).toBe('PROTOCOL_ERROR')
  })

  it('is followed by a link from elsewhere', async () => {
    expect((await ask('/', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).code).toBe(200)
  })

  it('cannot be served where somebody listens already: SYSTEM_CALL_FAILED', async () => {
    const port = Number(new URL(page.url).port)
    await expect(StatusPage.open({ host: '127.0.0.1', port }, { status: () => status, revision: () => 0 })).rejects.toMatchObject({ code: 'SYSTEM_CALL_FAILED', message: expect.stringContaining(`127.0.0.1:${port}`) as string })
  })
})

describe('the events', () => {
  it('begin with all there is, come at once when something has happened, and tell the past only when there is more of it', async () => {
    const follower = await Follower.at()
    expect(follower.response?.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    await follower.until(() => follower.count('past') === 1)
    const [first] = [...follower.text.matchAll(/^event: status\ndata: (.*)$/gm)]
    expect(JSON.parse(first?.[1] ?? '')).toEqual({ node: 'a', peers: [] })
    const [past] = [...follower.text.matchAll(/^event: past\ndata: (.*)$/gm)]
    expect(JSON.parse(past?.[1] ?? '')).toEqual({ incidents: [{ id: 1 }], history: [{ peer: 'b' }] })
    page.refresh()
    await follower.until(() => follower.count('status') >= 2)
    const before = follower.count('past')
    page.refresh()
    await follower.until(() => follower.count('status') >= 4)
    expect(follower.count('past')).toBe(before)
    revision++
    page.refresh()
    await follower.until(() => follower.count('past') === before + 1)
    await follower.close()
  })

  it('are for 16 at a time; another is told so, and finds room when one has gone', async () => {
    const followers = await Promise.all(Array.from({ length: 16 }, () => Follower.at()))
    const refused = await ask('/events')
    expect(refused.code).toBe(503)
    expect(codeOf(refused)).toBe('QUEUE_FULL')
    await followers.pop()?.close()
    // The server learns of it by the connection's end, a moment later.
    for (;;) {
      const next = await Follower.at()
      followers.push(next)
      if (next.response?.statusCode === 200) break
    }
    await Promise.all(followers.map((follower) => follower.close()))
  })

  it('end with the daemon', async () => {
    const follower = await Follower.at()
    const ended = new Promise((resolve) => follower.response?.once('close', resolve))
    await page.close()
    await ended
    page = await StatusPage.open({ host: '127.0.0.1', port: 0 }, { status: () => status, revision: () => 0 })
  })
})

describe('a name that the page is asked for by', () => {
  it.each([
    ['localhost', '127.0.0.1', true], ['localhost:9480', '127.0.0.1', true], ['LOCALHOST.', '127.0.0.1', true], ['127.0.0.1:80', 'monitor', true], ['[::1]:9480', '127.0.0.1', true],
    ['monitor:9480', 'Monitor', true], ['10.0.0.7:9480', '0.0.0.0', true], ['[fd00::7]', '::', true],
    [undefined, '127.0.0.1', false], ['', '127.0.0.1', false], [':80', '127.0.0.1', false], ['evil.example', '127.0.0.1', false], ['10.0.0.7', '127.0.0.1', false],
    ['evil.example', '0.0.0.0', false], ['localhost.evil.example', '127.0.0.1', false], ['localhost@evil.example', '127.0.0.1', false], ['localhost:80:80', '127.0.0.1', false], ['[::1', '::', false],
  ] as const)('%s, where it is served on %s: %s', (header, configured, expected) => {
    expect(isOwnHost(header, configured)).toBe(expected)
  })
})
