import { describe, expect, it } from 'vitest'
import { MockMemory } from '../fabric/mock/mock-memory.js'
import { SimulatedNode } from '../fabric/mock/simulated-node.js'
import { Simulation } from '../fabric/mock/simulation.js'
import { withSeeds } from '../fabric/testing/with-seed.js'
import { isBackdoorsError } from '../errors.js'
import { safeguardsWithout } from '../safeguards.js'
import { crc32c } from '../native/crc32c.js'
import type { RegionHeader } from './header.js'
import { boxOffset, header as at, indexEntry, record } from './layout.js'
import { readDirectory, readHeader, readSensors, readSessions } from './region-reader.js'
import { BytesMemory } from './testing/bytes-memory.js'
import { openWriter, payloadOf, testBox, tinyRegion } from './testing/writer-box.js'

const geometry = { boxCount: 2, sensorsPerBox: 2, sessionsPerBox: 64, heapBytes: 1 << 18 }
const sessionCount = 40

interface Filled {
  readonly bytes: Uint8Array
  readonly header: RegionHeader
  /** Start of the index and of the heap in the region. */
  readonly index: number
  readonly heap: number
}

function filled(commits = 3): Filled {
  const { bytes, header } = tinyRegion(geometry)
  const writer = openWriter(bytes, header)
  for (let commit = 1; commit <= commits; commit++) {
    for (let i = 0; i < sessionCount; i++) writer.commit(writer.store('carts'), `u-${i}`, payloadOf(`u-${i}`, commit, 100 + i * 10), { ttlMs: 0, schemaVersion: commit })
  }
  const start = boxOffset(header.plan, testBox)
  return { bytes, header, index: start + header.plan.indexInBox, heap: start + header.plan.heapInBox }
}

const entryAt = ({ index }: Filled, position: number): number => index + position * indexEntry.bytes

/** Start of a session's current record in the region. */
function currentRecord(region: Filled, position: number): number {
  const view = new DataView(region.bytes.buffer)
  const isB = (view.getUint32(entryAt(region, position) + indexEntry.flags, true) & 2) !== 0
  return region.heap + view.getUint32(entryAt(region, position) + (isB ? indexEntry.slotB : indexEntry.slotA), true) * 64
}

const flip = (bytes: Uint8Array, offset: number): void => void (bytes[offset] = (bytes[offset] as number) ^ 0x10)

const read = (region: Filled) => readSessions(new BytesMemory(region.bytes), region.header, testBox)

describe('reading the header', () => {
  const codeOfReading = (bytes: Uint8Array): Promise<unknown> =>
    readHeader(new BytesMemory(bytes)).then(() => undefined, (error: unknown) => (isBackdoorsError(error) ? error.code : error))

  it('tells what is wrong with a region that cannot be read', async () => {
    const { bytes } = filled()
    expect(await codeOfReading(bytes)).toBeUndefined()
    expect(await codeOfReading(bytes.subarray(0, bytes.length - 1))).toBe('REGION_TRUNCATED')
    expect(await codeOfReading(bytes.subarray(0, at.bytes))).toBe('REGION_TRUNCATED')
    expect(await codeOfReading(bytes.subarray(0, 100))).toBe('REGION_TRUNCATED')
    expect(await codeOfReading(new Uint8Array(at.bytes))).toBe('REGION_CORRUPT')
    const newer = bytes.slice()
    newer[at.version] = 2
    expect(await codeOfReading(newer)).toBe('LAYOUT_UNSUPPORTED')
    const flipped = bytes.slice()
    flip(flipped, at.boxCount)
    expect(await codeOfReading(flipped)).toBe('REGION_CORRUPT')
  })

  it('does not believe a checked header whose sizes contradict each other', async () => {
    for (const field of [at.regionBytes, at.directoryOffset, at.boxBytes, at.heapBytes, at.sensorsPerBox, at.headerBytes]) {
      const bytes = filled().bytes.slice()
      bytes[field + 2] = (bytes[field + 2] as number) + 1
      new DataView(bytes.buffer).setUint32(at.crc, crc32c(bytes, 0, at.crc, 0), true)
      expect(await codeOfReading(bytes), `field at ${field}`).toBe('REGION_CORRUPT')
    }
  })
})

