/**
 * What one would use instead, measured in the same run as `bench commit`: a Map of bytes, the MemoryStore of express-session, and
 * Redis. A Map and a MemoryStore go with their process; Redis outlives it, a round trip for each commit. It is
 * spoken to on TCP loopback.
 */
import { messagePackCodec } from '../../servers/codec.js'
import { cart, type Cart, type CommitBenchRow } from './commit.js'
import { loadRival, withRedisServer } from './redis-server.js'
import { distributionOf, sorted } from './statistics.js'

const bytesOfOne = 1024
/** Commits in one pipeline of Redis. */
const pipelined = 100
const usPerMs = 1000

type Redis = InstanceType<(typeof import('ioredis'))['Redis']>

export interface RivalsOptions {
  readonly samples: number
  readonly sessions: number
}

/** @throws BackdoorsError INVALID_ARGUMENT where a package or `redis-server` is not there, SYSTEM_CALL_FAILED */
export async function benchRivals({ samples, sessions }: RivalsOptions): Promise<CommitBenchRow[]> {
  const ids = Array.from({ length: sessions }, (_, i) => `session-${i}`)
  const idOf = (i: number): string => ids[i % sessions] as string
  const map = new Map<string, Uint8Array>()
  const payload = new Uint8Array(bytesOfOne).fill(0x5a)
  const codec = messagePackCodec<Cart>()
  const store = await memoryStore()
  const rows = [
    await measure('map-1024B', samples, (i) => void map.set(idOf(i), payload.slice())),
    await measure('map-cart', samples, (i) => void map.set(idOf(i), codec.encode(cart).slice())),
    await measure('memory-store-cart', samples, (i) => store(idOf(i))),
  ]
  return await withRedis(async (redis) => [
    ...rows,
    ...(await redisRows('1024B', redis, samples, (i) => [idOf(i), Buffer.from(payload)])),
    ...(await redisRows('cart', redis, samples, (i) => [idOf(i), Buffer.from(codec.encode(cart))])),
  ])
}

async function redisRows(what: string, redis: Redis, samples: number, commitOf: (i: number) => [string, Buffer]): Promise<CommitBenchRow[]> {
  const awaited = await measure(`redis-${what}-awaited`, Math.ceil(samples / 10), async (i) => void (await redis.set(...commitOf(i))))
  const inPipelines = await measure(`redis-${what}-pipelined`, Math.ceil(samples / pipelined), async (i) => {
    const pipeline = redis.pipeline()
    for (let n = 0; n < pipelined; n++) pipeline.set(...commitOf(i * pipelined + n))
    await pipeline.exec()
  }, pipelined)
  return [awaited, inPipelines]
}

async function measure(name: string, samples: number, run: (i: number) => void | Promise<void>, runsPerSample = 1): Promise<CommitBenchRow> {
  const ms = new Float64Array(samples)
  for (let i = -Math.min(samples, 1000); i < samples; i++) {
    const startMs = performance.now()
    // What is done at once must not pay for a turn of the microtask queue.
    const done = run(Math.abs(i))
    if (done) await done
    if (i >= 0) ms[i] = performance.now() - startMs
  }
  const { p50, p99, p999 } = distributionOf(sorted(ms), usPerMs / runsPerSample)
  return { name, unit: 'µs', samples, p50, p99, p999 }
}

/** `set` of express-session's MemoryStore, which keeps a session as JSON. */
async function memoryStore(): Promise<(id: string) => Promise<void>> {
  const { default: session } = await loadRival(() => import('express-session'), 'express-session')
  const store = new session.MemoryStore()
  const value = { ...cart, cookie: new session.Cookie() }
  return (id) => new Promise((resolve) => store.set(id, value, () => resolve()))
}

async function withRedis<T>(run: (redis: Redis) => Promise<T>): Promise<T> {
  const { Redis } = await loadRival(() => import('ioredis'), 'ioredis')
  return await withRedisServer(async ({ port }) => {
    const redis = new Redis({ host: '127.0.0.1', port, lazyConnect: true, retryStrategy: () => null })
    await redis.connect()
    try {
      return await run(redis)
    } finally {
      redis.disconnect()
    }
  })
}
