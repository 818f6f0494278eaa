/** What the header promises by itself: it compiles everywhere, sensors and sessions are what readers see, damage is refused. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errorCodes } from '../../../src/errors.js'
import { ShmMemory } from '../../../src/fabric/shm/shm-memory.js'
import { BoxOwner } from '../../../src/region/box-owner.js'
import { readHeader, readSensors, readSessions } from '../../../src/region/region-reader.js'
import { createRegion, openRegion } from '../../../src/region/region.js'
import { payloadOf } from '../../../src/region/testing/writer-box.js'
import { compileC, Driver, hex, sanitized, strictly } from './c-program.js'
import { errorNumbers, numberOf } from './errors.js'

let folder: string
let path: string
const drivers: Driver[] = []

/** Whatever a test did to it, a sanitizer had nothing to say. */
function driver(): Driver {
  const made = new Driver(sanitized)
  drivers.push(made)
  return made
}

beforeAll(() => void compileC(readFileSync(join(import.meta.dirname, 'driver.c'), 'utf8'), ['-std=c11', ...strictly, ...sanitized]), 120_000)
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-c-header-'))
  path = join(folder, 'region')
  createRegion(path, 'a', 'test', { boxCount: 3, sensorsPerBox: 3, sessionsPerBox: 32, heapBytes: 4 << 20 }).memory.close()
})
afterEach(async () => {
  const ends = await Promise.all(drivers.splice(0).map((each) => each.end()))
  rmSync(folder, { recursive: true })
  for (const end of ends) expect(end).toEqual({ status: 0, stderr: '' })
})

const one = '#define BACKDOORS_IMPLEMENTATION\n#include "backdoors.h"\nint main(void) { return backdoors_strerror(0) == 0; }\n'

describe('backdoors.h', { timeout: 120_000 }, () => {
  it.each([
    ['gcc', 'c11', '-O0'], ['gcc', 'c11', '-O2'], ['gcc', 'c11', '-DBACKDOORS_NO_SSE42'], ['g++', 'c++20', '-O1'],
  ])('compiles by %s as %s with %s without a warning', (compiler, standard, option) => {
    expect(() => compileC(one, [`-std=${standard}`, ...strictly, option], compiler)).not.toThrow()
  })

  it('says what to do where it is included too late', () => {
    expect(() => compileC(`#include <stdio.h>\n${one}`, ['-std=c11'])).toThrow(/needs _GNU_SOURCE/)
  })

  it('has the error codes of the rest, and a sentence for each', () => {
    const own = ['OK', 'SESSION_NOT_FOUND']
    expect([...errorNumbers.keys()].filter((name) => !(errorCodes as readonly string[]).includes(name))).toEqual(own)
    const cases = [...errorNumbers.keys()].filter((name) => new RegExp(`case BACKDOORS_${name}: return "\\w`).test(readFileSync(join(import.meta.dirname, '../../include/backdoors.h'), 'utf8')))
    expect(cases).toEqual([...errorNumbers.keys()])
  })
})

