import { randomUUID } from 'node:crypto'
import { unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BoxOwner } from '../region/box-owner.js'
import { encodeClaim, encodeFence, type ClaimStep } from '../region/control.js'
import { controlPairOffset, directoryEntry, directoryEntryOffset } from '../region/layout.js'
import { createRegion, openRegion, type Region } from '../region/region.js'
import type { SessionOrigin } from '../region/session-record.js'
import type { NotTaken, OfferedSession } from '../servers/local-protocol.js'
import { takeOver } from '../servers/take-over.js'
import { Handover, refusalLastsMs, type LocalServer } from './handover.js'

let path: string
let region: Region
let serverRegion: Region
let daemon: BoxOwner
let handover: Handover
let told: string[]
let damaged: string[]
let nowMs: number

beforeEach(() => {
  path = join(tmpdir(), `backdoors-handover-${randomUUID()}`)
  region = createRegion(path, 'b', 'test', { boxCount: 4, sensorsPerBox: 1, sessionsPerBox: 512, heapBytes: 512 << 10 })
  serverRegion = openRegion(path)
  daemon = BoxOwner.take(region, { name: 'daemon', daemon: true })
  told = []
  damaged = []
  nowMs = 0
  handover = startHandover()
})

afterEach(() => {
  region.memory.close()
  serverRegion.memory.close()
  unlinkSync(path)
})

/** What the daemon that runs now knows: a later one begins with what stands in the region. */
const startHandover = (): Handover => new Handover(daemon, {
  onTaken: (server, count) => told.push(`${server} ${count}`),
  onKept: (server, sessions) => told.push(`${server} keeps its own ${sessions.map(({ id }) => id).join(' ')}`),
  onDamaged: ({ code, details }) => damaged.push(`${code} ${String(details.sessionId)}`),
}, () => nowMs)

/** The daemon is killed, and another one takes its box up. */
function restart(): void {
  daemon.close()
  daemon = BoxOwner.take(region, { name: 'daemon', daemon: true })
  handover = startHandover()
  handover.resume()
}

const recovered = { node: 'a', incarnation: 77n, boxes: [1] }
const originOf = (id: string, box = 1): SessionOrigin => ({ node: 'a', incarnation: 77n, box, sequence: Number(id.slice(1)) + 1 })

function commit(owner: BoxOwner, id: string, store = 'carts', fromBox = 1): void {
  owner.sessions.commit(owner.sessions.store(store), id, new TextEncoder().encode(id), { ttlMs: 0, schemaVersion: 1, origin: originOf(id, fromBox) })
}

function adopt(count: number): void {
  for (let i = 0; i < count; i++) commit(daemon, `s${i}`)
  handover.release(recovered)
}

const waiting = (): string[] => [...daemon.sessions.store('carts').sessions.keys()]

/** Something writes over the session's record in the daemon's box. */
function damage(id: string): void {
  const found = daemon.sessions.locate(daemon.sessions.store('carts'), id)
  const last = (found?.offset ?? 0) + (found?.length ?? 0) - 1
  region.bytes[last] = (region.bytes[last] as number) ^ 1
}

/** A server that is connected, and what it was offered. */
class Server implements LocalServer {
  stores = new Set(['carts'])
  readonly offers: { offer: number; from: string; ids: string[]; sessions: readonly OfferedSession[] }[] = []
  readonly owner: BoxOwner
  readonly box: number
  readonly generation: number

  constructor(readonly name: string) {
    this.owner = BoxOwner.take(serverRegion, { name })
    this.box = this.owner.box
    this.generation = this.owner.generation
    handover.join(this)
  }

  get last(): Server['offers'][number] {
    return this.offers.at(-1) as Server['offers'][number]
  }

  offer(offer: number, from: string, sessions: readonly OfferedSession[]): void {
    this.offers.push({ offer, from, ids: sessions.map(({ id }) => id), sessions })
  }

  /** As a server's link to the daemon does. */
  takeOver(): void {
    const notTaken: NotTaken = { refused: [], kept: [] }
    for (const offered of this.last.sessions) {
      const taking = takeOver(this.owner, offered)
      if (taking !== 'taken') notTaken[taking].push(offered)
    }
    handover.taken(this.last.offer, this, notTaken)
  }

  refuse(...ids: string[]): void {
    handover.taken(this.last.offer, this, { refused: ids.map((id) => ({ store: 'carts', id })), kept: [] })
  }