describe('a damaged box', () => {
  it('costs a session its newest version where that is damaged, says so, and costs its neighbours nothing', async () => {
    const region = filled()
    flip(region.bytes, currentRecord(region, 7) + record.headerBytes + 20)
    const { sessions, corrupt } = await read(region)
    expect([sessions.length, corrupt]).toEqual([sessionCount, 0])
    expect(sessions.filter(({ stale }) => stale).map(({ id, schemaVersion }) => [id, schemaVersion])).toEqual([['u-7', 2]])
  })

  it('counts a session as corrupt of which no version is left', async () => {
    const region = filled(1)
    flip(region.bytes, currentRecord(region, 7) + record.headerBytes + 20)
    const { sessions, corrupt } = await read(region)
    expect([sessions.length, corrupt]).toEqual([sessionCount - 1, 1])
  })

  it('finds all sessions although every entry of the index has a flipped bit', async () => {
    for (const field of [indexEntry.flags + 1, indexEntry.recordBytes, indexEntry.sequence, indexEntry.crc]) {
      const region = filled()
      for (let position = 0; position < sessionCount; position++) flip(region.bytes, entryAt(region, position) + field)
      const { sessions, corrupt } = await read(region)
      expect([sessions.length, corrupt], `byte ${field}`).toEqual([sessionCount, 0])
      expect(sessions.every(({ schemaVersion }) => schemaVersion === 3)).toBe(true)
    }
  })

  it('does not lose sound sessions to damaged entries that claim the whole heap', async () => {
    const region = filled()
    const view = new DataView(region.bytes.buffer)
    const units = region.header.plan.heapBytes / 64
    for (let position = 0; position < 10; position++) {
      for (const slot of [indexEntry.slotA, indexEntry.slotB]) {
        view.setUint32(entryAt(region, position) + slot, 3 + position, true)
        view.setUint32(entryAt(region, position) + slot + 4, units - 3 - position, true)
      }
    }
    const { sessions, corrupt } = await read(region)
    expect(sessions.filter(({ id }) => Number(id.slice(2)) >= 10)).toHaveLength(sessionCount - 10)
    expect(corrupt).toBeLessThanOrEqual(10)
  })

  it('is not read for more than it can hold, whatever it claims', async () => {
    const region = filled()
    const memory = new BytesMemory(region.bytes)
    const view = new DataView(region.bytes.buffer)
    // One record that claims the heap, named by every entry in doubt.
    view.setUint32(region.heap + record.payloadBytes, region.header.plan.heapBytes - 200, true)
    for (let position = 0; position < geometry.sessionsPerBox; position++) {
      view.setUint32(entryAt(region, position) + indexEntry.slotA, 0, true)
      view.setUint32(entryAt(region, position) + indexEntry.slotAUnits, region.header.plan.heapBytes / 64, true)
      view.setUint32(entryAt(region, position) + indexEntry.crc, 1, true)
    }
    const extraction = await readSessions(memory, region.header, testBox)
    expect(memory.bytesRead).toBe(extraction.bytes)
    expect(extraction.bytes).toBeLessThan(3.2 * region.header.plan.heapBytes)
    expect(extraction.sessions.length + extraction.corrupt).toBeGreaterThan(0)
  })

  it('shows why the CRC matters: without it, a flipped bit is an invented payload', async () => {
    const region = filled()
    flip(region.bytes, currentRecord(region, 7) + record.headerBytes + 20)
    const { sessions } = await readSessions(new BytesMemory(region.bytes), region.header, testBox, safeguardsWithout('crc'))
    const invented = sessions.filter(({ id, schemaVersion, payload }) => Buffer.compare(payload, payloadOf(id, schemaVersion, payload.length)) !== 0)
    expect(invented.map(({ id }) => id)).toEqual(['u-7'])
  })
})

