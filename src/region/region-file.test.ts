/** Regions as files of this machine, and the processes that share them. */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { abandonedBoxes, BoxOwner, markExited } from './box-owner.js'
import { encodeHeader } from './header.js'
import { boxOffset, header as at, planRegion } from './layout.js'
import { readSessions } from './region-reader.js'
import { createRegion, lockForDaemon, openRegion, type Region } from './region.js'
import { BytesMemory } from './testing/bytes-memory.js'
import { startTypescript, type Child } from './testing/child.js'
import { codeOf } from './testing/code-of.js'
import { smallGeometry } from './testing/memory-region.js'

let folder: string
let path: string
const opened: Region[] = []
const children: Child[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-region-'))
  path = join(folder, 'region')
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.process.kill('SIGKILL')
    await child.ended()
  }
  for (const region of opened.splice(0)) region.memory.close()
  rmSync(folder, { recursive: true })
})

const keep = (region: Region): Region => {
  opened.push(region)
  return region
}
const create = (): Region => keep(createRegion(path, 'a', 'test', smallGeometry))
const open = (): Region => keep(openRegion(path))
const start = (name: string, ...args: string[]): Child => {
  const child = startTypescript('./writer-process.ts', [path, name, ...args])
  children.push(child)
  return child
}

describe('a region file', () => {
  it('is made in full, and found by whoever opens it', () => {
    const made = create()
    expect(readFileSync(path)).toHaveLength(planRegion(smallGeometry).regionBytes)
    expect(open().header).toEqual(made.header)
    expect(made.header.incarnation).not.toBe(0n)
  })

  it('is REGION_EXISTS where there is one already', () => {
    create()
    expect(codeOf(() => createRegion(path, 'a', 'test', smallGeometry))).toBe('REGION_EXISTS')
    expect(open().header.node).toBe('a')
  })

  it('is REGION_NOT_FOUND where there is none', () => {
    expect(codeOf(() => openRegion(path))).toBe('REGION_NOT_FOUND')
    expect(codeOf(() => openRegion(join(path, 'below')))).toMatch(/REGION_NOT_FOUND|SYSTEM_CALL_FAILED/)
  })

  it('is REGION_TRUNCATED where a part of it is missing', () => {
    create()
    for (const length of [planRegion(smallGeometry).regionBytes - 1, at.bytes, at.bytes - 1, 100, 0]) {
      truncateSync(path, length)
      expect(codeOf(() => openRegion(path)), `${length} bytes`).toBe('REGION_TRUNCATED')
    }
  })

  it('is LAYOUT_UNSUPPORTED where its layout is older or newer', () => {
    create()
    const bytes = readFileSync(path)
    for (const version of [0, 2, 0xffff_ffff]) {
      bytes.writeUInt32LE(version, at.version)
      writeFileSync(path, bytes)
      expect(codeOf(() => openRegion(path)), `version ${version}`).toBe('LAYOUT_UNSUPPORTED')
    }
  })

  it('is REGION_CORRUPT where it is something else', () => {
    writeFileSync(path, Buffer.alloc(65_536, 0x5a))
    expect(codeOf(() => openRegion(path))).toBe('REGION_CORRUPT')
    writeFileSync(path, Buffer.alloc(65_536))
    expect(codeOf(() => openRegion(path))).toBe('REGION_CORRUPT')
  })

  it('takes sessions beyond its first two gibibytes, and gives them to a reader and to the next owner', async () => {
    // A file with holes: of its three gibibytes only the pages that are written are anywhere.
    const geometry = { ...smallGeometry, heapBytes: 800 << 20 }
    writeFileSync(path, encodeHeader('a', 'test', 1n, geometry))
    truncateSync(path, planRegion(geometry).regionBytes)
    const region = open()
    const owners = ['a', 'b', 'c'].map((name) => BoxOwner.take(region, { name }))
    const last = owners[2] as BoxOwner
    const start = boxOffset(region.header.plan, last.box)
    expect(start).toBeGreaterThan(2 ** 31)
    const payload = new Uint8Array(1000).fill(7)
    const store = last.sessions.store('carts')
    for (const id of ['u-1', 'u-2', 'u-1', 'u-3']) last.sessions.commit(store, id, payload, { ttlMs: 0, schemaVersion: 1 })
    last.sessions.delete(store, 'u-2')
    const sensor = last.sensor({ name: 'requests', kind: 'progress', deadlineUs: 1000 })
    expect([sensor.beat(), region.bytes[start]]).toEqual([true, 1])
    expect(last.sessions.get(store, 'u-1')).toMatchObject({ sequence: 3, payload })
    const { sessions } = await readSessions(new BytesMemory(region.bytes), region.header, last.box)
    expect(sessions.map(({ id, sequence }) => [id, sequence])).toEqual([['u-1', 3], ['u-3', 4]])
    for (const owner of owners) owner.close()
    const next = BoxOwner.take(open(), { name: 'c' })
    expect([next.box, next.sessions.size]).toEqual([last.box, 2])
    expect(statSync(path).blocks * 512).toBeLessThan(16 << 20)
  })

  it('is lent by one daemon at a time', () => {
    const [first, second] = [create(), open()]
    lockForDaemon(first)
    expect(codeOf(() => lockForDaemon(second))).toBe('BOX_IN_USE')
    first.memory.close()
    lockForDaemon(second)
  })
})

describe('a server process', { timeout: 60_000 }, () => {
  it('holds its box until it is killed; its sessions are then the next one’s', async () => {
    const daemon = create()
    const child = start('shop', '3', '200', '10')
    await child.said(/done/)
    expect(codeOf(() => BoxOwner.take(open(), { name: 'shop' }))).toBe('BOX_IN_USE')
    expect(abandonedBoxes(daemon)).toEqual([])

    child.process.kill('SIGKILL')
    expect((await child.ended()).signal).toBe('SIGKILL')
    expect(abandonedBoxes(daemon)).toMatchObject([{ box: 1, entry: { name: 'shop', generation: 1, pid: child.process.pid } }])
    markExited(daemon, 1, 1)
    expect(abandonedBoxes(daemon)).toEqual([])

    const owner = BoxOwner.take(open(), { name: 'shop' })
    expect([owner.box, owner.generation, owner.sessions.size]).toEqual([1, 2, 3])
    expect(owner.sessions.get(owner.sessions.store('carts'), 'u-2')?.schemaVersion).toBe(10)
  })

  it('shares the region with others, but no name: of two that start at once under one, no two go on', async () => {
    create()
    const other = start('other', '1', '50', '1')
    const same = [start('shop', '1', '50', '1'), start('shop', '1', '50', '1')]
    await other.said(/done/)
    const outcomes = await Promise.allSettled(same.map((child) => child.said(/done/)))
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(refused.length).toBeGreaterThanOrEqual(1)
    for (const { reason } of refused) expect(String(reason)).toContain('BOX_IN_USE')
  })
})
