import { describe, expect, it } from 'vitest'
import type { WatchedCell, WatchPlan } from '../remote-memory.js'
import { contractMemoryBytes, expectThrow, type MemoryFixture, settle, waitUntil, WatchLog } from './memory-fixture.js'

const intervalUs = 1_000
const deadlineUs = 20_000
/** So long that no delay of a test machine is taken for a failure. */
const patientUs = 3_600_000_000

const cellAt = (offset: number): WatchedCell => ({ counterOffset: offset, deadlineUs })
const cellWithWork = (offset: number): WatchedCell => ({ counterOffset: offset, pendingOffset: offset + 4, deadlineUs })
const planOf = (...cells: readonly WatchedCell[]): WatchPlan => ({ cells, intervalUs, unreachableAfterUs: patientUs })

function setWord({ bytes }: MemoryFixture, offset: number, value: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, value, true)
}

export function describeWatching(current: () => MemoryFixture): void {
  describe('watching', () => {
    it('tells once that a still counter has stalled, and not before its deadline', async () => {
      const fixture = current()
      setWord(fixture, 8_192, 41)
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      const stalled = await log.next('stalled', 0)
      expect(stalled.counter).toBe(41)
      expect(stalled.atUs - stalled.lastChangeUs).toBeGreaterThanOrEqual(deadlineUs)
      await log.rounds(2)
      expect(log.events).toEqual([stalled])
      const cell = log.watch.state.cells[0]
      expect(cell).toMatchObject({ counter: 41, stalled: true })
      expect(cell?.ageUs).toBeGreaterThanOrEqual(deadlineUs)
      log.watch.close()
    })

    it('tells that a stalled counter has moved, and that it stalls again', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      const first = await log.next('stalled', 0)
      setWord(fixture, 8_192, 1)
      const moved = await log.next('moved', 0)
      const second = await log.next('stalled', 0, 2)
      expect(log.events).toEqual([first, moved, second])
      expect([moved.counter, second.counter]).toEqual([1, 1])
      expect(moved.atUs).toBeGreaterThan(first.atUs)
      expect(second.lastChangeUs).toBeGreaterThanOrEqual(moved.atUs)
      expect(second.atUs - second.lastChangeUs).toBeGreaterThanOrEqual(deadlineUs)
      log.watch.close()
    })

    it('takes a counter that wraps for one that moves', async () => {
      const fixture = current()
      setWord(fixture, 8_192, 0xffff_ffff)
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      expect((await log.next('stalled', 0)).counter).toBe(0xffff_ffff)
      setWord(fixture, 8_192, 0)
      expect((await log.next('moved', 0)).counter).toBe(0)
      log.watch.close()
    })

    it('never tells that a counter has stalled that has nothing to do', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellWithWork(8_192), cellAt(12_288)))
      await log.next('stalled', 1)
      setWord(fixture, 12_288, 1)
      await log.next('stalled', 1, 2)
      expect(log.of('stalled', 0)).toEqual([])
      expect(log.watch.state.cells[0]).toMatchObject({ pending: 0, ageUs: 0, stalled: false })
      log.watch.close()
    })

    it('tells that a counter has stalled once work is pending, and no longer when none is', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellWithWork(8_192), cellAt(12_288)))
      await log.next('stalled', 1)
      setWord(fixture, 8_196, 3)
      await log.next('stalled', 0)
      expect(log.watch.state.cells[0]).toMatchObject({ pending: 3, stalled: true })
      setWord(fixture, 8_196, 0)
      await log.next('moved', 0)
      await waitUntil(fixture, 'the cell is idle', () => log.watch.state.cells[0]?.ageUs === 0)
      expect(log.watch.state.cells[0]).toMatchObject({ pending: 0, stalled: false })
      log.watch.close()
    })

    it('lets the deadline run only from the first read that sees work pending, however rare reads are', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, { cells: [cellWithWork(8_192)], intervalUs: 10 * deadlineUs, unreachableAfterUs: patientUs })
      await log.rounds(2)
      const idleRounds = log.watch.state.rounds
      setWord(fixture, 8_196, 1)
      const stalled = await log.next('stalled', 0)
      expect(stalled.atUs - stalled.lastChangeUs).toBeGreaterThanOrEqual(deadlineUs)
      expect(log.watch.state.rounds).toBeGreaterThanOrEqual(idleRounds + 2)
      log.watch.close()
    })

    it('tells nothing of a counter that moves in time', async () => {
      const fixture = current()
      const moving = { counterOffset: 8_192, deadlineUs: patientUs }
      const log = new WatchLog(fixture, planOf(moving, cellAt(12_288)))
      for (let beat = 1; beat <= 20; beat += 1) {
        setWord(fixture, 8_192, beat)
        await waitUntil(fixture, `beat ${String(beat)} is seen`, () => log.watch.state.cells[0]?.counter === beat)
      }
      await log.next('stalled', 1)
      expect(log.events.filter((event) => 'cell' in event && event.cell === 0)).toEqual([])
      log.watch.close()
    })

    it('watches hundreds of cells, each by its own deadline', async () => {
      const fixture = current()
      const cells = Array.from({ length: 500 }, (_, index) => ({ counterOffset: 8_192 + index * 64, deadlineUs: index % 2 === 0 ? deadlineUs : patientUs }))
      const log = new WatchLog(fixture, planOf(...cells))
      await waitUntil(fixture, 'half the cells have stalled', () => log.of('stalled').length >= 250)
      await log.rounds(2)
      const stalled = log.of('stalled').map(({ cell }) => cell).sort((left, right) => left - right)
      expect(stalled).toEqual(Array.from({ length: 250 }, (_, index) => 2 * index))
      log.watch.close()
    })

    it('keeps the state in sane numbers', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192), cellWithWork(12_288)))
      await log.rounds(10)
      const { state } = log.watch
      expect(state.cells.length).toBe(2)
      expect(state.reachable).toBe(true)
      expect(state.failedRounds).toBe(0)
      for (const value of [state.maxLatenessUs, state.lastRoundTripUs, state.meanRoundTripUs, ...state.cells.map(({ ageUs }) => ageUs)]) {
        expect(Number.isFinite(value) && value >= 0).toBe(true)
      }
      expect(state.meanRoundTripUs).toBeGreaterThan(0)
      log.watch.close()
    })
  })

  describe('a new plan', () => {
    it('keeps the history of cells that stand in both, at their new numbers', async () => {
      const fixture = current()
      setWord(fixture, 8_192, 7)
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      await log.next('stalled', 0)
      log.watch.update(planOf(cellAt(12_288), cellAt(8_192)))
      await log.next('stalled', 0, 2)
      await log.rounds(2)
      expect(log.events.map(({ kind }) => kind)).toEqual(['stalled', 'stalled'])
      const kept = log.watch.state.cells[1]
      expect(kept).toMatchObject({ counter: 7, stalled: true })
      expect(kept?.ageUs).toBeGreaterThan(log.watch.state.cells[0]?.ageUs ?? Infinity)
      setWord(fixture, 8_192, 8)
      expect(await log.next('moved')).toMatchObject({ cell: 1, counter: 8 })
      log.watch.close()
    })

    it('says nothing more of cells that it left out', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192), cellAt(12_288)))
      log.watch.update(planOf(cellAt(12_288)))
      await log.next('stalled', 0)
      setWord(fixture, 8_192, 1)
      await log.rounds(3)
      expect(log.events.map(({ kind }) => kind)).toEqual(['stalled'])
      expect(log.watch.state.cells.length).toBe(1)
      log.watch.close()
    })

    it('is refused where it is wrong, and the old one stays', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      expectThrow(() => log.watch.update(planOf(cellAt(contractMemoryBytes))), 'OUT_OF_RANGE')
      await log.next('stalled', 0)
      log.watch.close()
    })
  })

  describe('a wrong plan', () => {
    const refused: readonly (readonly [what: string, code: 'OUT_OF_RANGE' | 'UNALIGNED' | 'INVALID_ARGUMENT', plan: WatchPlan])[] = [
      ['a counter beyond the end', 'OUT_OF_RANGE', planOf(cellAt(contractMemoryBytes))],
      ['a counter at a negative offset', 'OUT_OF_RANGE', planOf(cellAt(-4))],
      ['a pending word beyond the end', 'OUT_OF_RANGE', planOf(cellWithWork(contractMemoryBytes - 4))],
      ['a counter that is not aligned', 'UNALIGNED', planOf(cellAt(8_194))],
      ['a pending word that is not aligned', 'UNALIGNED', planOf({ counterOffset: 8_192, pendingOffset: 8_197, deadlineUs })],
      ['an interval of 0', 'INVALID_ARGUMENT', { ...planOf(cellAt(8_192)), intervalUs: 0 }],
      ['an interval that is no number', 'INVALID_ARGUMENT', { ...planOf(cellAt(8_192)), intervalUs: NaN }],
      ['a negative patience', 'INVALID_ARGUMENT', { ...planOf(cellAt(8_192)), unreachableAfterUs: -1 }],
      ['a deadline of 0', 'INVALID_ARGUMENT', planOf({ counterOffset: 8_192, deadlineUs: 0 })],
    ]
    it.each(refused)('is refused: %s with %s', (_what, code, plan) => {
      const { memory } = current()
      expectThrow(() => memory.watch(plan, () => undefined), code, { peer: memory.peer })
    })
  })

  describe('a watch that is closed', () => {
    it('tells nothing more, and can be closed again', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      await log.rounds(1)
      log.watch.close()
      log.watch.close()
      const told = log.events.length
      // Another watch of the same cell shows that there was something to tell.
      const other = new WatchLog(fixture, planOf(cellAt(8_192)))
      await other.next('stalled', 0)
      expect(log.events.length).toBe(told)
      other.watch.close()
    })

    it('by its own listener tells nothing more', async () => {
      const fixture = current()
      const told: string[] = []
      const watch = fixture.memory.watch(planOf(cellAt(8_192), cellAt(8_256)), ({ kind }) => {
        told.push(kind)
        watch.close()
      })
      await waitUntil(fixture, 'the first event', () => told.length > 0)
      const other = new WatchLog(fixture, planOf(cellAt(8_192)))
      await other.next('stalled', 0)
      expect(told).toEqual(['stalled'])
      other.watch.close()
    })

    it('is so with its memory, and leaves other connections alone', async () => {
      const fixture = current()
      const log = new WatchLog(fixture, planOf(cellAt(8_192)))
      await log.rounds(1)
      const other = await settle(fixture, fixture.connect())
      await settle(fixture, fixture.memory.close())
      const told = log.events.length
      const kinds: string[] = []
      const watch = other.watch(planOf(cellAt(8_192)), ({ kind }) => kinds.push(kind))
      await waitUntil(fixture, 'the other watch tells', () => kinds.length > 0)
      expect(kinds).toEqual(['stalled'])
      expect(log.events.length).toBe(told)
      watch.close()
      log.watch.close()
    })
  })

  describe('a dead peer', () => {
    it('is told once to be unreachable, with the error and since when, and nothing is said of its counters', async (context) => {
      const fixture = current()
      if (fixture.kill === undefined) return context.skip('this backend cannot make its peer die')
      const unreachableAfterUs = 50_000
      const cells = [{ counterOffset: 8_192, deadlineUs: patientUs }]
      const log = new WatchLog(fixture, { cells, intervalUs, unreachableAfterUs })
      await log.rounds(3)
      await settle(fixture, fixture.kill())
      const event = await log.next('unreachable')
      expect(event.status).toMatch(/^(TIMEOUT|WC_[A-Z_]+|SYSTEM_CALL_FAILED|OUT_OF_RANGE|MEMORY_LOST)$/)
      expect(event.atUs - event.sinceUs).toBeGreaterThanOrEqual(unreachableAfterUs)
      expect(log.events).toEqual([event])
      const { state } = log.watch
      expect(state.reachable).toBe(false)
      expect(state.failedRounds).toBeLessThanOrEqual(state.rounds)
      log.watch.close()
    })

    it('fails reads, and settles them', async (context) => {
      const fixture = current()
      if (fixture.kill === undefined) return context.skip('this backend cannot make its peer die')
      await settle(fixture, fixture.kill())
      const [outcome] = await settle(fixture, Promise.allSettled([fixture.memory.read(8_192, 64)]))
      expect(outcome.status).toBe('rejected')
    })
  })
}
