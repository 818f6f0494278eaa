/**
 * Whatever bytes there are, readers neither crash nor hang, and invent nothing: 100,000 cases in all, each made from
 * a number that a failure prints.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Random } from '../fabric/mock/random.js'
import { fuzzSeed } from '../fabric/testing/fuzz-seed.js'
import { isBackdoorsError } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { BoxOwner } from './box-owner.js'
import { decodeDirectoryEntry, encodeDirectoryEntry } from './directory.js'
import { decodeHeader, encodeHeader } from './header.js'
import { boxOffset, directoryEntry, directoryVersion, header as headerAt, indexEntry, maxSessionIdBytes, record, sensorCell } from './layout.js'
import { readDirectory, readSensors, readSessions } from './region-reader.js'
import { boxSeed } from './seed.js'
import { decodeSensor, describeSensor } from './sensor-cell.js'
import { decodeIndexEntry } from './session-index.js'
import { decodeRecord } from './session-record.js'
import type { SessionWriter } from './session-writer.js'
import { BytesMemory } from './testing/bytes-memory.js'
import { damage, flipBits, forgeIndexEntry } from './testing/damage.js'
import { copyOf, Machine, smallGeometry } from './testing/memory-region.js'
import { openWriter, payloadOf, testBox, tinyRegion } from './testing/writer-box.js'

const seed = boxSeed(9n, 1)
const plain = { ttlMs: 0, schemaVersion: 1 }

function cases(count: number, check: (random: Random) => void): void {
  fc.assert(fc.property(fc.nat(), (number) => check(new Random(number))), { numRuns: count })
}

/** Random bytes, sound ones with damage, or damaged ones whose CRC is put right again. */
function spoilt(sound: Uint8Array, crcAt: (bytes: Uint8Array, random: Random) => void, random: Random): Uint8Array {
  const bytes = sound.slice()
  const kind = random.integer(0, 2)
  if (kind === 0) random.fill(bytes)
  else damage(bytes, random)
  if (kind === 2) crcAt(bytes, random)
  return bytes
}

fc.configureGlobal({ seed: fuzzSeed() })

