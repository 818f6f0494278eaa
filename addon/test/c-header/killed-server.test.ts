/** A server in C commits as fast as it can, and is killed or fenced at any instant. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ShmMemory } from '../../../src/fabric/shm/shm-memory.js'
import { control, controlPairOffset } from '../../../src/region/layout.js'
import { readHeader, readSessions, type Extraction } from '../../../src/region/region-reader.js'
import { createRegion } from '../../../src/region/region.js'
import { payloadOf } from '../../../src/region/testing/writer-box.js'
import { Driver } from './c-program.js'
import { numberOf } from './errors.js'

const sessionCount = 20
const payloadBytes = 3000
const sizeOf = (session: number, commit: number): number => 20 + ((commit * 37 + session * 101) % payloadBytes)
let folder: string
let path: string
let memory: ShmMemory
let server: Driver | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-killed-'))
  path = join(folder, 'region')
  createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 64, heapBytes: 1 << 20 }).memory.close()
  memory = new ShmMemory({ peer: 'a', path, controlOffset: control.offset, controlLength: control.bytes })
})
afterEach(async () => {
  await server?.end('SIGKILL')
  await memory.close()
  rmSync(folder, { recursive: true })
})

/** Starts a server that commits, and waits for so many acknowledgements. */
async function loaded(lines: number): Promise<Driver> {
  const made = new Driver()
  server = made
  expect(await made.ask(`attach ${path} shop`)).toMatch(/^0 1 /)
  let line = made.ask(`load carts ${sessionCount} ${payloadBytes}`)
  for (let i = 1; i < lines; i++) {
    await line
    line = made.next()
  }
  await line
  return made
}

/** What the server said that it has committed. The first line is the answer to `attach`. */
function acknowledged(lines: readonly string[]): Map<number, number> {
  return new Map(lines.slice(1).filter((line) => /^\d+ \d+$/.test(line)).map((line) => line.split(' ').map(Number) as [number, number]))
}

/** Every session is one whole commit. @returns the commit that each is of */
function commitsIn({ sessions, corrupt }: Extraction): Map<number, number> {
  expect(corrupt).toBe(0)
  return new Map(sessions.map(({ id, schemaVersion, payload }) => {
    const session = Number(id.slice(2))
    expect(Buffer.compare(payload, payloadOf(id, schemaVersion, sizeOf(session, schemaVersion))), `${id}, commit ${schemaVersion}`).toBe(0)
    return [session, schemaVersion]
  }))
}

it('finds each acknowledged commit of a server that was killed, and nothing torn', { timeout: 120_000 }, async () => {
  const header = await readHeader(memory)
  for (let round = 0; round < 15; round++) {
    const killed = await loaded(1 + ((round * 7919) % 1500))
    const { status } = await killed.end('SIGKILL')
    expect(status).toBe('SIGKILL')
    const told = acknowledged(killed.lines)
    const found = commitsIn(await readSessions(memory, header, 1))
    expect(told.size).toBeGreaterThan(0)
    let ahead = 0
    for (const [session, commit] of told) {
      // The last one may have been committed, and its server killed before it said so.
      expect([commit, commit + 1], `round ${round}, session ${session}`).toContain(found.get(session))
      if (found.get(session) !== commit) ahead++
    }
    expect(ahead).toBeLessThanOrEqual(1)
  }
})

it('stops at the fence, and what it acknowledged before is what the recoverer reads', { timeout: 120_000 }, async () => {
  const header = await readHeader(memory)
  const fenced = await loaded(500)
  await memory.compareAndSwap(controlPairOffset(1), 0n, 1n)
  const found = commitsIn(await readSessions(memory, header, 1))
  while (fenced.lines.at(-1) !== String(numberOf('FENCED'))) await fenced.next()
  for (const [session, commit] of acknowledged(fenced.lines)) expect(found.get(session), `session ${session}`).toBeGreaterThanOrEqual(commit)
  expect(await fenced.ask('fenced')).toBe('1')
  expect(await fenced.ask('commit carts 41 0 1 -')).toBe(String(numberOf('FENCED')))
  expect(await fenced.ask('delete carts 752d30')).toBe(String(numberOf('FENCED')))
  expect(await fenced.ask('sweep')).toBe(String(numberOf('FENCED')))
  await fenced.ask('progress requests 1000')
  expect(await fenced.ask('beat requests')).toBe(String(numberOf('FENCED')))
  // Its box has not been recovered to the end, and there is no other.
  expect(await fenced.ask('close')).toBe('0')
  expect(await fenced.ask(`attach ${path} shop`)).toBe(String(numberOf('BOXES_EXHAUSTED')))
})
