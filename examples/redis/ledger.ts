/** Clients of Redis that keep a book of what they were answered, and judge by it what they find elsewhere. */
import type { Redis } from 'ioredis'

/** What a key is after so many of its writes: all that a client has to remember of it is their number. */
interface Kind {
  write(redis: Redis, key: string, count: number): Promise<unknown>
  read(redis: Redis, key: string): Promise<unknown>
  expected(count: number, key: string): unknown
  /** What a death within that write may leave, beside what was before it and what is after it. */
  between?(count: number, key: string): unknown
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)

const kinds: Readonly<Record<string, Kind>> = {
  counter: { write: (redis, key) => redis.incr(key), read: (redis, key) => redis.get(key), expected: (count) => (count === 0 ? null : String(count)) },
  // Every fifth write takes the key away.
  text: {
    write: (redis, key, count) => (count % 5 === 0 ? redis.del(key) : redis.set(key, `text ${count} `.repeat(count % 50), 'EX', 3600)),
    read: (redis, key) => redis.get(key),
    expected: (count) => (count % 5 === 0 ? null : `text ${count} `.repeat(count % 50)),
  },
  hash: {
    write: (redis, key, count) => redis.hset(key, `field-${count % 7}`, String(count)),
    read: (redis, key) => redis.hgetall(key),
    expected: (count) => Object.fromEntries(upTo(count).map((each) => [`field-${each % 7}`, String(each)])),
  },
  list: {
    write: (redis, key, count) => (count % 3 === 0 ? redis.lpop(key) : redis.rpush(key, count)),
    read: (redis, key) => redis.lrange(key, 0, -1),
    expected: (count) => upTo(count).filter((each) => each % 3 !== 0).slice(Math.floor(count / 3)).map(String),
  },
  // Empty every other time, which is when Redis takes a list away.
  queue: {
    write: (redis, key, count) => (count % 2 === 0 ? redis.lpop(key) : redis.rpush(key, count)),
    read: (redis, key) => redis.lrange(key, 0, -1),
    expected: (count) => (count % 2 === 0 ? [] : [String(count)]),
  },
  // Under one name or the other, or both for a moment: renamed by every write but the first.
  moved: {
    write: (redis, key, count) => (count === 1 ? redis.set(`${key}:1`, 'moving') : redis.rename(`${key}:${count - 1}`, `${key}:${count}`)),
    read: async (redis, key) => (await redis.keys(`${key}:*`)).sort(),
    expected: (count, key) => (count === 0 ? [] : [`${key}:${count}`]),
    between: (count, key) => [`${key}:${count - 1}`, `${key}:${count}`].sort(),
  },
  'binary \u0001 % ü': {
    write: (redis, key, count) => redis.zadd(key, String(count), `member ${count % 3}`),
    read: (redis, key) => redis.zrange(key, '0', '-1', 'WITHSCORES'),
    expected: (count) => upTo(count).slice(-3).flatMap((each) => [`member ${each % 3}`, String(each)]),
  },
}

export interface Verdict {
  readonly keys: number
  readonly acknowledged: number
  /** Keys that are what their last acknowledged write made them, or the one after it, whose answer never came. */
  readonly right: number
  readonly wrong: readonly string[]
}

interface Line {
  readonly client: number
  readonly key: string
  readonly kind: Kind
  acknowledged: number
  begun: number
}

export class Ledger {
  readonly #lines: Line[]
  acknowledged = 0

  constructor(clients: number) {
    this.#lines = upTo(clients).flatMap((client) => Object.entries(kinds).map(([name, kind]) => ({ client, key: `client-${client}:${name}`, kind, acknowledged: 0, begun: 0 })))
  }

  /**
   * Every client has a connection of its own, and writes to each of its keys as fast as it is answered, until the server is gone.
   * @param onAnswer after each answer
   */
  async write(connect: () => Redis, onAnswer: () => void): Promise<void> {
    const connections = new Map<number, Redis>()
    await Promise.all(this.#lines.map(async (line) => {
      const redis = connections.get(line.client) ?? connect()
      connections.set(line.client, redis)
      try {
        for (;;) {
          line.begun = line.acknowledged + 1
          await line.kind.write(redis, line.key, line.begun)
          line.acknowledged = line.begun
          this.acknowledged++
          onAnswer()
        }
      } catch {
        // The server is gone. Nobody knows of the write that was begun.
      }
    }))
  }

  async judge(redis: Redis): Promise<Verdict> {
    const wrong: string[] = []
    for (const { key, kind, acknowledged, begun } of this.#lines) {
      const found = JSON.stringify(await kind.read(redis, key))
      const possible = [kind.expected(acknowledged, key), kind.expected(begun, key), kind.between?.(begun, key)]
      if (possible.some((each) => JSON.stringify(each) === found)) continue
      wrong.push(`${key}: ${found}, and ${acknowledged} of ${begun} writes were acknowledged`)
    }
    return { keys: this.#lines.length, acknowledged: this.acknowledged, right: this.#lines.length - wrong.length, wrong }
  }
}