describe('damaged or hostile bytes', { timeout: 120_000 }, () => {
  it('are no header, or a sound one', () => {
    const page = encodeHeader('node-a', 'cluster', 5n, smallGeometry)
    const whole = decodeHeader(page)
    cases(16_000, (random) => {
      const bytes = spoilt(page, (spoiled) => new DataView(spoiled.buffer).setUint32(headerAt.crc, crc32c(spoiled, 0, headerAt.crc, 0), true), random)
      try {
        const found = decodeHeader(bytes)
        expect(found.plan.regionBytes).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER)
        expect(found.node.length * found.cluster.length).toBeGreaterThan(0)
      } catch (error) {
        if (!isBackdoorsError(error, 'REGION_CORRUPT', 'LAYOUT_UNSUPPORTED')) throw error
      }
      const flipped = page.slice()
      flipBits(flipped, random, random.integer(1, 3))
      const outcome = ((): unknown => {
        try {
          return decodeHeader(flipped)
        } catch (error) {
          return isBackdoorsError(error) ? error.code : error
        }
      })()
      if (outcome !== 'REGION_CORRUPT' && outcome !== 'LAYOUT_UNSUPPORTED') expect(outcome).toEqual(whole)
    })
  })

  it('are no directory entry, or one that was written', () => {
    const sound = new Uint8Array(directoryEntry.bytes)
    for (const generation of [1, 2]) encodeDirectoryEntry(sound, { name: 'shop', state: 'open', generation, pid: 1, sequenceFloor: 3 })
    const fixCrc = (bytes: Uint8Array, random: Random): void => {
      const version = bytes.subarray(random.pick([directoryEntry.versionA, directoryEntry.versionB])).subarray(0, directoryVersion.bytes)
      new DataView(version.buffer, version.byteOffset).setUint32(directoryVersion.crc, crc32c(version, 0, directoryVersion.crc, 0), true)
    }
    cases(16_000, (random) => {
      const found = decodeDirectoryEntry(spoilt(sound, fixCrc, random))
      if (found) expect(Number.isSafeInteger(found.sequenceFloor)).toBe(true)
      const flipped = sound.slice()
      flipBits(flipped, random, random.integer(1, 3))
      const after = decodeDirectoryEntry(flipped)
      if (after) expect(after).toMatchObject({ name: 'shop', state: 'open', pid: 1, sequenceFloor: 3 })
    })
  })

  it('are no sensor, or one that was described', () => {
    const sound = new Uint8Array(sensorCell.bytes)
    describeSensor(sound, seed, { name: 'event-loop', kind: 'progress', deadlineUs: 50_000 })
    const fixCrc = (bytes: Uint8Array): void => new DataView(bytes.buffer).setUint32(sensorCell.crc, crc32c(bytes, sensorCell.kind, sensorCell.crc - sensorCell.kind, seed), true)
    cases(17_000, (random) => {
      const found = decodeSensor(spoilt(sound, fixCrc, random), seed, 3)
      if (found !== undefined && found !== 'corrupt') expect(found.name.length).toBeGreaterThan(0)
      const flipped = sound.slice()
      flipBits(flipped.subarray(sensorCell.kind), random, random.integer(1, 3))
      const after = decodeSensor(flipped, seed, 3)
      if (after !== 'corrupt') expect(after).toMatchObject({ name: 'event-loop', kind: 'progress', deadlineUs: 50_000 })
    })
  })

  it('are no index entry that leads out of the heap', () => {
    const heapBytes = 4096
    const index = new Uint8Array(4 * indexEntry.bytes)
    cases(17_000, (random) => {
      random.fill(index)
      if (random.chance(0.7)) forgeIndexEntry(index, heapBytes, seed, random)
      for (let position = 0; position < 4; position++) {
        const entry = decodeIndexEntry(index, position, seed, heapBytes)
        for (const { offset, bytes } of entry.slots) {
          expect(offset).toBeGreaterThanOrEqual(0)
          expect(bytes).toBeGreaterThan(0)
          expect(offset + bytes).toBeLessThanOrEqual(heapBytes)
        }
        if (entry.state === 'live') expect(entry.recordBytes).toBeLessThanOrEqual(entry.slots[0]?.bytes ?? 0)
      }
    })
  })

  it('are no record, or one that was committed', () => {
    const { bytes, header } = tinyRegion()
    const writer = openWriter(bytes, header)
    const origin = { node: 'dead', incarnation: 1n, box: 2, sequence: 3 }
    writer.commit(writer.store('carts'), 'u-1', payloadOf('u-1', 1, 120), { ...plain, origin })
    const start = boxOffset(header.plan, testBox) + header.plan.heapInBox
    const sound = bytes.slice(start, start + 320)
    const boxSeedHere = boxSeed(header.incarnation, testBox)
    const whole = decodeRecord(sound, boxSeedHere)
    expect(whole?.origin).toEqual(origin)
    const length = record.headerBytes + 5 + 3 + 24 + 120
    const fixCrc = (spoiled: Uint8Array): void => new DataView(spoiled.buffer).setUint32(record.crc, crc32c(spoiled, 4, length - 4, boxSeedHere), true)
    cases(17_000, (random) => {
      const found = decodeRecord(spoilt(sound, fixCrc, random), boxSeedHere)
      if (found) expect(found.id.length).toBeLessThanOrEqual(maxSessionIdBytes)
      const flipped = sound.slice()
      flipBits(flipped.subarray(0, length), random, random.integer(1, 3))
      const after = decodeRecord(flipped, boxSeedHere)
      if (after) expect(after).toEqual(whole)
      // Without the check it may be anything, but a crash.
      decodeRecord(flipped, boxSeedHere, false)
    })
  })
})

