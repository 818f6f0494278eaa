import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { unlinkSync } from 'node:fs'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { monotonicMs } from '../native/clock.js'
import { BoxOwner } from '../region/box-owner.js'
import { createRegion, type Region } from '../region/region.js'
import { fromDaemon, readMessages, socketPathOf, writeMessage, type FromDaemon } from '../servers/local-protocol.js'
import { Handover } from './handover.js'
import { LocalSocket } from './local-server.js'

let path: string
let region: Region
let daemon: BoxOwner
let handover: Handover
let local: LocalSocket
let clients: Client[]

beforeEach(async () => {
  path = join(tmpdir(), `backdoors-local-${randomUUID()}`)
  region = createRegion(path, 'b', 'test', { boxCount: 4, sensorsPerBox: 1, sessionsPerBox: 8, heapBytes: 64 << 10 })
  daemon = BoxOwner.take(region, { name: 'daemon', daemon: true })
  handover = new Handover(daemon, { onTaken: () => undefined, onKept: () => undefined, onDamaged: () => undefined }, monotonicMs)
  local = new LocalSocket(socketPathOf(path), handover, { done: () => true }, pino({ level: 'silent' }))
  await local.listen()
  clients = []
})

afterEach(async () => {
  for (const { socket } of clients) socket.destroy()
  await local.close()
  region.memory.close()
  unlinkSync(path)
})

function adopt(store: string, id: string): void {
  const origin = { node: 'a', incarnation: 77n, box: 1, sequence: 1 }
  daemon.sessions.commit(daemon.sessions.store(store), id, new Uint8Array(8), { ttlMs: 0, schemaVersion: 1, origin })
}

/** A server as the daemon's socket sees it. */
class Client {
  readonly socket: Socket = connect(socketPathOf(path))
  readonly offers: Extract<FromDaemon, { type: 'offered' }>[] = []
  #requests = 0
  #answered: (() => void) | undefined

  constructor(readonly box: number) {
    clients.push(this)
    readMessages(this.socket, fromDaemon, (message) => {
      if (message.type === 'offered') this.offers.push(message)
      else this.#answered?.()
    }, () => undefined)
  }

  get offered(): string[][] {
    return this.offers.map(({ sessions }) => sessions.map(({ id }) => id))
  }

  /** Resolves when the daemon has dealt with it, and all that it said by then is here. */
  async attach(...stores: string[]): Promise<void> {
    writeMessage(this.socket, { type: 'attached', box: this.box, generation: 1, name: `web-${this.box}`, stores, continues: [] })
    await this.#settled()
  }

  async take(offer: number): Promise<void> {
    writeMessage(this.socket, { type: 'taken', offer, refused: [], kept: [] })
    await this.#settled()
  }

  #settled(): Promise<void> {
    const answered = new Promise<void>((resolve) => (this.#answered = resolve))
    writeMessage(this.socket, { type: 'request', id: ++this.#requests, method: 'done', params: {} })
    return answered
  }
}

describe('a server that says anew which stores it serves', () => {
  it('keeps what it was offered, and is offered what the new stores make possible when it has taken that', async () => {
    adopt('carts', 's0')
    adopt('names', 'n0')
    handover.release({ node: 'a', incarnation: 77n, boxes: [1] })
    const [web, shop] = [new Client(1), new Client(2)]
    await web.attach('carts')
    await web.attach('carts', 'names')
    handover.settle()
    await shop.attach('carts')
    expect(web.offered).toEqual([['s0']])
    expect(shop.offered).toEqual([])
    await web.take(1)
    expect(web.offered).toEqual([['s0'], ['n0']])
    expect(handover.waiting).toBe(1)
    expect(local.attached).toEqual(['web-1', 'web-2'])
  })

  it('is another one where its box is another, and what it was offered waits for its word no more', async () => {
    adopt('carts', 's0')
    handover.release({ node: 'a', incarnation: 77n, boxes: [1] })
    const web = new Client(1)
    await web.attach('carts')
    Object.assign(web, { box: 2 })
    await web.attach('carts')
    // Nobody holds the lock of box 1, and it is empty.
    handover.settle()
    await web.take(1)
    expect(handover.waiting).toBe(1)
    expect(web.offered).toEqual([['s0'], ['s0']])
    expect(local.attached).toEqual(['web-2'])
  })
})

describe('a damaged session in the daemon\'s box', () => {
  it('does not reach the socket\'s handler as an exception', async () => {
    adopt('carts', 's0')
    handover.release({ node: 'a', incarnation: 77n, boxes: [1] })
    const found = daemon.sessions.locate(daemon.sessions.store('carts'), 's0')
    region.bytes.fill(0xff, found?.offset, (found?.offset ?? 0) + (found?.length ?? 0))
    const web = new Client(1)
    await web.attach('carts')
    expect(web.offered).toEqual([])
    expect(handover.damaged).toBe(1)
    web.socket.destroy()
    await once(web.socket, 'close')
  })
})
