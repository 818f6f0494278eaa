/**
 * The writer in C and the one in TypeScript do the same operations on two copies of a region: they answer the same, a
 * reader sees the same sessions, and the very bytes are the same.
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../../../src/errors.js'
import { ShmMemory } from '../../../src/fabric/shm/shm-memory.js'
import { BoxOwner } from '../../../src/region/box-owner.js'
import { claimGeneration, encodeClaim } from '../../../src/region/control.js'
import { control, controlPairOffset, indexEntry, indexFlags, record, slotUnitBytes, type RegionGeometry } from '../../../src/region/layout.js'
import { readDirectory, readHeader, readSensors, readSessions } from '../../../src/region/region-reader.js'
import { createRegion, openRegion, type Region } from '../../../src/region/region.js'
import { payloadOf } from '../../../src/region/testing/writer-box.js'
import { Driver, hex, sanitized } from './c-program.js'
import { numberOf } from './errors.js'

type Operation =
  | { readonly kind: 'commit'; readonly store: string; readonly id: string; readonly length: number; readonly ttlMs: number }
  | { readonly kind: 'delete'; readonly store: string; readonly id: string }
  | { readonly kind: 'restart'; readonly name: string }
  | { readonly kind: 'close'; readonly name: string }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'sweep' }
  | { readonly kind: 'fence' }
  | { readonly kind: 'announce' }
  | { readonly kind: 'tear' }
  /** Of the session of this entry, in the version that its next commit writes over. */
  | { readonly kind: 'damage'; readonly entry: number; readonly at: number }

const geometry: RegionGeometry = { boxCount: 4, sensorsPerBox: 2, sessionsPerBox: 7, heapBytes: 6000 }
const roomy: RegionGeometry = { ...geometry, heapBytes: 30_000 }
const startMs = 1000
let folder: string
let driver: Driver

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-same-'))
  driver = new Driver(sanitized)
}, 120_000)
afterAll(async () => {
  const { status, stderr } = await driver.end()
  rmSync(folder, { recursive: true })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
})

const code = (run: () => number): number => {
  try {
    return run()
  } catch (error) {
    if (!isBackdoorsError(error)) throw error
    return numberOf(error.code)
  }
}

/** What is done from outside, by the daemon or a recoverer, is done to both regions. */
class Pair {
  nowMs = startMs
  #commits = 0
  #owner: BoxOwner | undefined
  #region: Region | undefined
  readonly #seen: readonly [Region, Region]

  constructor(readonly mine: string, readonly its: string, sizes: RegionGeometry) {
    createRegion(mine, 'a', 'test', sizes).memory.close()
    copyFileSync(mine, its)
    this.#seen = [openRegion(mine), openRegion(its)]
  }

  async attach(name: string): Promise<[string, string]> {
    const answered = driver.ask(`attach ${this.its} ${name}`)
    const region = openRegion(this.mine)
    this.#region = region
    const status = code(() => {
      this.#owner = BoxOwner.take(region, { name, nowMs: () => this.nowMs })
      return 0
    })
    const mine = status === 0 ? `0 ${this.#owner?.box ?? -1} ${this.#owner?.generation ?? -1}` : String(status)
    if (status !== 0) this.#end()
    return [mine, await answered]
  }