/** Commits of several sizes, deletes and growth. @returns every payload that was ever committed, by session */
function live(writer: SessionWriter, random: Random): Map<string, Uint8Array[]> {
  const committed = new Map<string, Uint8Array[]>()
  for (let commit = 1; commit <= 14; commit++) {
    const id = `u-${random.integer(0, 4)}`
    const payload = payloadOf(id, commit, random.integer(0, 250))
    if (commit % 7 === 0) writer.delete(writer.store('carts'), id)
    else {
      writer.commit(writer.store('carts'), id, payload, plain)
      committed.set(id, [...(committed.get(id) ?? []), payload])
    }
  }
  return committed
}

function expectCommitted(committed: ReadonlyMap<string, Uint8Array[]>, id: string, payload: Uint8Array): void {
  if (!(committed.get(id) ?? []).some((one) => Buffer.compare(one, payload) === 0)) throw new Error(`session ${id} with ${payload.length} bytes was never committed`)
}

describe('a damaged or hostile box', { timeout: 120_000 }, () => {
  it('gives sessions that were committed, and none else, for a bounded number of bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (number) => {
        const random = new Random(number)
        const { bytes, header } = tinyRegion()
        const committed = live(openWriter(bytes, header), random)
        const { plan, incarnation } = header
        const start = boxOffset(plan, testBox)
        const index = bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
        for (let i = random.integer(1, 4); i > 0; i--) {
          if (random.chance(0.4)) forgeIndexEntry(index, plan.heapBytes, boxSeed(incarnation, testBox), random)
          else damage(random.chance(0.5) ? index : bytes.subarray(start, start + plan.boxBytes), random)
        }
        const memory = new BytesMemory(bytes)
        const { sessions } = await readSessions(memory, header, testBox)
        for (const { id, payload } of sessions) expectCommitted(committed, id, payload)
        expect(memory.bytesRead).toBeLessThanOrEqual(index.length + 3 * plan.heapBytes + 2 * plan.sessionsPerBox * record.headerBytes)
        expect(memory.calls).toBeLessThan(8)
        await readSensors(memory, header, [0, 1])
        await readDirectory(memory, header)
      }),
      { numRuns: 9000 },
    )
  })

  it('is taken over without inventing a session, and then serves whoever took it', () => {
    const machine = new Machine()
    const region = machine.open()
    const owner = BoxOwner.take(region, { name: 'shop', nowMs: () => 1000 })
    const committed = live(owner.sessions, new Random(1))
    const { plan, incarnation } = region.header
    const start = boxOffset(plan, owner.box)
    cases(8000, (random) => {
      const bytes = copyOf(machine.bytes)
      for (let i = random.integer(1, 4); i > 0; i--) {
        const index = bytes.subarray(start + plan.indexInBox, start + plan.heapInBox)
        if (random.chance(0.5)) forgeIndexEntry(index, plan.heapBytes, boxSeed(incarnation, owner.box), random)
        else damage(bytes.subarray(random.pick([headerAt.bytes, plan.directoryOffset, start, start + plan.indexInBox])), random)
      }
      takeAndUse(new Machine(smallGeometry, bytes), committed)
    })
  })
})

function takeAndUse(machine: Machine, committed: ReadonlyMap<string, Uint8Array[]>): void {
  let owner: BoxOwner
  try {
    owner = BoxOwner.take(machine.open(), { name: 'shop', nowMs: () => 1000 })
  } catch (error) {
    if (isBackdoorsError(error, 'FENCED', 'BOXES_EXHAUSTED')) return
    throw error
  }
  const { sessions } = owner
  const store = sessions.store('carts')
  const held = new Map<string, Uint8Array>()
  for (const id of store.sessions.keys()) {
    const payload = sessions.get(store, id)?.payload.slice() as Uint8Array
    expectCommitted(committed, id, payload)
    held.set(id, payload)
  }
  for (let commit = 1; commit <= 8; commit++) {
    const id = `u-${commit % 6}`
    const payload = payloadOf(id, commit, (commit * 97) % 400)
    try {
      sessions.commit(store, id, payload, plain)
      held.set(id, payload)
    } catch (error) {
      if (!isBackdoorsError(error, 'BOX_FULL', 'FENCED')) throw error
    }
  }
  for (const [id, payload] of held) expect(Buffer.compare(sessions.get(store, id)?.payload as Uint8Array, payload)).toBe(0)
}
