import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { RemoteMemory } from '../remote-memory.js'
import { contractMemoryBytes, expectRejection, type MemoryFixture, settle } from './memory-fixture.js'

const largest = 2n ** 64n - 1n

/** An 8-byte aligned offset that is lent for reading only. */
function readOnlyOffset({ controlOffset, controlLength }: MemoryFixture): number {
  const after = controlOffset + controlLength
  return after + 8 <= contractMemoryBytes ? after : 0
}

const ownersView = ({ bytes }: MemoryFixture): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Adds 1 to a word by compare-and-swap, however often others come first. */
async function increment(memory: RemoteMemory, offset: number): Promise<void> {
  let expected = 0n
  for (;;) {
    const before = await memory.compareAndSwap(offset, expected, expected + 1n)
    if (before === expected) return
    expected = before
  }
}

export function describeWriting(current: () => MemoryFixture): void {
  describe('compare-and-swap', () => {
    it('changes the word where it is as expected, and tells what it was', async () => {
      const fixture = current()
      const offset = fixture.controlOffset + 16
      ownersView(fixture).setBigUint64(offset, 5n, true)
      const before = await settle(fixture, fixture.memory.compareAndSwap(offset, 5n, largest))
      expect(before).toBe(5n)
      expect(ownersView(fixture).getBigUint64(offset, true)).toBe(largest)
    })

    it('leaves the word where it is not as expected, and tells what it is', async () => {
      const fixture = current()
      const offset = fixture.controlOffset
      ownersView(fixture).setBigUint64(offset, largest - 1n, true)
      const before = await settle(fixture, fixture.memory.compareAndSwap(offset, 0n, 7n))
      expect(before).toBe(largest - 1n)
      expect(ownersView(fixture).getBigUint64(offset, true)).toBe(largest - 1n)
    })

    it('touches no byte but its word, also at the end of the window', async () => {
      const fixture = current()
      const { bytes, controlOffset, controlLength } = fixture
      const offset = controlOffset + controlLength - 8
      const before = bytes.slice()
      await settle(fixture, fixture.memory.compareAndSwap(offset, 0n, largest))
      before.fill(0xff, offset, offset + 8)
      expect(Buffer.compare(bytes, before)).toBe(0)
    })

    it('can be read back', async () => {
      const fixture = current()
      const offset = fixture.controlOffset + 64
      await settle(fixture, fixture.memory.compareAndSwap(offset, 0n, 0x0102030405060708n))
      const read = await settle(fixture, fixture.memory.read(offset, 8))
      expect([...read]).toEqual([8, 7, 6, 5, 4, 3, 2, 1])
    })

    it('does what a word does in any sequence of swaps', async () => {
      const fixture = current()
      const { memory, controlOffset } = fixture
      const value = fc.oneof(fc.bigInt({ min: 0n, max: 3n }), fc.bigInt({ min: 0n, max: largest }))
      const swap = fc.record({ word: fc.nat(3), expected: fc.option(value), desired: value })
      const property = fc.asyncProperty(fc.array(swap, { minLength: 1, maxLength: 30 }), async (swaps) => {
        const model = [0n, 0n, 0n, 0n]
        model.forEach((word, index) => ownersView(fixture).setBigUint64(controlOffset + 8 * index, word, true))
        for (const { word, expected, desired } of swaps) {
          // Without an expectation the right one is taken, or hardly any swap would succeed.
          const held = model[word] as bigint
          const wanted = expected ?? held
          expect(await settle(fixture, memory.compareAndSwap(controlOffset + 8 * word, wanted, desired))).toBe(held)
          if (wanted === held) model[word] = desired
        }
        model.forEach((word, index) => expect(ownersView(fixture).getBigUint64(controlOffset + 8 * index, true)).toBe(word))
      })
      await fc.assert(property, { numRuns: 30 })
    })

    it('lets one of two racing connections win, and tells the other who did', async () => {
      const fixture = current()
      const other = await settle(fixture, fixture.connect())
      const offset = fixture.controlOffset + 8
      for (let round = 0n; round < 50n; round += 1n) {
        const [mine, theirs] = [2n * round + 1n, 2n * round + 2n]
        const start = ownersView(fixture).getBigUint64(offset, true)
        const race = [fixture.memory.compareAndSwap(offset, start, mine), other.compareAndSwap(offset, start, theirs)]
        const [first, second] = await settle(fixture, Promise.all(race))
        const winner = ownersView(fixture).getBigUint64(offset, true)
        expect([mine, theirs]).toContain(winner)
        expect([first, second]).toEqual(winner === mine ? [start, mine] : [theirs, start])
      }
    })

    it('loses no increment of two racing connections', async () => {
      const fixture = current()
      const other = await settle(fixture, fixture.connect())
      const offset = fixture.controlOffset + 24
      const incrementAll = async (memory: RemoteMemory): Promise<void> => {
        for (let count = 0; count < 100; count += 1) await increment(memory, offset)
      }
      await settle(fixture, Promise.all([incrementAll(fixture.memory), incrementAll(other)]))
      expect(ownersView(fixture).getBigUint64(offset, true)).toBe(200n)
    })

    it('is refused with UNALIGNED at an offset that is no multiple of 8', async () => {
      const fixture = current()
      for (const shift of [1, 2, 4, 7]) {
        const offset = fixture.controlOffset + shift
        await expectRejection(fixture, () => fixture.memory.compareAndSwap(offset, 0n, 1n), 'UNALIGNED', { peer: fixture.memory.peer, offset })
      }
      expect(ownersView(fixture).getBigUint64(fixture.controlOffset, true)).toBe(0n)
    })

    it('is refused with READ_ONLY where memory is lent for reading only', async () => {
      const fixture = current()
      const offset = readOnlyOffset(fixture)
      await expectRejection(fixture, () => fixture.memory.compareAndSwap(offset, 0n, 1n), 'READ_ONLY', { peer: fixture.memory.peer, offset })
      expect(ownersView(fixture).getBigUint64(offset, true)).toBe(0n)
    })

    it('is refused with OUT_OF_RANGE outside the memory', async () => {
      const fixture = current()
      const { memory } = fixture
      for (const offset of [-8, contractMemoryBytes, 2 ** 32, 2 ** 53 - 8, NaN, Infinity, 0.5]) {
        await expectRejection(fixture, () => memory.compareAndSwap(offset, 0n, 1n), 'OUT_OF_RANGE', { peer: memory.peer, offset, length: 8 })
      }
    })

    it('is refused with INVALID_ARGUMENT for numbers that are not of 64 bits', async () => {
      const fixture = current()
      const { memory, controlOffset } = fixture
      for (const value of [-1n, largest + 1n]) {
        await expectRejection(fixture, () => memory.compareAndSwap(controlOffset, value, 1n), 'INVALID_ARGUMENT')
        await expectRejection(fixture, () => memory.compareAndSwap(controlOffset, 0n, value), 'INVALID_ARGUMENT')
      }
      expect(ownersView(fixture).getBigUint64(controlOffset, true)).toBe(0n)
    })
  })

  describe('writing', () => {
    it('is refused with READ_ONLY where memory is lent for reading only', async () => {
      const fixture = current()
      const { memory } = fixture
      const offset = readOnlyOffset(fixture)
      const about = { peer: memory.peer, offset, length: 3 }
      await expectRejection(fixture, () => memory.write(offset, new Uint8Array([1, 2, 3])), 'READ_ONLY', about)
      expect([...fixture.bytes.subarray(offset, offset + 3)]).toEqual([0, 0, 0])
    })

    it('is refused with READ_ONLY where only a part of the range may be written', async () => {
      const fixture = current()
      const { memory, controlOffset, controlLength } = fixture
      const offset = controlOffset > 0 ? controlOffset - 4 : controlOffset + controlLength - 4
      await expectRejection(fixture, () => memory.write(offset, new Uint8Array(8).fill(1)), 'READ_ONLY', { offset, length: 8 })
      expect([...fixture.bytes.subarray(offset, offset + 8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
    })

    it('is refused with OUT_OF_RANGE outside the memory', async () => {
      const fixture = current()
      for (const offset of [-1, contractMemoryBytes - 7, contractMemoryBytes, 2 ** 32, NaN, 1.5]) {
        const about = { peer: fixture.memory.peer, offset, length: 8 }
        await expectRejection(fixture, () => fixture.memory.write(offset, new Uint8Array(8)), 'OUT_OF_RANGE', about)
      }
    })

    it('is refused with INVALID_ARGUMENT where there is nothing to write', async () => {
      const fixture = current()
      await expectRejection(fixture, () => fixture.memory.write(fixture.controlOffset, new Uint8Array(0)), 'INVALID_ARGUMENT')
    })
  })
}