describe('over a fabric', () => {
  it('reads only what the index says is alive, in few calls', async () => {
    const region = filled()
    const memory = new BytesMemory(region.bytes)
    const { reads, bytes } = await readSessions(memory, region.header, testBox)
    expect([memory.calls, reads]).toEqual([2, 1 + sessionCount])
    // In whole words.
    const records = Array.from({ length: sessionCount }, (_, i) => Math.ceil((record.headerBytes + 'carts'.length + `u-${i}`.length + 100 + i * 10) / 8) * 8)
    expect(bytes).toBe(geometry.sessionsPerBox * indexEntry.bytes + records.reduce((sum, length) => sum + length, 0))
  })

  it('looks at one batch while the next is on its way, and mixes up none', async () => {
    const region = filled()
    for (let position = 0; position < sessionCount; position += 7) flip(region.bytes, currentRecord(region, position) + record.headerBytes + 20)
    const whole = await read(region)
    for (const batchBytes of [1, 500, 1000, 4000]) {
      const memory = Object.assign(new BytesMemory(region.bytes), { batchBytes })
      const { sessions, corrupt } = await readSessions(memory, region.header, testBox)
      const seen = sessions.map(({ id, schemaVersion, payload, stale }) => ({ id, schemaVersion, stale, isWhole: Buffer.compare(payload, payloadOf(id, schemaVersion, payload.length)) === 0 }))
      expect(seen.toSorted((a, b) => Number(a.id.slice(2)) - Number(b.id.slice(2)))).toEqual(
        Array.from({ length: sessionCount }, (_, i) => ({ id: `u-${i}`, schemaVersion: i % 7 === 0 ? 2 : 3, stale: i % 7 === 0, isWhole: true })),
      )
      expect([corrupt, sessions.length]).toEqual([whole.corrupt, whole.sessions.length])
    }
  })

  it('fails with what a batch fails with, whichever it is', async () => {
    const region = filled()
    for (const failing of [1, 2, 5]) {
      const memory = Object.assign(new BytesMemory((call) => (call === failing ? region.bytes.subarray(0, 8) : region.bytes)), { batchBytes: 1000 })
      await expect(readSessions(memory, region.header, testBox)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    }
  })

  it('gives sessions that were committed, or an error of the fabric, while reads are torn, lost and late', async () => {
    await withSeeds(1, 40, async (seed) => {
      const { bytes, header } = tinyRegion(geometry)
      const simulation = new Simulation(seed)
      const node = new SimulatedNode(simulation, { name: 'b', buffer: bytes.buffer as ArrayBuffer })
      const memory = new MockMemory(simulation, node, { conditions: { tearProbability: 0.5, tearSpreadUs: 40, failProbability: 0.01 } })
      const random = simulation.random('writer')
      const writer = openWriter(bytes, header)
      let commits = 0
      const writing = simulation.every(1, () => {
        const id = `u-${random.integer(0, 5)}`
        commits++
        if (random.chance(0.1)) writer.delete(writer.store('carts'), id)
        else writer.commit(writer.store('carts'), id, payloadOf(id, commits, random.integer(0, 2000)), { ttlMs: 0, schemaVersion: commits })
      })
      await simulation.advance(50)
      for (let round = 0; round < 10; round++) {
        const outcome = await simulation.settle(readSessions(memory, header, testBox).catch((error: unknown) => error as Error))
        if (outcome instanceof Error) expect(isBackdoorsError(outcome, 'WC_RETRY_EXC_ERR')).toBe(true)
        else for (const { id, schemaVersion, payload } of outcome.sessions) expect(Buffer.compare(payload, payloadOf(id, schemaVersion, payload.length))).toBe(0)
      }
      writing.cancel()
      expect(commits).toBeGreaterThan(50)
    })
  })

  it('reads directory and sensors of several boxes at once', async () => {
    const region = filled()
    expect(await readDirectory(new BytesMemory(region.bytes), region.header)).toMatchObject([{ state: 'free' }, { state: 'free' }])
    expect(await readSensors(new BytesMemory(region.bytes), region.header, [1, 0])).toEqual([{ sensors: [], corrupt: 0 }, { sensors: [], corrupt: 0 }])
  })
})
