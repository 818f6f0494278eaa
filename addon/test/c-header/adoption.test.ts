/** Sessions go from a server in C to one in TypeScript and the other way round, by real daemons; and daemons that say nonsense. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startDaemon, type Daemon } from '../../../src/daemon/daemon.js'
import { BoxOwner } from '../../../src/region/box-owner.js'
import { createRegion, type Region } from '../../../src/region/region.js'
import { attach, type AttachedNode } from '../../../src/servers/attach.js'
import { bytesCodec } from '../../../src/servers/codec.js'
import { socketPathOf } from '../../../src/servers/local-protocol.js'
import type { Adopted } from '../../../src/servers/session-store.js'
import { Driver, hex, sanitized } from './c-program.js'
import { numberOf } from './errors.js'

let folder: string
const closers: (() => unknown)[] = []
const pathOf = (node: string): string => join(folder, node)
const sizes = { sensorsPerBox: 8, sessionsPerBox: 256, heapBytes: 1 << 20 }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-adoption-'))
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function daemon(node: string, peer: string): Promise<Daemon> {
  const started = await startDaemon({
    node, cluster: 'test', log: 'silent',
    region: { path: pathOf(node), boxes: 4, ...sizes },
    peers: [{ name: peer, region: pathOf(peer) }],
    watch: { peers: 3, intervalUs: 500, osDeadlineMs: 2000, refreshMs: 20 },
  })
  closers.push(() => started.close())
  return started
}

async function inTypescript(node: string): Promise<AttachedNode> {
  const attached = await attach({ region: pathOf(node), name: 'shop' })
  closers.push(() => attached.close())
  return attached
}

async function inC(node: string): Promise<Driver> {
  const server = new Driver(sanitized)
  closers.push(() => server.end('SIGKILL'))
  expect(await server.ask(`attach ${pathOf(node)} shop`)).toMatch(/^0 \d+ 1$/)
  return server
}

/** Polls until sessions have come, or something else has happened. @returns the line that says so */
async function polled(server: Driver): Promise<string> {
  for (;;) {
    const line = await server.ask('poll')
    if (line !== '0') return line
    await sleepMs(2)
  }
}

/** Until this node's daemon sees the sensors of the other's server. */
async function watched(watcher: Daemon): Promise<void> {
  while (!watcher.status().peers[0]?.servers?.some(({ sensors, name }) => name === 'shop' && sensors.length > 0)) await sleepMs(2)
}

const bytes = { codec: bytesCodec }
const ids = Array.from({ length: 150 }, (_, i) => `u-${i} "ü\n`)

describe('real daemons', { timeout: 120_000 }, () => {
  it('bring the sessions of a server in C that was killed to one in TypeScript', async () => {
    const [a, b] = [await daemon('a', 'b'), await daemon('b', 'a')]
    expect(a.status().node).toBe('a')
    const store = (await inTypescript('b')).sessions('carts', bytes)
    const server = await inC('a')
    await server.ask('progress requests 60000000')
    for (const id of ids) expect(await server.ask(`commit carts ${hex(id)} 60000 1 ${hex(`of ${id}`)}`)).toBe('0')
    await watched(b)
    const came = new Set<string>()
    const all = new Promise<void>((resolve) => store.on('adopted', (adopted: Adopted) => {
      for (const id of adopted.ids) came.add(id)
      if (came.size === ids.length) resolve()
    }))
    await server.end('SIGKILL')
    await all
    for (const id of ids) expect(Buffer.from(store.get(id) ?? []).toString()).toBe(`of ${id}`)
  })

  it('bring the sessions of a server in TypeScript that hangs to one in C, and on to the next when that one hangs', async () => {
    const [a, b] = [await daemon('a', 'b'), await daemon('b', 'a')]
    const first = await inTypescript('a')
    const store = first.sessions('carts', bytes)
    for (const id of ids) store.commit(id, Buffer.from(`of ${id}`))
    const second = await inC('b')
    expect(await second.ask('serve carts')).toBe('0')
    expect(await second.ask('poll')).toBe('0')
    first.sensor('requests', { deadlineMs: 100 }).pending(1)
    const came = new Set<string>()
    while (came.size < ids.length) {
      const [, ...words] = (await polled(second)).split(' ')
      for (let at = 0; at < words.length; at += 6) {
        const [inStore, id, schema, , from, payload] = words.slice(at, at + 6) as [string, string, string, string, string, string]
        expect([inStore, schema, from, payload]).toEqual(['carts', '1', 'a', hex(`of ${Buffer.from(id, 'hex').toString()}`)])
        came.add(Buffer.from(id, 'hex').toString())
      }
    }
    expect([...came].sort()).toEqual([...ids].sort())
    expect(await second.ask(`commit carts ${hex(ids[0] as string)} 0 2 ${hex('changed')}`)).toBe('0')
    // The second failure: back to where they came from, to a server that is attached anew.
    const third = await attach({ region: pathOf('a'), name: 'shop-again' })
    closers.push(() => third.close())
    const back = third.sessions('carts', { ...bytes, schemaVersion: 2, migrate: (value) => value as Buffer })
    while (b.status().waitingSessions > 0) await sleepMs(2)
    await second.ask('progress requests 100000')
    await watched(a)
    while (back.size < ids.length) await sleepMs(5)
    expect(Buffer.from(back.get(ids[0] as string) ?? []).toString()).toBe('changed')
    expect(Buffer.from(back.get(ids[1] as string) ?? []).toString()).toBe(`of ${ids[1] as string}`)
    expect(await second.ask('fenced')).toBe('1')
  })
})

