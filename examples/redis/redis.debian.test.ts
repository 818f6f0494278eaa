import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ShmMemory } from '../../src/fabric/shm/shm-memory.js'
import { readHeader, readSessions } from '../../src/region/region-reader.js'
import { createRegion } from '../../src/region/region.js'
import { run } from './run.js'
import { compileModule, startRedis, type RedisServer } from './servers.js'

describe('Redis with the module', { timeout: 120_000 }, () => {
  it.each([['kill', 'SIGKILL'], ['stop', 3]] as const)('is served elsewhere after a %s, with every write that was acknowledged', async (failure, firstEnded) => {
    const outcome = await run({ failure, clients: 12, writes: 1500, say: () => undefined })
    expect(outcome.wrong).toEqual([])
    expect(outcome).toMatchObject({ ok: true, keys: 84, right: 84, firstEnded })
    expect(outcome.acknowledged).toBeGreaterThanOrEqual(1500)
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith('backdoors-redis-'))).toEqual([])
  })
})

/** Of the one server that has a box there. */
async function sessionIds(path: string): Promise<string[]> {
  const memory = new ShmMemory({ peer: 'a', path })
  const { sessions } = await readSessions(memory, await readHeader(memory), 1)
  await memory.close()
  return sessions.map(({ id }) => id)
}

describe('the module', { timeout: 60_000 }, () => {
  let compiled: string
  let module: string
  let folder: string
  let redis: RedisServer | undefined
  const path = (): string => join(folder, 'region')
  const start = async (): Promise<RedisServer> => (redis = await startRedis(folder, 'a', module, path(), 5000))
  const again = async (signal: NodeJS.Signals): Promise<RedisServer> => {
    redis?.process.kill(signal)
    await redis?.close()
    return await start()
  }

  beforeAll(() => {
    compiled = mkdtempSync(join(tmpdir(), 'backdoors-redis-'))
    module = compileModule(compiled)
  })
  afterAll(() => rmSync(compiled, { recursive: true }))
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'backdoors-redis-'))
    createRegion(path(), 'a', 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 64, heapBytes: 1 << 20 }).memory.close()
  })
  afterEach(async () => {
    await redis?.close()
    rmSync(folder, { recursive: true })
  })

  it('brings back after a kill what was there, in all databases, and nothing that was deleted, expired or emptied', async () => {
    const { client } = await start()
    await client.set('kept', 'one')
    await client.pipeline().set('gone', 'two').del('gone').set('short', 'x', 'PX', 1).set('long', 'y', 'PX', 3_600_000).exec()
    await client.multi().rename('kept', 'renamed').lpush('list', 'a', 'b').lpop('list').lpop('list').exec()
    await client.pipeline().select(3).set('in three', 'z').select(4).set('emptied', 'z').flushdb().select(0).exec()
    await client.set(Buffer.from([0, 255, 37]), Buffer.from([0, 1, 255]))
    const { client: after } = await again('SIGKILL')
    expect((await after.keysBuffer('*')).map((key) => key.toString('latin1')).sort()).toEqual(['\0ÿ%', 'long', 'renamed'])
    expect(await after.get('renamed')).toBe('one')
    expect(await after.getBuffer(Buffer.from([0, 255, 37]))).toEqual(Buffer.from([0, 1, 255]))
    expect(await after.pttl('long')).toBeGreaterThan(3_000_000)
    await after.select(3)
    expect(await after.get('in three')).toBe('z')
    await after.flushall()
    expect(await (await again('SIGKILL')).client.dbsize()).toBe(0)
  })

  it('keeps keys that are longer than any session id, under a digest of theirs', async () => {
    const { client } = await start()
    const long = (length: number): string => `${'k'.repeat(length - 1)}!`
    // Two of them fit into an id of 1024 bytes yet; the others end in all parts of a digest's last block.
    const lengths = Array.from({ length: 40 }, (_, i) => 1021 + 2 * i).concat(1022, 100_000)
    for (const length of lengths) await client.set(long(length), `of ${length}`)
    const binary = Buffer.alloc(400, 0xff)
    await client.pipeline().set(binary, 'binary').set(long(3000), 'gone').del(long(3000)).set(long(4000), 'moved').rename(long(4000), long(4001)).select(2).set(long(5000), 'emptied').flushdb().select(0).exec()
    const { client: after } = await again('SIGKILL')
    for (const length of lengths) expect(await after.get(long(length))).toBe(`of ${length}`)
    expect([await after.get(binary), await after.get(long(4001)), await after.dbsize()]).toEqual(['binary', 'moved', lengths.length + 2])
    const digestOf = (key: string | Buffer): string => `0:%%${createHash('sha256').update(key).digest('hex')}`
    const expected = [...lengths, 4001].map((length) => (length + 2 <= 1024 ? `0:${long(length)}` : digestOf(long(length))))
    expect((await sessionIds(path())).sort()).toEqual([...expected, digestOf(binary)].sort())
  })

  it('finds its keys after an orderly end, too', async () => {
    const { client } = await start()
    await client.hset('hash', { a: 1, b: 2 })
    expect(await (await again('SIGTERM')).client.hgetall('hash')).toEqual({ a: '1', b: '2' })
  })

  it('stops where a key has no room, and answers nobody', async () => {
    const first = await start()
    await first.client.set('small', 'kept')
    await expect(first.client.set('large', randomBytes(600_000))).rejects.toThrow()
    expect(await first.gone).toBe(3)
    expect(first.log()).toMatch(/committing a key: a session takes at most half of the box's heap/)
    const { client } = await again('SIGKILL')
    expect(await client.keys('*')).toEqual(['small'])
  })

  it.each([
    ['its arguments', [], /the arguments are REGION NAME DEADLINE_MS/],
    ['a region', ['/nowhere/region', 'redis', '100'], /attaching: there is no region of this path/],
    ['a deadline', ['/nowhere/region', 'redis', '4'], /the arguments are REGION NAME DEADLINE_MS/],
  ])('does not load without %s, and says so', (_, given, words) => {
    const { status, stdout } = spawnSync('redis-server', ['--port', '0', '--unixsocket', join(folder, 'socket'), '--loadmodule', module, ...given], { encoding: 'utf8' })
    expect(status).toBe(1)
    expect(stdout).toMatch(words)
  })
})
