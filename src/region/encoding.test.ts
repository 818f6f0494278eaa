import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { claimGeneration, decodeClaim, encodeClaim, firstTerm, holdingOf, nextTerm, touchedTerm, type Claim } from './control.js'
import { decodeDirectoryEntry, encodeDirectoryEntry } from './directory.js'
import { decodeHeader, encodeHeader } from './header.js'
import { boxOffset, control, controlPairOffset, defaultGeometry, directoryEntry, directoryEntryOffset, header, maxBoxes, maxRegionBytes, pageBytes, planRegion } from './layout.js'
import { crc32c } from '../native/crc32c.js'
import { boxSeed } from './seed.js'
import { decodeSensor, describeSensor } from './sensor-cell.js'
import { decodeRecord, encodeOrigin } from './session-record.js'
import { shortCrc32c } from './short-crc32c.js'
import { codeOf } from './testing/code-of.js'

describe('a header', () => {
  it('comes back as it was written', () => {
    const decoded = decodeHeader(encodeHeader('nöde-1', 'cluster', 0xfedc_ba98_7654_3211n, defaultGeometry))
    expect(decoded).toEqual({ node: 'nöde-1', cluster: 'cluster', incarnation: 0xfedc_ba98_7654_3211n, plan: planRegion(defaultGeometry) })
  })

  it('lays out its parts one after another, boxes on pages, in a region of whole pages', () => {
    const plan = planRegion({ boxCount: 3, sensorsPerBox: 5, sessionsPerBox: 7, heapBytes: 1000 })
    expect(plan.directoryOffset).toBe(2 * pageBytes)
    expect(plan.boxesOffset).toBe(3 * pageBytes)
    expect(plan).toMatchObject({ indexInBox: 320, heapInBox: 576, heapBytes: 1024, boxBytes: pageBytes, regionBytes: 6 * pageBytes })
    expect([boxOffset(plan, 2), directoryEntryOffset(plan, 2)]).toEqual([5 * pageBytes, 2 * pageBytes + 512])
  })

  it('refuses geometries out of their bounds', () => {
    for (const wrong of [{ boxCount: 1 }, { boxCount: maxBoxes + 1 }, { sensorsPerBox: 0 }, { sessionsPerBox: 0 }, { sessionsPerBox: 1.5 }, { heapBytes: 63 }, { heapBytes: NaN }]) {
      expect(codeOf(() => planRegion({ ...defaultGeometry, ...wrong })), JSON.stringify(wrong)).toBe('INVALID_ARGUMENT')
    }
  })

  it('plans no region that one ArrayBuffer could not show', () => {
    const box = { boxCount: 4, sensorsPerBox: 1, sessionsPerBox: 1 }
    const largestHeap = Math.floor((maxRegionBytes - 3 * pageBytes) / 4 / pageBytes) * pageBytes - 128
    expect(planRegion({ ...box, heapBytes: largestHeap }).regionBytes).toBeLessThanOrEqual(maxRegionBytes)
    for (const wrong of [{ ...box, heapBytes: largestHeap + 64 }, { ...defaultGeometry, boxCount: maxBoxes }, { ...box, heapBytes: maxRegionBytes + 1 }]) {
      expect(codeOf(() => planRegion(wrong)), JSON.stringify(wrong)).toBe('INVALID_ARGUMENT')
    }
  })

  it('of a region that one ArrayBuffer could not show is REGION_CORRUPT, and says which bound it breaks', () => {
    const page = encodeHeader('a', 'c', 1n, { boxCount: 2, sensorsPerBox: 1, sessionsPerBox: 1, heapBytes: 2 ** 30 })
    const view = new DataView(page.buffer)
    view.setUint32(header.boxCount, 4, true)
    view.setBigUint64(header.regionBytes, BigInt(3 * pageBytes) + 4n * view.getBigUint64(header.boxBytes, true), true)
    view.setUint32(header.crc, crc32c(page, 0, header.crc, 0), true)
    let error: unknown
    try {
      decodeHeader(page, { peer: 'b' })
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'REGION_CORRUPT', details: { peer: 'b' }, cause: { code: 'INVALID_ARGUMENT', details: { field: 'heapBytes' } } })
  })

  it('refuses names that it has no room for, or that are not text', () => {
    for (const wrong of ['', 'x'.repeat(65), 'ü'.repeat(33), 'a\0b', '\ud800']) {
      expect(codeOf(() => encodeHeader(wrong, 'cluster', 1n, defaultGeometry)), JSON.stringify(wrong)).toBe('INVALID_ARGUMENT')
    }
    expect(decodeHeader(encodeHeader('x'.repeat(64), '\ufeffy', 1n, defaultGeometry))).toMatchObject({ node: 'x'.repeat(64), cluster: '\ufeffy' })
  })
})