describe('a server in C', { timeout: 120_000 }, () => {
  it('beats sensors that readers see', async () => {
    const server = driver()
    expect(await server.ask(`attach ${path} shop`)).toBe('0 1 1')
    for (const command of ['progress requests 50000', 'beat requests', 'beat requests', 'pending requests 7', 'gauge queue 1 2.5 10', 'gauge memory 0 0 0']) expect(await server.ask(command), command).toBe('0')
    expect(await server.ask('progress more 1')).toBe(String(numberOf('SENSORS_EXHAUSTED')))
    expect(await server.ask('progress a-name-of-seventeen 1')).toBe(String(numberOf('INVALID_ARGUMENT')))
    const memory = new ShmMemory({ peer: 'a', path })
    const [found] = await readSensors(memory, await readHeader(memory), [1])
    await memory.close()
    expect(found?.corrupt).toBe(0)
    expect(found?.sensors).toMatchObject([
      { name: 'requests', kind: 'progress', deadlineUs: 50_000, counter: 2, pending: 7 },
      { name: 'queue', kind: 'pressure', value: 2.5, limit: 10 },
      { name: 'memory', kind: 'level' },
    ])
  })

  it('commits sessions of all sizes that a reader finds, and finds them again itself', async () => {
    const server = driver()
    await server.ask(`attach ${path} shop`)
    const lengths = [0, 1, 47, 48, 4096, 1 << 16, 1 << 20]
    for (const length of lengths) expect(await server.ask(`commit carts ${hex(`u-${length}`)} 0 3 ${hex(payloadOf('x', 1, length))}`), String(length)).toBe('0')
    expect(await server.ask(`commit carts ${hex('big')} 0 3 ${hex(new Uint8Array(2 << 20))}`)).toBe(String(numberOf('SESSION_TOO_LARGE')))
    expect(await server.ask(`commit carts ${hex('a\0b')} 0 3 -`)).toBe(String(numberOf('SESSION_ID_INVALID')))
    expect(await server.ask(`commit carts ${hex(Buffer.from([0xc0, 0x80]))} 0 3 -`)).toBe(String(numberOf('SESSION_ID_INVALID')))
    expect(await server.ask(`commit backdoors:adoptions ${hex('u')} 0 3 -`)).toBe(String(numberOf('INVALID_ARGUMENT')))
    expect(await server.ask(`delete carts ${hex('nobody')}`)).toBe(String(numberOf('SESSION_NOT_FOUND')))
    const memory = new ShmMemory({ peer: 'a', path })
    const { sessions, corrupt } = await readSessions(memory, await readHeader(memory), 1)
    await memory.close()
    expect(corrupt).toBe(0)
    expect(sessions.map(({ id, payload }) => [id, Buffer.compare(payload, payloadOf('x', 1, payload.length)), payload.length])).toEqual(lengths.map((length) => [`u-${length}`, 0, length]))
    await server.ask('abandon')
    expect(await server.ask(`attach ${path} shop`)).toBe('0 1 2')
    for (const length of lengths) expect(await server.ask(`get carts ${hex(`u-${length}`)}`)).toBe(`0 carts ${hex(`u-${length}`)} 3 0 - ${hex(payloadOf('x', 1, length))}`)
  })

  it('finds what a server in TypeScript committed under its name before, time to live and all', async () => {
    const region = openRegion(path)
    const owner = BoxOwner.take(region, { name: 'shop', nowMs: () => 5000 })
    const origin = { node: 'elsewhere', incarnation: 77n, box: 1, sequence: 12 }
    owner.sessions.commit(owner.sessions.store('carts'), 'ü', Buffer.from('milk'), { ttlMs: 0, schemaVersion: 4, origin })
    owner.sessions.commit(owner.sessions.store('carts'), 'short', Buffer.from('bread'), { ttlMs: 10, schemaVersion: 1 })
    const server = driver()
    await server.ask('clock 5009')
    expect(await server.ask(`attach ${path} shop`)).toBe(String(numberOf('BOX_IN_USE')))
    region.memory.close()
    expect(await server.ask(`attach ${path} shop`)).toBe('0 1 2')
    expect(await server.ask('list')).toBe(`2 carts ${hex('ü')} 4 0 elsewhere ${hex('milk')} carts ${hex('short')} 1 10 - ${hex('bread')}`)
    await server.ask('clock 5010')
    expect(await server.ask('list')).toBe(`1 carts ${hex('ü')} 4 0 elsewhere ${hex('milk')}`)
    expect(await server.ask('sweep')).toBe('1')
  })

  it('leaves its box when it is killed, although a child of its own lives on', async () => {
    const parent = new Driver(sanitized)
    await parent.ask(`attach ${path} shop`)
    await parent.ask(`commit carts ${hex('u-1')} 0 1 ${hex('milk')}`)
    const child = Number(await parent.ask('fork'))
    expect(child).toBeGreaterThan(1)
    await parent.end('SIGKILL')
    const server = driver()
    const attached = await server.ask(`attach ${path} shop`)
    process.kill(child, 'SIGKILL')
    expect(attached).toBe('0 1 2')
    expect(await server.ask('list')).toBe(`1 carts ${hex('u-1')} 1 0 - ${hex('milk')}`)
  })

  it('is refused a region that is none, or of another release', async () => {
    const server = driver()
    const answers = async (change: (bytes: Buffer) => Buffer): Promise<string> => {
      const file = join(folder, 'changed')
      writeFileSync(file, change(readFileSync(path)))
      return await server.ask(`attach ${file} shop`)
    }
    const patched = (at: number, value: number) => (bytes: Buffer): Buffer => (bytes.writeUInt32LE(value, at), bytes)
    expect(await server.ask(`attach ${folder}/none shop`)).toBe(String(numberOf('REGION_NOT_FOUND')))
    expect(await server.ask(`attach ${folder} shop`)).toBe(String(numberOf('SYSTEM_CALL_FAILED')))
    expect(await answers(patched(0, 1))).toBe(String(numberOf('REGION_CORRUPT')))
    expect(await answers(patched(8, 2))).toBe(String(numberOf('LAYOUT_UNSUPPORTED')))
    expect(await answers(patched(84, 31))).toBe(String(numberOf('REGION_CORRUPT')))
    expect(await answers((bytes) => bytes.subarray(0, 100))).toBe(String(numberOf('REGION_TRUNCATED')))
    expect(await answers((bytes) => bytes.subarray(0, bytes.length - 1))).toBe(String(numberOf('REGION_TRUNCATED')))
    expect(await server.ask(`attach ${path} ${'n'.repeat(65)}`)).toBe(String(numberOf('INVALID_ARGUMENT')))
    truncateSync(join(folder, 'changed'), 0)
  })

  it('survives whatever stands in its box', async () => {
    let random = 12345
    const next = (below: number): number => (random = (random * 1_103_515_245 + 12_345) % 0x8000_0000) % below
    const server = driver()
    for (let round = 0; round < 40; round++) {
      expect(await server.ask(`attach ${path} shop`)).toMatch(/^0 1 /)
      for (let i = 0; i < 6; i++) await server.ask(`commit carts ${hex(`u-${i}`)} 0 1 ${hex(payloadOf('x', round, next(3000)))}`)
      await server.ask('abandon')
      const region = openRegion(path)
      const start = region.header.plan.boxesOffset + region.header.plan.boxBytes + region.header.plan.indexInBox
      for (let i = 0; i < 30; i++) region.bytes[start + next(i % 2 ? 200 : 20_000)] = next(256)
      region.memory.close()
    }
    expect(await server.ask(`attach ${path} shop`)).toMatch(/^0 1 /)
    expect(await server.ask('list')).toMatch(/^(\d|-13$)/)
  })
})
