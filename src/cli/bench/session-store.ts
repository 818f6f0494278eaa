/**
 * Stores of express-session under one load: ours, connect-redis with a Redis on loopback, and express-session's own MemoryStore. Runs of
 * all three take turns, in an order drawn anew each time, so that what else the machine does meets them alike.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SessionData, Store } from 'express-session'
import { asBackdoorsError } from '../../errors.js'
import { Random } from '../../fabric/mock/random.js'
import { createRegion } from '../../region/region.js'
import { attach } from '../../servers/attach.js'
import { cart } from './commit.js'
import { loadRival, withRedisServer } from './redis-server.js'
import { bootstrapInterval, distributionOf, type Distribution, type Interval } from './statistics.js'

export interface SessionStoreBenchOptions {
  /** Runs of each store, for each number of requests in flight. */
  readonly pairs: number
  /** Length of a run. */
  readonly seconds: number
  /** Operations that are under way at a time: one row for each number. */
  readonly inFlight: readonly number[]
  readonly sessions: number
  /** Where the region is made for as long as this runs. Default: the system's folder for temporary files. */
  readonly folder?: string
  readonly seed?: number
}

export const rivalStores = ['backdoors', 'connectRedis', 'memoryStore'] as const
export type RivalStore = (typeof rivalStores)[number]

export interface SessionStoreRow {
  readonly inFlight: number
  readonly pairs: number
  readonly operationsPerSecond: Readonly<Record<RivalStore, Distribution>>
  /** Ours, as a multiple of connect-redis, over the pairs: the mean, with its bounds at 95% confidence. */
  readonly timesConnectRedis: Interval
  /** What the multiple should be. */
  readonly goal: number
}

const goal = 10
/** Between two looks at the clock, for each that is in flight. */
const operationsPerLook = 20

/** @throws BackdoorsError INVALID_ARGUMENT where a package or `redis-server` is not there, SYSTEM_CALL_FAILED */
export async function benchSessionStore(options: SessionStoreBenchOptions, told: (what: string) => void = () => undefined): Promise<SessionStoreRow[]> {
  return await withStores(options, async (stores) => {
    const random = new Random(options.seed ?? 1)
    const rows: SessionStoreRow[] = []
    const measure = (name: RivalStore, inFlight: number, seconds = options.seconds): Promise<number> => operationsPerSecond(stores[name], inFlight, options.sessions, seconds)
    for (const name of rivalStores) await measure(name, 1)
    for (const inFlight of options.inFlight) {
      const figures = Object.fromEntries(rivalStores.map((name) => [name, []])) as unknown as Record<RivalStore, number[]>
      for (let pair = 0; pair < options.pairs; pair++) {
        told(`${inFlight} in flight, run ${pair + 1} of ${options.pairs}`)
        for (const name of shuffled(random)) figures[name].push(await measure(name, inFlight))
      }
      const multiples = figures.backdoors.map((own, pair) => own / (figures.connectRedis[pair] as number))
      const distributions = Object.fromEntries(rivalStores.map((name) => [name, distributionOf(Float64Array.from(figures[name]).sort())])) as Record<RivalStore, Distribution>
      rows.push({ inFlight, pairs: options.pairs, operationsPerSecond: distributions, timesConnectRedis: bootstrapInterval(multiples, random), goal })
    }
    return rows
  })
}

function shuffled(random: Random): RivalStore[] {
  const left: RivalStore[] = [...rivalStores]
  return rivalStores.map(() => left.splice(random.integer(0, left.length - 1), 1)[0] as RivalStore)
}

/** A third of them each reads, saves and touches a session. */
async function operationsPerSecond(store: Store, inFlight: number, sessions: number, seconds: number): Promise<number> {
  const { Cookie } = await import('express-session').then((module) => module.default)
  const cookie = new Cookie()
  cookie.maxAge = 3_600_000
  const session = { ...cart, cookie } as SessionData
  const run = (i: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const sid = `session-${i % sessions}`
      const done = (error?: unknown): void => (error ? reject(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', 'An operation of a store')) : resolve())
      if (i % 3 === 0) store.set(sid, session, done)
      else if (i % 3 === 1) store.get(sid, done)
      else store.touch?.(sid, session, done)
    })
  let operations = 0
  const startMs = performance.now()
  const endMs = startMs + seconds * 1000
  const work = async (): Promise<void> => {
    do {
      for (let i = 0; i < operationsPerLook; i++) await run(operations++)
    } while (performance.now() < endMs)
  }
  await Promise.all(Array.from({ length: inFlight }, work))
  return (operations / (performance.now() - startMs)) * 1000
}

async function withStores<T>({ sessions, folder = tmpdir() }: SessionStoreBenchOptions, run: (stores: Record<RivalStore, Store>) => Promise<T>): Promise<T> {
  const { default: session } = await loadRival(() => import('express-session'), 'express-session')
  const { BackdoorsStore } = await import('../../servers/adapters/express-session.js')
  const place = mkdtempSync(join(folder, 'backdoors-bench-'))
  const path = join(place, 'region')
  const region = createRegion(path, 'bench', 'bench', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 2 * sessions, heapBytes: 8192 * sessions })
  try {
    const node = await attach({ region: path, name: 'bench' })
    try {
      return await withConnectRedis((connectRedis) => run({ backdoors: new BackdoorsStore(node.sessions('web')), connectRedis, memoryStore: new session.MemoryStore() }))
    } finally {
      await node.close()
    }
  } finally {
    region.memory.close()
    rmSync(place, { recursive: true, force: true })
  }
}

/** connect-redis with the client that it is made for, on a Redis of its own on loopback. */
export async function withConnectRedis<T>(run: (store: Store) => Promise<T>): Promise<T> {
  const { RedisStore } = await loadRival(() => import('connect-redis'), 'connect-redis')
  const { createClient } = await loadRival(() => import('redis'), 'redis')
  return await withRedisServer(async ({ port }) => {
    const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false } })
    await client.connect()
    try {
      return await run(new RedisStore({ client }))
    } finally {
      client.destroy()
    }
  })
}