describe('the control page', () => {
  it('has the words of the node and of each box in pairs, in one page', () => {
    expect([controlPairOffset('node'), controlPairOffset(0), controlPairOffset(1)]).toEqual([control.offset, control.offset + 16, control.offset + 32])
    expect(controlPairOffset(maxBoxes - 1) + control.pairBytes).toBe(control.offset + control.bytes)
  })

  it('gives a claim back as it was made', () => {
    const claims: Claim[] = [
      { recoverer: 1, term: 1, step: 'claimed', generation: 1 },
      { recoverer: 65535, term: 65535, step: 'announced', generation: 0xffffff },
      { recoverer: 258, term: 3, step: 'extracted', generation: 77 },
      { recoverer: 2, term: 9, step: 'adopted', generation: 0 },
    ]
    for (const claim of claims) expect(decodeClaim(encodeClaim(claim))).toEqual(claim)
    expect(claimGeneration(0x1234_5678)).toBe(0x34_5678)
  })

  it('is held anew under the next term, and the same however often its holder shows that he is at work', () => {
    const held = { generation: 0x1ab_cdef, term: firstTerm }
    let touched = held
    for (let i = 0; i < 40; i++) {
      const next = { ...touched, term: touchedTerm(touched.term) }
      expect(next.term).not.toBe(touched.term)
      expect(holdingOf(next)).toBe(holdingOf(held))
      touched = next
    }
    const anew = { ...touched, term: nextTerm(touched.term) }
    expect(holdingOf(anew)).toBe(holdingOf(held) + 1)
    expect(holdingOf({ ...held, generation: held.generation + 1 })).toBe(holdingOf(held) + 0x1000)
    expect([nextTerm(0xffff), touchedTerm(0xffff), nextTerm(0), touchedTerm(0)]).toEqual([0, 0xfff0, 0x10, 1])
  })

  it('finds no claim in a word that holds none', () => {
    for (const word of [0n, 1n, 5n, 0xffn, 0xff_ffff_ffffn << 24n, (7n << 24n) | 1n]) expect(decodeClaim(word), word.toString(16)).toBeUndefined()
  })
})

describe('a directory entry', () => {
  const entry = { name: 'shop', state: 'open', generation: 3, pid: 4711, sequenceFloor: 2 ** 40 } as const

  it('comes back as it was written, newest version first', () => {
    const bytes = new Uint8Array(directoryEntry.bytes)
    for (let generation = 1; generation < 6; generation++) {
      encodeDirectoryEntry(bytes, { ...entry, generation })
      expect(decodeDirectoryEntry(bytes)).toEqual({ ...entry, generation, exited: false })
    }
    encodeDirectoryEntry(bytes, { ...entry, generation: 5, state: 'closed' })
    expect(decodeDirectoryEntry(bytes)).toMatchObject({ generation: 5, state: 'closed' })
  })

  it('of zeros is a free box', () => {
    expect(decodeDirectoryEntry(new Uint8Array(directoryEntry.bytes))).toMatchObject({ state: 'free', generation: 0 })
  })

  it('knows whether the daemon has seen this generation gone, and leaves that word alone', () => {
    const bytes = new Uint8Array(directoryEntry.bytes)
    new DataView(bytes.buffer).setUint32(directoryEntry.exitedGeneration, 3, true)
    encodeDirectoryEntry(bytes, entry)
    expect(decodeDirectoryEntry(bytes)?.exited).toBe(true)
    encodeDirectoryEntry(bytes, { ...entry, generation: 4 })
    expect(decodeDirectoryEntry(bytes)?.exited).toBe(false)
  })

  it('is the one before or the new one, wherever its writing was cut short', () => {
    const before = new Uint8Array(directoryEntry.bytes)
    encodeDirectoryEntry(before, entry)
    for (let generation = 4; generation < 7; generation++) {
      const after = before.slice()
      encodeDirectoryEntry(after, { ...entry, generation })
      for (let cut = 0; cut <= directoryEntry.bytes; cut++) {
        const torn = before.slice()
        torn.set(after.subarray(0, cut))
        expect([generation - 1, generation]).toContain(decodeDirectoryEntry(torn)?.generation)
      }
      before.set(after)
    }
  })

  it('is corrupt where no version of it is valid, and where it is too short', () => {
    const bytes = new Uint8Array(directoryEntry.bytes)
    encodeDirectoryEntry(bytes, entry)
    expect(decodeDirectoryEntry(bytes.subarray(1))).toBeUndefined()
    bytes[directoryEntry.versionA + 5] = 99
    expect(decodeDirectoryEntry(bytes)).toBeUndefined()
  })
})