  keepOwn(...ids: string[]): void {
    handover.taken(this.last.offer, this, { refused: [], kept: ids.map((id) => ({ store: 'carts', id })) })
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

  it('that a server has no room for are offered to it again when the refusal has aged', () => {
    adopt(3)
    const web = new Server('web')
    web.refuse('s1')
    nowMs = refusalLastsMs - 1
    handover.settle()
    expect(web.offers).toHaveLength(1)
    nowMs = refusalLastsMs
    handover.settle()
    expect(web.last.ids).toEqual(['s1'])
    web.refuse('s1')
    nowMs = 2 * refusalLastsMs - 1
    handover.settle()
    expect(web.offers).toHaveLength(2)
  })

  it('that a server has of its own are dropped and told of, and never come back, not even when its own are over', () => {
    adopt(3)
    const web = new Server('web')
    const carts = web.owner.sessions.store('carts')
    web.owner.sessions.commit(carts, 's1', new TextEncoder().encode('own'), { ttlMs: 0, schemaVersion: 1 })
    web.takeOver()
    expect(waiting()).toEqual([])
    expect(told).toEqual(['web 2', 'web keeps its own s1'])
    expect(handover.dropped).toBe(1)
    web.owner.sessions.delete(carts, 's1')
    nowMs = 100 * refusalLastsMs
    handover.settle()
    handover.release(recovered)
    restart()
    handover.join(web)
    handover.settle()
    expect([...carts.sessions.keys()]).toEqual(['s0', 's2'])
    expect([...web.offers.slice(1), ...new Server('shop').offers]).toEqual([])
  })

  it('that only a fenced server has of its own wait for what its recoverer found', () => {
    adopt(1)
    const web = new Server('web')
    fence(web, 'claimed')
    web.keepOwn('s0')
    expect(waiting()).toEqual(['s0'])
    fence(web, 'extracted', 0)
    handover.settle()
    expect(new Server('shop').last.ids).toEqual(['s0'])
    expect(handover.dropped).toBe(0)
  })

  it('that a server has of its own stay where a recovery has written over them since they were offered', () => {
    adopt(1)
    const web = new Server('web')
    commit(daemon, 's0')
    web.keepOwn('s0')
    expect(waiting()).toEqual(['s0'])
    expect(handover.dropped).toBe(0)
  })

  it('are not offered while their recovery is under way, though other sessions of the store are', () => {
    adopt(1)
    commit(daemon, 's1')
    const web = new Server('web')
    expect(web.last.ids).toEqual(['s0'])
    web.refuse()
    expect(web.offers).toHaveLength(1)
    handover.release(recovered)
    expect(web.last.ids).toEqual(['s1'])
  })

  it('of a recovery that failed are not offered when another recovery has ended, but when it has, run again', () => {
    commit(daemon, 's9', 'carts', 2)
    adopt(1)
    const web = new Server('web')
    web.refuse()
    expect(web.offers.map(({ ids }) => ids)).toEqual([['s0']])
    handover.release({ ...recovered, boxes: [2] })
    expect(web.last.ids).toEqual(['s9'])
  })

  it('are not offered where a recovery under way has written over them', () => {
    adopt(1)
    commit(daemon, 's0')
    const web = new Server('web')
    expect(web.offers).toEqual([])
    handover.release(recovered)
    expect(web.last.ids).toEqual(['s0'])
  })

  it('stay where a recovery has written over them since they were offered', () => {
    adopt(1)
    const web = new Server('web')
    commit(daemon, 's0')
    web.refuse()
    expect(waiting()).toEqual(['s0'])
  })

  it('of further stores are offered when the server serves those, and what it was offered before stays its own', () => {
    commit(daemon, 'n0', 'names')
    adopt(1)
    const web = new Server('web')
    web.stores = new Set(['carts', 'names'])
    handover.join(web)
    const shop = new Server('shop')
    expect(web.offers.map(({ ids }) => ids)).toEqual([['s0']])
    expect(shop.offers).toEqual([])
    web.refuse()
    expect(web.last.ids).toEqual(['n0'])
    expect(waiting()).toEqual([])
  })

  it('that a stray write has damaged are left out and told of once, and cost the others nothing', () => {
    adopt(3)
    damage('s1')
    const web = new Server('web')
    expect(web.last.ids).toEqual(['s0', 's2'])
    damage('s2')
    web.refuse('s0', 's2')
    handover.leave(web)
    handover.join(web)
    expect(web.last.ids).toEqual(['s0'])
    expect(damaged).toEqual(['RECORD_CORRUPT s1', 'RECORD_CORRUPT s2'])
    expect(handover.damaged).toBe(2)
  })
})