/** A daemon of the test's own: it holds sessions in box 0, and says what the test likes. */
class Played {
  readonly region: Region
  readonly box: BoxOwner
  readonly said: string[] = []
  readonly #server: Server
  #socket: Socket | undefined

  constructor(path: string) {
    this.region = createRegion(path, 'b', 'test', { boxCount: 2, ...sizes })
    this.box = BoxOwner.take(this.region, { name: 'backdoors', daemon: true })
    this.#server = createServer((socket) => {
      this.#socket = socket.on('error', () => undefined)
      createInterface({ input: socket }).on('line', (line) => this.said.push(line)).on('error', () => undefined)
    }).listen(socketPathOf(path))
    closers.push(() => this.close())
  }

  listening(): Promise<unknown> {
    return once(this.#server, 'listening')
  }

  say(text: string): void {
    this.#socket?.write(text)
  }

  commit(id: string, text: string, sequence: number): { store: string; id: string; offset: number; length: number } {
    const store = this.box.sessions.store('carts')
    const origin = { node: 'a', incarnation: 7n, box: 1, sequence }
    this.box.sessions.commit(store, id, Buffer.from(text), { ttlMs: 0, schemaVersion: 1, origin })
    const { offset, length } = this.box.sessions.locate(store, id) as { offset: number; length: number }
    return { store: 'carts', id, offset, length }
  }

  /** Until the server has said so many lines. */
  async heard(lines: number): Promise<string> {
    while (this.said.length < lines) await sleepMs(1)
    return this.said[lines - 1] as string
  }

  close(): void {
    this.#socket?.destroy()
    this.#server.close()
    this.region.memory.close()
  }
}

async function played(): Promise<{ daemon: Played; server: Driver }> {
  const made = new Played(pathOf('b'))
  await made.listening()
  const server = await inC('b')
  await server.ask('serve carts')
  expect(await server.ask('poll')).toBe('0')
  expect(JSON.parse(await made.heard(1))).toEqual({ type: 'attached', box: 1, generation: 1, name: 'shop', stores: ['carts'] })
  return { daemon: made, server }
}

