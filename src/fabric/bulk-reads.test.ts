import { describe, expect, it } from 'vitest'
import { readInto, readLent } from './bulk-reads.js'
import type { ReadableMemory } from './remote-memory.js'

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i)
const part = (offset: number, length: number): Uint8Array => bytes.slice(offset, offset + length)
const memory: ReadableMemory = {
  peer: 'b', length: bytes.length,
  read: (offset, length) => Promise.resolve(part(offset, length)),
  readMany: (ranges) => Promise.resolve(ranges.map(({ offset, length }) => part(offset, length))),
}

describe('memory that knows no shorter way', () => {
  it('is read into memory of the caller\'s', async () => {
    const target = new Uint8Array(8).fill(255)
    await readInto(memory, [{ offset: 10, length: 3 }, { offset: 50, length: 4 }], target)
    expect([...target]).toEqual([10, 11, 12, 50, 51, 52, 53, 255])
  })

  it('is not read where there is no room for it', async () => {
    const target = new Uint8Array(2)
    await expect(readInto(memory, [{ offset: 10, length: 3 }], target)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { length: 3 } })
    expect([...target]).toEqual([0, 0])
  })

  it('lends what it has read', async () => {
    expect(await readLent(memory, [{ offset: 1, length: 2 }, { offset: 9, length: 1 }], (read) => Promise.resolve(read.map((each) => [...each])))).toEqual([[1, 2], [9]])
  })
})
