import { describe, expect, it } from 'vitest'
import { FoundRecord, ReadRecords } from './found-record.js'
import { record } from './layout.js'
import { NewestRecords } from './newest-records.js'

/** A record of store s, whose hash is whatever it is said to be: many may be made to have the same. */
function found(id: string, sequence: number, hash: number): FoundRecord {
  const bytes = new Uint8Array(record.headerBytes + 1 + id.length)
  const view = new DataView(bytes.buffer)
  view.setUint16(record.storeBytes, 1, true)
  view.setUint16(record.sessionIdBytes, id.length, true)
  bytes.set(Buffer.from(`s${id}`), record.headerBytes)
  return new FoundRecord(new ReadRecords(bytes), 0, hash, 's', undefined, sequence)
}

describe('the newest of records', () => {
  it.each([
    ['of hashes of their own', (i: number) => Math.imul(i, 0x9e37_79b1)],
    ['of few hashes', (i: number) => i % 3],
    ['of one hash', () => 7],
  ])('%s are kept in the order of their sessions, in whatever order they come', (_what, hashOf) => {
    const newest = new NewestRecords(4)
    for (const sequence of [5, 9, 7]) for (let i = 0; i < 500; i++) newest.put(found(`u-${i}`, sequence * 1000 + i, hashOf(i)))
    expect(newest.all.map(({ id, sequence }) => [id, sequence])).toEqual(Array.from({ length: 500 }, (_, i) => [`u-${i}`, 9000 + i]))
  })
})
