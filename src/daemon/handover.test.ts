import { randomUUID } from 'node:crypto'
import { unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BoxOwner } from '../region/box-owner.js'
import { encodeClaim, encodeFence, type ClaimStep } from '../region/control.js'
import { controlPairOffset } from '../region/layout.js'
import { createRegion, openRegion, type Region } from '../region/region.js'
import type { SessionOrigin } from '../region/session-record.js'
import { Handover, type LocalServer } from './handover.js'

let path: string
let region: Region
let serverRegion: Region
let daemon: BoxOwner
let handover: Handover
let told: string[]

beforeEach(() => {
  path = join(tmpdir(), `backdoors-handover-${randomUUID()}`)
  region = createRegion(path, 'b', 'test', { boxCount: 4, sensorsPerBox: 1, sessionsPerBox: 512, heapBytes: 512 << 10 })
  serverRegion = openRegion(path)
  daemon = BoxOwner.take(region, { name: 'daemon', daemon: true })
  told = []
  handover = new Handover(daemon, (server, count) => told.push(`${server} ${count}`))
})

afterEach(() => {
  region.memory.close()
  serverRegion.memory.close()
  unlinkSync(path)
})

const originOf = (id: string): SessionOrigin => ({ node: 'a', incarnation: 77n, box: 1, sequence: Number(id.slice(1)) + 1 })

function commit(owner: BoxOwner, id: string): void {
  owner.sessions.commit(owner.sessions.store('carts'), id, new TextEncoder().encode(id), { ttlMs: 0, schemaVersion: 1, origin: originOf(id) })
}

function adopt(count: number): void {
  for (let i = 0; i < count; i++) commit(daemon, `s${i}`)
  handover.release()
}

const waiting = (): string[] => [...daemon.sessions.store('carts').sessions.keys()]

/** A server that is connected, and what it was offered. */
class Server implements LocalServer {
  readonly stores = new Set(['carts'])
  readonly offers: { offer: number; from: string; ids: string[] }[] = []
  readonly owner: BoxOwner
  readonly box: number
  readonly generation: number

  constructor(readonly name: string) {
    this.owner = BoxOwner.take(serverRegion, { name })
    this.box = this.owner.box
    this.generation = this.owner.generation
    handover.join(this)
  }

  get last(): { offer: number; from: string; ids: string[] } {
    return this.offers.at(-1) as { offer: number; from: string; ids: string[] }
  }

  offer(offer: number, from: string, sessions: readonly { id: string }[]): void {
    this.offers.push({ offer, from, ids: sessions.map(({ id }) => id) })
  }

  refuse(...ids: string[]): void {
    handover.taken(this.last.offer, this, ids.map((id) => ({ store: 'carts', id })))
  }
}

/** A recoverer has fenced the server, and come so far. */
function fence({ box, generation }: LocalServer, step?: ClaimStep, extracted = 0): void {
  const words = new BigUint64Array(region.memory.buffer, controlPairOffset(box), 2)
  words[0] = encodeFence(generation, extracted)
  words[1] = step === undefined ? 0n : encodeClaim({ recoverer: 9, term: 1, step, generation })
}

describe('adopted sessions', () => {
  it('are offered in portions, one at a time, and leave the daemon\'s box when they are taken', () => {
    adopt(250)
    const server = new Server('web')
    for (const count of [100, 100, 50]) {
      expect(server.last).toMatchObject({ from: 'a' })
      expect(server.last.ids).toHaveLength(count)
      server.refuse()
    }
    expect(server.offers).toHaveLength(3)
    expect(new Set(server.offers.flatMap(({ ids }) => ids)).size).toBe(250)
    expect(waiting()).toEqual([])
    expect(told).toEqual(['web 100', 'web 100', 'web 50'])
  })

  it('that a server has no room for are not offered to it again, but to another', () => {
    adopt(3)
    const web = new Server('web')
    web.refuse('s1')
    expect(web.offers).toHaveLength(1)
    expect(waiting()).toEqual(['s1'])
    const shop = new Server('shop')
    expect(shop.last.ids).toEqual(['s1'])
  })
})

describe('sessions offered to a server that is fenced meanwhile', () => {
  it('are offered to its successor where they are not in its box, once the recoverer has read that', () => {
    adopt(2)
    const web = new Server('web')
    fence(web)
    web.refuse('s0', 's1')
    handover.leave(web)
    const next = new Server('web-2')
    expect(next.box).not.toBe(web.box)
    expect(next.offers).toEqual([])
    fence(web, 'claimed')
    handover.settle()
    expect(next.offers).toEqual([])
    fence(web, 'extracted', 0)
    handover.settle()
    expect(next.last.ids).toEqual(['s0', 's1'])
  })

  it('are the recoverer\'s where it found them in the box, and the daemon\'s where they came too late for it', () => {
    adopt(2)
    const web = new Server('web')
    commit(web.owner, 's0')
    const found = web.owner.sessions.sequence
    commit(web.owner, 's1')
    fence(web, 'announced', found)
    web.refuse('s0', 's1')
    handover.leave(web)
    expect(waiting()).toEqual(['s1'])
    const next = new Server('web-2')
    expect(next.last.ids).toEqual(['s1'])
  })
})

describe('sessions offered to a server that dies without a word', () => {
  it('are decided when its process is gone: what is in its box stays there', () => {
    adopt(2)
    const web = new Server('web')
    commit(web.owner, 's0')
    handover.leave(web)
    handover.settle()
    expect(waiting()).toEqual(['s0', 's1'])
    web.owner.close()
    handover.settle()
    expect(waiting()).toEqual(['s1'])
    const shop = new Server('shop')
    expect(shop.last.ids).toEqual(['s1'])
  })

  it('are offered again to the same server when it is connected anew', () => {
    adopt(2)
    const web = new Server('web')
    handover.leave(web)
    handover.join(web)
    handover.settle()
    expect(web.offers.map(({ ids }) => ids)).toEqual([['s0', 's1'], ['s0', 's1']])
  })
})