  async run(operation: Operation): Promise<[string, string]> {
    if (operation.kind === 'restart' || operation.kind === 'close') return this.#again(operation)
    if (operation.kind === 'wait') {
      this.nowMs += operation.ms
      return ['0', await driver.ask(`clock ${this.nowMs}`)]
    }
    const owner = this.#owner
    if (operation.kind === 'fence' || operation.kind === 'announce' || operation.kind === 'tear' || operation.kind === 'damage') {
      for (const region of this.#seen) if (owner) interfere(region, owner, operation)
      return ['', '']
    }
    if (owner === undefined) return ['', '']
    if (operation.kind === 'sweep') return [String(code(() => (owner.checkFence(), owner.sessions.sweep()))), await driver.ask('sweep')]
    const { store, id } = operation
    if (operation.kind === 'delete') {
      const mine = code(() => (owner.sessions.delete(owner.sessions.store(store), id) ? 0 : numberOf('SESSION_NOT_FOUND')))
      return [String(mine), await driver.ask(`delete ${store} ${hex(id)}`)]
    }
    const payload = payloadOf(id === '' ? 'x' : id, ++this.#commits, operation.length)
    const mine = code(() => (owner.sessions.commit(owner.sessions.store(store), id, payload, { ttlMs: operation.ttlMs, schemaVersion: this.#commits }), 0))
    return [String(mine), await driver.ask(`commit ${store} ${hex(id)} ${operation.ttlMs} ${this.#commits} ${hex(payload)}`)]
  }

  async #again({ kind, name }: { kind: 'restart' | 'close'; name: string }): Promise<[string, string]> {
    if (this.#owner !== undefined) {
      const answered = driver.ask(kind === 'close' ? 'close' : 'abandon')
      if (kind === 'close') this.#owner.close()
      this.#end()
      await answered
    }
    return await this.attach(name)
  }

  #end(): void {
    this.#owner = undefined
    this.#region?.memory.close()
    this.#region = undefined
  }

  /** All that may be the same: the process ids in the directory are not. */
  async differences(): Promise<string[]> {
    const [mine, its] = await Promise.all([read(this.mine), read(this.its)])
    expect(its).toEqual(mine)
    const [left, right] = this.#seen
    const start = left.header.plan.boxesOffset
    return Buffer.compare(left.bytes.subarray(start), right.bytes.subarray(start)) === 0 ? [] : differing(left.bytes, right.bytes, start)
  }

  /** What a reader finds in the box that the one in C wrote: store, id and sequence. */
  async sessions(): Promise<[string, string, number][]> {
    const memory = new ShmMemory({ peer: 'a', path: this.its })
    const { sessions } = await readSessions(memory, await readHeader(memory), this.#owner?.box ?? 0)
    await memory.close()
    return sessions.map(({ store: inStore, id, sequence }) => [inStore, id, sequence])
  }

  async end(): Promise<void> {
    if (this.#owner !== undefined) await driver.ask('abandon')
    this.#end()
    for (const { memory } of this.#seen) memory.close()
    rmSync(this.mine)
    rmSync(this.its)
  }
}

function interfere({ bytes, header: { plan } }: Region, { box, generation }: BoxOwner, how: Extract<Operation, { kind: 'fence' | 'announce' | 'tear' | 'damage' }>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const pair = controlPairOffset(box)
  if (how.kind === 'fence' || how.kind === 'announce') view.setUint32(pair + control.fence, generation, true)
  if (how.kind === 'announce') view.setBigUint64(pair + control.claim, encodeClaim({ recoverer: 2, term: 1, step: 'announced', generation: claimGeneration(generation) }), true)
  // As a death within a change of the first two entries leaves them: in doubt.
  const index = plan.boxesOffset + box * plan.boxBytes + plan.indexInBox
  if (how.kind === 'tear') for (const entry of [0, 1]) view.setUint32(index + entry * indexEntry.bytes + indexEntry.crc, 0x1234_5678, true)
  if (how.kind !== 'damage') return
  const entry = index + how.entry * indexEntry.bytes
  const idle = entry + ((view.getUint32(entry + indexEntry.flags, true) & indexFlags.currentIsB) === 0 ? indexEntry.slotB : indexEntry.slotA)
  const [start, length] = [view.getUint32(idle, true), view.getUint32(idle + 4, true)].map((units) => units * slotUnitBytes) as [number, number]
  const at = plan.boxesOffset + box * plan.boxBytes + plan.heapInBox + start + how.at
  if (how.at < length) bytes[at] = (bytes[at] as number) ^ 1
}

function differing(left: Uint8Array, right: Uint8Array, start: number): string[] {
  const found: string[] = []
  for (let at = start; at < left.length && found.length < 8; at++) if (left[at] !== right[at]) found.push(`${at.toString(16)}: ${left[at] ?? -1} ${right[at] ?? -1}`)
  return found
}

/** All that a reader sees of a region. */
async function read(path: string): Promise<unknown> {
  const memory = new ShmMemory({ peer: 'a', path })
  try {
    const header = await readHeader(memory)
    const boxes = Array.from({ length: header.plan.boxCount }, (_, box) => box)
    const directory = (await readDirectory(memory, header)).map((entry) => entry && { ...entry, pid: 0 })
    const contents = await Promise.all(boxes.map(async (box) => {
      const { sessions, corrupt, expired } = await readSessions(memory, header, box)
      return { sessions: sessions.map((session) => ({ ...session, payload: hex(session.payload) })), corrupt, expired }
    }))
    return { directory, contents, sensors: await readSensors(memory, header, boxes) }
  } finally {
    await memory.close()
  }
}

const ids = ['u-1', 'u-2', 'u-3', 'ü-4', 'u-5', 'u-6', 'u-7', 'u-8', 'u-9']
const store = fc.constantFrom('carts', 'carts', 'carts', 'logins')
const name = fc.constantFrom('shop', 'shop', 'shop', 'other')
const constant = <K extends string>(kind: K): { kind: fc.Arbitrary<K> } => ({ kind: fc.constant(kind) })
const operations: fc.Arbitrary<Operation[]> = fc.array(
  fc.oneof(
    { weight: 60, arbitrary: fc.record({ ...constant('commit'), store, id: fc.constantFrom(...ids), length: fc.oneof(fc.nat(60), fc.nat(300), fc.nat(1500), fc.constantFrom(0, 2900, 2945, 4000)), ttlMs: fc.constantFrom(0, 0, 0, 5) }) },
    { weight: 15, arbitrary: fc.record({ ...constant('delete'), store, id: fc.constantFrom(...ids) }) },
    { weight: 5, arbitrary: fc.record({ ...constant('wait'), ms: fc.constantFrom(3, 10) }) },
    { weight: 5, arbitrary: fc.record({ ...constant('restart'), name }) },
    { weight: 3, arbitrary: fc.record({ ...constant('close'), name }) },
    { weight: 3, arbitrary: fc.constantFrom<Operation>({ kind: 'sweep' }, { kind: 'tear' }) },
    { weight: 10, arbitrary: fc.record({ ...constant('damage'), entry: fc.nat(3), at: fc.integer({ min: 40, max: 63 }) }) },
    { weight: 1, arbitrary: fc.constantFrom<Operation>({ kind: 'fence' }, { kind: 'announce' }) },
  ),
  { minLength: 1, maxLength: 60 },
)

describe('the writer in C', { timeout: 120_000 }, () => {
  it('answers as the one in TypeScript does, and leaves the very same bytes', async () => {
    let run = 0
    await fc.assert(
      fc.asyncProperty(operations, fc.boolean(), async (list, isRoomy) => {
        run++
        const pair = new Pair(join(folder, `mine-${run}`), join(folder, `its-${run}`), isRoomy ? roomy : geometry)
        try {
          await driver.ask(`clock ${startMs}`)
          const [first, answered] = await pair.attach('shop')
          expect(answered).toBe(first)
          for (const [step, operation] of list.entries()) {
            const [mine, its] = await pair.run(operation)
            expect(its, `operation ${step}, ${operation.kind}`).toBe(mine)
          }
          expect(await pair.differences()).toEqual([])
        } finally {
          await pair.end()
        }
      }),
      { numRuns: 150 },
    )
  })

  it('writes a session whole by its next commit, its id among it, wherever the damage was', async () => {
    const pair = new Pair(join(folder, 'mine-damaged'), join(folder, 'its-damaged'), roomy)
    const commit: Operation = { kind: 'commit', store: 'carts', id: 'user', length: 40, ttlMs: 0 }
    await driver.ask(`clock ${startMs}`)
    await pair.attach('shop')
    for (let i = 0; i < 2; i++) expect(await pair.run(commit)).toEqual(['0', '0'])
    // Its header, the reserved words, the store's name and the id of the version that is overwritten next.
    for (let at = 0; at < record.headerBytes + 'cartsuser'.length; at++) await pair.run({ kind: 'damage', entry: 0, at })
    expect(await pair.run(commit)).toEqual(['0', '0'])
    expect(await pair.differences()).toEqual([])
    expect(await pair.sessions()).toEqual([['carts', 'user', 3]])
    await pair.end()
  })

  it('has the CRC of the standard, by the processor and by tables', async () => {
    const tables = new Driver(['-O2', '-DBACKDOORS_NO_SSE42'])
    for (const each of [driver, tables]) {
      expect(await each.ask(`crc 0 ${hex('123456789')}`)).toBe(String(0xe306_9283))
      const seeded = await each.ask(`crc 0 ${hex('12345')}`)
      expect(await each.ask(`crc ${seeded} ${hex('6789')}`)).toBe(String(0xe306_9283))
    }
    expect((await tables.end()).status).toBe(0)
  })
})
