import { describe, expect, it } from 'vitest'
import { expectRejection, expectThrow, type MemoryFixture, settle } from './memory-fixture.js'

export function describeClosing(current: () => MemoryFixture): void {
  describe('a closed memory', () => {
    it('refuses everything with CLOSED', async () => {
      const fixture = current()
      const { memory, controlOffset } = fixture
      const prepared = memory.prepareRead([{ offset: 0, length: 8 }])
      await settle(fixture, memory.close())
      const about = { peer: memory.peer }
      await expectRejection(fixture, () => memory.read(0, 8), 'CLOSED', about)
      await expectRejection(fixture, () => memory.readMany([{ offset: 0, length: 8 }]), 'CLOSED', about)
      await expectRejection(fixture, () => memory.write(controlOffset, new Uint8Array(8)), 'CLOSED', about)
      await expectRejection(fixture, () => memory.compareAndSwap(controlOffset, 0n, 1n), 'CLOSED', about)
      await expectRejection(fixture, () => prepared.run(), 'CLOSED', about)
      expectThrow(() => memory.prepareRead([{ offset: 0, length: 8 }]), 'CLOSED', about)
      const plan = { cells: [{ counterOffset: 0, deadlineUs: 1_000 }], intervalUs: 1_000, unreachableAfterUs: 1_000 }
      expectThrow(() => memory.watch(plan, () => undefined), 'CLOSED', about)
      prepared.close()
    })

    it('can be closed again, also at the same time', async () => {
      const fixture = current()
      await settle(fixture, Promise.all([fixture.memory.close(), fixture.memory.close()]))
      await settle(fixture, fixture.memory.close())
    })

    it('leaves other connections to the same memory alone', async () => {
      const fixture = current()
      const other = await settle(fixture, fixture.connect())
      await settle(fixture, fixture.memory.close())
      fixture.bytes.fill(9, 0, 4)
      const read = await settle(fixture, other.read(0, 4))
      expect([...read]).toEqual([9, 9, 9, 9])
    })

    it('settles what was under way: done, or failed with CLOSED', async () => {
      const fixture = current()
      const { memory, bytes, controlOffset } = fixture
      bytes.fill(3)
      bytes.fill(0, controlOffset, controlOffset + 8)
      const prepared = memory.prepareRead([{ offset: 0, length: 1024 * 1024 }])
      const reads = Array.from({ length: 100 }, (_, index) => memory.read(8_192 + index * 16_384, 16_384))
      const under = [...reads, prepared.run(), memory.compareAndSwap(controlOffset, 0n, 1n)]
      const outcomes = Promise.allSettled(under)
      await settle(fixture, memory.close())
      const settled = await settle(fixture, outcomes)
      expect(settled.length).toBe(under.length)
      for (const outcome of settled) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'CLOSED', details: { peer: memory.peer } })
        else if (outcome.value instanceof Uint8Array) expect(outcome.value.every((byte) => byte === 3)).toBe(true)
      }
      prepared.close()
    })
  })
}
