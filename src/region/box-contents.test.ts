/** What an owner makes of entries that no honest owner wrote: their CRCs are right, their slots are others'. */
import { describe, expect, it } from 'vitest'
import { crc32c } from '../native/crc32c.js'
import { boxOffset, indexEntry, indexFlags, record } from './layout.js'
import { boxSeed } from './seed.js'
import { shortCrc32c } from './short-crc32c.js'
import { heldBy, openWriter, payloadOf, readAll, testBox, tinyRegion } from './testing/writer-box.js'

const plain = { ttlMs: 0, schemaVersion: 1 }

function setUp() {
  const { bytes, header } = tinyRegion()
  const start = boxOffset(header.plan, testBox)
  const index = start + header.plan.indexInBox
  const heap = start + header.plan.heapInBox
  const view = new DataView(bytes.buffer)
  /** Writes words of an entry and puts its CRC right. */
  const forge = (position: number, words: Partial<Record<number, number>>): void => {
    const entry = index + position * indexEntry.bytes
    for (const [field, value] of Object.entries(words)) view.setUint32(entry + Number(field), value as number, true)
    view.setUint32(entry + indexEntry.crc, shortCrc32c(bytes, entry, indexEntry.crc, boxSeed(header.incarnation, testBox)) >>> 0, true)
  }
  return { bytes, header, heap, forge, writer: openWriter(bytes, header) }
}

describe('taking over a box', () => {
  it('gives up a spare slot that is a neighbour’s, and so keeps the neighbour', () => {
    const { bytes, header, forge, writer } = setUp()
    const store = writer.store('carts')
    writer.commit(store, 'a', payloadOf('a', 1, 60), plain)
    writer.commit(store, 'b', payloadOf('b', 1, 60), plain)
    // Session a, at unit 0, claims as its other slot the two units of session b.
    forge(0, { [indexEntry.slotB]: 2, [indexEntry.slotBUnits]: 2 })
    const next = openWriter(bytes, header)
    for (let commit = 2; commit < 6; commit++) {
      next.commit(next.store('carts'), 'a', payloadOf('a', commit, 60), plain)
      expect(heldBy(next).get('b')).toEqual(payloadOf('b', 1, 60))
    }
    expect(heldBy(openWriter(bytes, header))).toEqual(new Map([['a', payloadOf('a', 5, 60)], ['b', payloadOf('b', 1, 60)]]))
  })

  it.each([-1, 1])('finds a session whose entry tells a wrong length by its record (%i bytes)', (off) => {
    const { bytes, header, forge, writer } = setUp()
    writer.commit(writer.store('carts'), 'a', payloadOf('a', 1, 60), plain)
    forge(0, { [indexEntry.recordBytes]: 48 + 'carts'.length + 'a'.length + 60 + off })
    const next = openWriter(bytes, header)
    expect(heldBy(next)).toEqual(new Map([['a', payloadOf('a', 1, 60)]]))
    next.commit(next.store('carts'), 'a', payloadOf('a', 2, 60), plain)
    expect(heldBy(openWriter(bytes, header))).toEqual(new Map([['a', payloadOf('a', 2, 60)]]))
  })

  it('does not take a record within a session’s payload for a session', () => {
    const { bytes, header, heap, forge, writer } = setUp()
    const store = writer.store('carts')
    writer.commit(store, 'gone', payloadOf('gone', 1, 40), plain)
    // The record of a session that is gone, at a unit's start within the payload of another.
    const inside = new Uint8Array(400)
    const into = 2 * 64 - 48 - 'carts'.length - 'outer'.length
    inside.set(bytes.subarray(heap, heap + 48 + 9 + 40), into)
    writer.delete(store, 'gone')
    for (let i = 0; i < 2; i++) writer.commit(store, 'outer', inside, plain)
    const entry = new DataView(bytes.buffer, boxOffset(header.plan, testBox) + header.plan.indexInBox)
    const current = entry.getUint32(entry.getUint32(indexEntry.flags, true) & indexFlags.currentIsB ? indexEntry.slotB : indexEntry.slotA, true)
    forge(1, { [indexEntry.slotA]: current + 2, [indexEntry.slotAUnits]: 2, [indexEntry.flags]: indexFlags.used, [indexEntry.recordBytes]: 97, [indexEntry.sequence]: 1 })
    expect(heldBy(openWriter(bytes, header))).toEqual(new Map([['outer', inside]]))
  })
})

describe('a record whose CRC is right and whose text nobody could have written', () => {
  it.each([
    ['store', 'shop'],
    ['id', 'evil'],
    ['origin node', 'dead'],
  ])('costs only itself where the %s holds a NUL', async (_, text) => {
    const { bytes, header, heap, writer } = setUp()
    const origin = { node: 'dead', incarnation: 1n, box: 2, sequence: 3 }
    writer.commit(writer.store('shop'), 'evil', payloadOf('evil', 1, 60), { ...plain, origin })
    writer.commit(writer.store('carts'), 'a', payloadOf('a', 1, 60), plain)
    const length = record.headerBytes + 'shop'.length + 'evil'.length + 24 + 60
    const forged = bytes.subarray(heap, heap + length)
    forged[Buffer.from(forged).indexOf(text) + 1] = 0
    new DataView(bytes.buffer).setUint32(heap + record.crc, crc32c(bytes, heap + 4, length - 4, boxSeed(header.incarnation, testBox)), true)
    expect([...(await readAll(bytes, header)).keys()]).toEqual(['a'])
    const next = openWriter(bytes, header)
    expect(heldBy(next)).toEqual(new Map([['a', payloadOf('a', 1, 60)]]))
    next.commit(next.store('shop'), 'evil', payloadOf('evil', 2, 60), plain)
    expect((await readAll(bytes, header)).get('evil')?.payload).toEqual(payloadOf('evil', 2, 60))
  })
})