describe('sessions offered before the daemon was restarted', () => {
  it('stay the server\'s where they are in its box, be it only in a newer state, and the others are offered', () => {
    adopt(3)
    const web = new Server('web')
    commit(web.owner, 's0')
    commit(web.owner, 's1')
    const carts = web.owner.sessions.store('carts')
    web.owner.sessions.commit(carts, 's1', new TextEncoder().encode('newer'), { ttlMs: 0, schemaVersion: 1 })
    web.owner.close()
    restart()
    const shop = new Server('shop')
    expect(waiting()).toEqual(['s2'])
    expect(shop.offers.map(({ ids }) => ids)).toEqual([['s2']])
  })

  it('are not served twice where the recovery that the restart cut short adopts them once more', () => {
    commit(daemon, 's0')
    restart()
    const web = new Server('web')
    commit(web.owner, 's0')
    web.refuse()
    commit(daemon, 's0')
    commit(daemon, 's1')
    handover.release(recovered)
    expect(waiting()).toEqual(['s1'])
    expect(web.offers.map(({ ids }) => ids)).toEqual([['s0'], ['s1']])
  })

  it('are offered to nobody before a server that lives is connected anew, for it may be about to take them over', () => {
    adopt(2)
    const web = new Server('web')
    restart()
    const shop = new Server('shop')
    handover.settle()
    expect(shop.offers).toEqual([])
    commit(web.owner, 's0')
    handover.join(web)
    handover.settle()
    expect(waiting()).toEqual(['s1'])
    expect([...shop.offers, ...web.offers.slice(1)].map(({ ids }) => ids)).toEqual([['s1']])
  })

  it('are held back while a fenced server\'s recoverer has not read its box, and then are whose it says', () => {
    adopt(2)
    const web = new Server('web')
    commit(web.owner, 's0')
    const found = web.owner.sessions.sequence
    commit(web.owner, 's1')
    fence(web, 'claimed')
    restart()
    const shop = new Server('shop')
    handover.settle()
    expect(waiting()).toEqual(['s0', 's1'])
    expect(shop.offers).toEqual([])
    fence(web, 'extracted', found)
    handover.settle()
    expect(waiting()).toEqual(['s1'])
    expect(shop.last.ids).toEqual(['s1'])
  })

  it('are decided by the lock alone where a box\'s directory entry is damaged', () => {
    adopt(2)
    const web = new Server('web')
    commit(web.owner, 's0')
    const start = directoryEntryOffset(region.header.plan, web.box)
    region.bytes.fill(0xff, start, start + directoryEntry.bytes)
    restart()
    const shop = new Server('shop')
    handover.settle()
    expect(shop.offers).toEqual([])
    serverRegion.memory.unlockBytes(start, 1)
    handover.settle()
    expect(waiting()).toEqual(['s1'])
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

describe('sessions offered to a server that hangs', () => {
  it('are offered to another once it is fenced, and no sooner, and its late answer is not heard', () => {
    adopt(2)
    const web = new Server('web')
    const shop = new Server('shop')
    handover.settle()
    expect(shop.offers).toEqual([])
    fence(web, 'claimed')
    handover.settle()
    expect(shop.offers).toEqual([])
    fence(web, 'extracted', 0)
    handover.settle()
    expect(shop.last.ids).toEqual(['s0', 's1'])
    web.refuse()
    expect(waiting()).toEqual(['s0', 's1'])
    expect(told).toEqual([])
  })

  it('are its recoverer\'s where they are in its box', () => {
    adopt(2)
    const web = new Server('web')
    commit(web.owner, 's0')
    fence(web, 'announced', web.owner.sessions.sequence)
    const shop = new Server('shop')
    handover.settle()
    expect(waiting()).toEqual(['s1'])
    expect(shop.last.ids).toEqual(['s1'])
  })

  it('are not offered to it at all where it is fenced already', () => {
    const web = new Server('web')
    fence(web, 'announced')
    adopt(1)
    expect(web.offers).toEqual([])
    expect(new Server('shop').last.ids).toEqual(['s0'])
  })
})

describe('a session that the recoverer found in a fenced box', () => {
  it('is the recoverer\'s, though the server has committed a later state that came too late', () => {
    adopt(1)
    const web = new Server('web')
    commit(web.owner, 's0')
    const found = web.owner.sessions.sequence
    commit(web.owner, 's0')
    fence(web, 'extracted', found)
    handover.leave(web)
    handover.settle()
    expect(waiting()).toEqual([])
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