describe('a sensor cell', () => {
  const seed = boxSeed(5n, 1)

  it('comes back as it was described', () => {
    const bytes = new Uint8Array(64)
    const view = new DataView(bytes.buffer)
    for (const kind of ['progress', 'level', 'pressure'] as const) {
      describeSensor(bytes, seed, { name: 'event-loop-ä', kind, deadlineUs: 0xffff_ffff })
      view.setUint32(0, 7, true)
      view.setUint32(4, 2, true)
      view.setFloat64(8, 0.5, true)
      view.setFloat64(16, -3, true)
      expect(decodeSensor(bytes, seed, 9)).toEqual({ name: 'event-loop-ä', kind, cell: 9, deadlineUs: 0xffff_ffff, counter: 7, pending: 2, value: 0.5, limit: -3 })
    }
  })

  it('is nothing where it is free, and corrupt where its description belongs to another box', () => {
    const bytes = new Uint8Array(64)
    expect(decodeSensor(bytes, seed, 0)).toBeUndefined()
    describeSensor(bytes, boxSeed(5n, 2), { name: 'x', kind: 'level', deadlineUs: 0 })
    expect(decodeSensor(bytes, seed, 0)).toBe('corrupt')
    expect(decodeSensor(bytes.subarray(0, 63), boxSeed(5n, 2), 0)).toBe('corrupt')
  })

  it('refuses a name or a deadline that has no room', () => {
    for (const wrong of [{ name: 'x'.repeat(17) }, { name: '' }, { deadlineUs: 2 ** 32 }, { deadlineUs: -1 }, { deadlineUs: 1.5 }]) {
      expect(codeOf(() => describeSensor(new Uint8Array(64), seed, { name: 'x', kind: 'progress', deadlineUs: 1, ...wrong }))).toBe('INVALID_ARGUMENT')
    }
  })
})

describe('a session record', () => {
  it('is bound to its region and its box', () => {
    expect(new Set([boxSeed(1n, 0), boxSeed(1n, 1), boxSeed(2n, 0), boxSeed(1n << 32n, 0)]).size).toBe(4)
  })

  it('refuses an origin that a reader could not read', () => {
    for (const node of ['', 'x'.repeat(65), '\udfff']) {
      expect(codeOf(() => encodeOrigin({ node, incarnation: 1n, box: 1, sequence: 1 }))).toBe('INVALID_ARGUMENT')
    }
  })

  it('is none where there is too little of it', () => {
    for (let length = 0; length < 60; length++) expect(decodeRecord(new Uint8Array(length).fill(1), 0)).toBeUndefined()
  })
})

it('reckons the CRC of few bytes as the addon does', () => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff })
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 40, maxLength: 40 }), fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 7 }), word, (bytes, offset, words, seed) => {
      expect(shortCrc32c(bytes, offset, words * 4, seed) >>> 0).toBe(crc32c(bytes, offset, words * 4, seed))
    }),
  )
})

it('reads no header from fewer bytes than a header has', () => {
  const page = encodeHeader('a', 'c', 1n, defaultGeometry)
  expect(codeOf(() => decodeHeader(page.subarray(0, header.bytes - 1)))).toBe('REGION_CORRUPT')
})