describe('an offer', { timeout: 60_000 }, () => {
  it('is taken once, keeps what is here, and is refused where it is not what stands in the daemon\'s box', async () => {
    const { daemon: played1, server } = await played()
    await server.ask(`commit carts ${hex('own')} 0 1 ${hex('mine')}`)
    const u1 = played1.commit('u-1', 'milk', 3)
    const u2 = played1.commit('u-2', 'bread', 4)
    const offers = [u1, { ...u2, id: 'u-3' }, { ...u2, store: 'logins' }, { ...u2, length: u2.length - 1 }, { ...u2, offset: 2 ** 52 }, played1.commit('own', 'theirs', 5)]
    // In pieces, as a socket may bring it, with members that a later release may have.
    const line = `${JSON.stringify({ later: [{ x: -1.5e3 }, null, true, 'é\u0001'], offer: 9, type: 'offered', sessions: offers, from: 'a' })}\n`
    for (const piece of [line.slice(0, 10), line.slice(10, 100), line.slice(100)]) {
      played1.say(piece)
      if (piece === line.slice(100)) break
      expect(await server.ask('poll')).toBe('0')
    }
    expect(await polled(server)).toBe(`1 carts ${hex('u-1')} 1 0 a ${hex('milk')}`)
    const refused = [{ store: 'carts', id: 'u-3' }, { store: 'logins', id: 'u-2' }, { store: 'carts', id: 'u-2' }, { store: 'carts', id: 'u-2' }]
    expect(JSON.parse(await played1.heard(2))).toEqual({ type: 'taken', offer: 9, refused, kept: [{ store: 'carts', id: 'own' }] })
    // Offered again, with an answer for somebody else before it: what it has made of the session stays.
    await server.ask(`commit carts ${hex('u-1')} 0 1 ${hex('milk, eggs')}`)
    played1.say(`{"type":"response","id":1,"result":{}}\n${JSON.stringify({ type: 'offered', offer: 10, from: 'a', sessions: [u1] })}\n`)
    expect(await polled(server)).toBe(`1 carts ${hex('u-1')} 1 0 a ${hex('milk, eggs')}`)
    expect(JSON.parse(await played1.heard(3))).toEqual({ type: 'taken', offer: 10, refused: [], kept: [] })
    expect(await server.ask(`get carts ${hex('own')}`)).toBe(`0 carts ${hex('own')} 1 0 - ${hex('mine')}`)
  })

  it('is told session by session as each stands by then, whatever the server does between them', async () => {
    const { daemon: played1, server } = await played()
    const sessions = ['u-1', 'u-2', 'u-3', 'u-4'].map((id, i) => played1.commit(id, `of ${id}`, i + 3))
    played1.say(`${JSON.stringify({ type: 'offered', offer: 1, from: 'a', sessions })}\n`)
    // In the first call, u-2 makes way for a session of another id, and u-3 for another one of its own id.
    expect(await server.ask(`poll-replacing carts ${hex('u-2')} ${hex('new')} ${hex('u-3')} ${hex('u-3')}`)).toBe(`4 carts ${hex('u-1')} 1 0 a ${hex('of u-1')} carts ${hex('u-4')} 1 0 a ${hex('of u-4')}`)
    expect(await server.ask(`get carts ${hex('new')}`)).toBe(`0 carts ${hex('new')} 1 0 - ${hex('new')}`)
    expect(JSON.parse(await played1.heard(2))).toEqual({ type: 'taken', offer: 1, refused: [], kept: [] })
  })

  it.each([
    'nonsense', '{}', '[]', '{"type":"offered"}', '{"type":"other"}', '{"type":"response"} x',
    '{"type":"offered","offer":-1,"from":"a","sessions":[]}', '{"type":"offered","offer":01,"from":"a","sessions":[]}', '{"type":"offered","offer":1.5,"from":"a","sessions":[]}',
    '{"type":"offered","offer":1,"from":"a","sessions":{}}', '{"type":"offered","offer":1,"from":"a","sessions":[{}]}', '{"type":"offered","offer":1,"from":"a","sessions":[],}',
    '{"type":"offered","offer":1,"from":"a","sessions":[{"store":"carts","id":"u","offset":0,"length":9007199254740992}]}',
    `{"type":"offered","offer":1,"from":"a","sessions":[{"store":"carts","id":"${'x'.repeat(1025)}","offset":0,"length":100}]}`,
    '{"type":"offered","offer":1,"from":"a","sessions":[{"store":"carts","id":"\\ud800","offset":0,"length":100}]}', '{"type":"resp\\', '{"type":"response","x":tru}', '['.repeat(4000),
  ])('that is no message ends the connection, and another is made: message %#', async (line) => {
    const { daemon: played1, server } = await played()
    played1.say(`${line}\n`)
    expect(await polled(server)).toBe(String(numberOf('PROTOCOL_ERROR')))
    while (played1.said.length < 2) {
      expect(await server.ask('poll')).toBe('0')
      await sleepMs(2)
    }
    expect(JSON.parse(await played1.heard(2))).toMatchObject({ type: 'attached', stores: ['carts'] })
  })

  it('never comes where there is no daemon, and nothing waits for it', async () => {
    createRegion(pathOf('b'), 'b', 'test', { boxCount: 2, ...sizes }).memory.close()
    const server = await inC('b')
    await server.ask('serve carts')
    for (let i = 0; i < 100; i++) expect(await server.ask('poll')).toBe('0')
  })
})
