import { readdirSync, readFileSync, truncateSync } from 'node:fs'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Child, closing, countThreads, createMemory, expectCode, until } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'
import { type FileReader, histogramBuckets, type Sampler, type SamplerCell, samplerEventFields, samplerEventKinds, samplerHeadFields, type SharedMemory } from './memory.js'

/** So long that no delay of a test machine reaches it. */
const patientUs = 3.6e9
const cellAt = (counterPosition: number, deadlineUs: number, pendingPosition = -1): SamplerCell => ({ counterPosition, pendingPosition, deadlineUs })
const oneWord = Float64Array.of(0, 4, 0)

const held = new Int32Array(new SharedArrayBuffer(4))
/** Time passes, and the event loop comes to nothing. */
const holdMs = (ms: number): unknown => Atomics.wait(held, 0, 0, ms)

interface Seen {
  readonly kind: (typeof samplerEventKinds)[number] | undefined
  readonly target: number
  readonly cell: number
  readonly counter: number
  readonly sinceUs: number
  readonly atUs: number
  readonly status: string | undefined
}

class Rig {
  readonly events: Seen[] = []
  readonly memory: SharedMemory = createMemory()
  readonly words = new Uint32Array(this.memory.buffer)
  readonly reader: FileReader = closing(new (memoryAddon().FileReader)(this.memory.path))
  readonly sampler: Sampler = closing(
    new (memoryAddon().Sampler)((packed, statuses) => {
      for (let at = 0; at < packed.length; at += samplerEventFields) {
        const [kind = -1, target = -1, cell = -1, counter = -1, sinceUs = -1, atUs = -1, status = -1] = packed.subarray(at, at + samplerEventFields)
        this.events.push({ kind: samplerEventKinds[kind], target, cell, counter, sinceUs, atUs, status: statuses[status] })
      }
    }),
  )

  watch(cells: readonly SamplerCell[], triples = oneWord, intervalUs = 500, unreachableAfterUs = patientUs): number {
    return this.sampler.add(this.reader, triples, cells, intervalUs, unreachableAfterUs)
  }

  async rounds(target: number, count: number): Promise<void> {
    const from = this.sampler.state(target)[1] ?? 0
    await until(`${String(count)} rounds`, () => (this.sampler.state(target)[1] ?? 0) >= from + count)
  }

  kinds(): string {
    return this.events.map(({ kind, target, cell }) => `${String(kind)} ${String(target)}.${String(cell)}`).join(', ')
  }
}

describe('Sampler', () => {
  it('tells that a counter has stalled and moved, by the clock of monotonicUs', async () => {
    const rig = new Rig()
    rig.words[0] = 41
    const fromUs = memoryAddon().monotonicUs()
    const target = rig.watch([cellAt(0, 5_000)])
    await until('stalled', () => rig.events.length === 1)
    rig.words[0] = 42
    await until('moved', () => rig.events.length >= 2)
    const [stalled, moved] = rig.events as [Seen, Seen]
    expect(stalled).toMatchObject({ kind: 'stalled', target, cell: 0, counter: 41, status: undefined })
    expect(moved).toMatchObject({ kind: 'moved', target, cell: 0, counter: 42, status: undefined })
    expect(stalled.sinceUs).toBeGreaterThan(fromUs)
    expect(stalled.atUs - stalled.sinceUs).toBeGreaterThanOrEqual(5_000)
    expect(moved.atUs).toBeGreaterThan(stalled.atUs)
    expect(memoryAddon().monotonicUs()).toBeGreaterThan(moved.atUs)
  })

  it('packs its state as head and cells', async () => {
    const rig = new Rig()
    rig.words.set([7, 0, 9, 3])
    const triples = Float64Array.of(8, 8, 16, 0, 8, 0)
    const target = rig.watch([cellAt(0, patientUs, 4), cellAt(16, patientUs, 20), cellAt(0, patientUs)], triples)
    await rig.rounds(target, 5)
    const state = [...rig.sampler.state(target)]
    const [reachable, rounds, failed, lateness, last, mean] = state as [number, number, number, number, number, number]
    expect([reachable, failed]).toEqual([1, 0])
    expect(rounds).toBeGreaterThanOrEqual(5)
    for (const value of [lateness, last, mean]) expect(value).toBeGreaterThan(0)
    expect(state.slice(samplerHeadFields).filter((_, index) => index % 4 !== 2)).toEqual([7, 0, 0, 9, 3, 0, 7, 1, 0])
    expect(state.length).toBe(samplerHeadFields + 12)
  })

  it('counts round trips, lateness and the greatest ages, each in buckets by size', async () => {
    const rig = new Rig()
    const beat = closing(new (memoryAddon().BeatThread)({ memory: rig.memory, counterOffset: 0, fenceOffset: 64, fenceLimit: 0, intervalUs: 5_000 }))
    const target = rig.watch([cellAt(0, patientUs)], oneWord, 200)
    await until('beats', () => beat.beats >= 20)
    beat.close()
    await rig.rounds(target, 2)
    const counts = [...rig.sampler.histograms(target)]
    expect(counts.length).toBe(3 * histogramBuckets)
    const [, rounds = 0] = rig.sampler.state(target)
    const totals = [0, 1, 2].map((part) => counts.slice(part * histogramBuckets, (part + 1) * histogramBuckets).reduce((sum, count) => sum + count, 0))
    const [roundTrips = 0, lateness = 0, ages = 0] = totals
    // They were read one after another, without a lock, and the rounds after them.
    expect(roundTrips).toBeGreaterThan(0)
    expect(lateness).toBeGreaterThanOrEqual(roundTrips)
    expect(lateness).toBeLessThanOrEqual(rounds)
    expect(ages).toBeGreaterThanOrEqual(5)
    expect(ages).toBeLessThan(beat.beats)
    expectCode(() => rig.sampler.histograms(target + 1), 'INVALID_ARGUMENT', { field: 'target' })
  })

  it('keeps its thread to a processor, and says where it may not', () => {
    const rig = new Rig()
    const allowed = /Cpus_allowed_list:\s*(\d+)/
    const cpu = Number(allowed.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
    const pinned = closing(new (memoryAddon().Sampler)(() => undefined, { cpu }))
    expect(pinned.warnings).toEqual([])
    pinned.add(rig.reader, oneWord, [], 500, patientUs)
    expect(pinned.warnings).toEqual([])
    const statuses = readdirSync('/proc/self/task').map((task) => readFileSync(`/proc/self/task/${task}/status`, 'utf8'))
    expect(statuses.filter((status) => /Name:\s*bd-sampler\n/.test(status)).map((status) => /Cpus_allowed_list:\s*(.*)/.exec(status)?.[1])).toEqual([String(cpu)])
    const refused = closing(new (memoryAddon().Sampler)(() => undefined, { cpu: 1023 }))
    refused.add(rig.reader, oneWord, [], 500, patientUs)
    expect(refused.warnings).toEqual([expect.stringMatching(/not pinned to processor 1023/)])
  })

  it('has real-time priority, or says that it may not', () => {
    const rig = new Rig()
    const sampler = closing(new (memoryAddon().Sampler)(() => undefined, { realtime: true }))
    sampler.add(rig.reader, oneWord, [], 500, patientUs)
    const task = readdirSync('/proc/self/task').find((each) => readFileSync(`/proc/self/task/${each}/comm`, 'utf8') === 'bd-sampler\n')
    // The 41st field is the policy, 1 for SCHED_FIFO; the name, which is the second, may hold anything but a closing parenthesis here.
    const policy = readFileSync(`/proc/self/task/${String(task)}/stat`, 'utf8').split(') ')[1]?.split(' ')[38]
    expect([policy, ...sampler.warnings]).toEqual(policy === '1' ? ['1'] : ['0', expect.stringMatching(/no real-time priority/)])
  })

  it.each([[{ cpu: -1 }, 'cpu'], [{ cpu: 1024 }, 'cpu'], [{ realtime: 'yes' }, 'realtime'], [7, 'options']])('refuses the options %j', (options, field) => {
    const { Sampler: Made } = memoryAddon()
    expectCode(() => new Made(() => undefined, options as never), 'INVALID_ARGUMENT', { field })
  })

  it('samples many targets by one thread, and tells each its own', async () => {
    const rig = new Rig()
    const targets = Array.from({ length: 50 }, (_, index) => rig.watch([cellAt(0, index % 2 === 0 ? 3_000 : patientUs)], Float64Array.of(index * 64, 4, 0), 300 + 20 * index))
    await until('25 stalls', () => rig.events.length >= 25)
    for (const target of targets) await rig.rounds(target, 3)
    expect(rig.events.map(({ target }) => target).sort((left, right) => left - right)).toEqual(targets.filter((_, index) => index % 2 === 0))
    expect(countThreads('bd-sampler')).toBe(1)
  })

  it('keeps history and numbers through an update, and drops what is left out', async () => {
    const rig = new Rig()
    const target = rig.watch([cellAt(0, 3_000), cellAt(8, patientUs)], Float64Array.of(0, 16, 0))
    await until('stalled', () => rig.events.length === 1)
    // The counter at offset 0 is read to another position now, and has another number.
    rig.sampler.update(target, rig.reader, Float64Array.of(64, 4, 0, 0, 4, 4), [cellAt(0, patientUs), cellAt(4, 3_000)], 500, patientUs)
    await rig.rounds(target, 4)
    rig.words[0] = 1
    // It may have stalled again by the time that this is looked at.
    await until('moved', () => rig.events.length >= 2)
    expect(rig.kinds()).toMatch(/^stalled 0\.0, moved 0\.1(,|$)/)
    expect(rig.sampler.state(target).length).toBe(samplerHeadFields + 8)
  })

  it('samples at a shorter interval at once', async () => {
    const rig = new Rig()
    const target = rig.watch([], oneWord, patientUs)
    await until('the first round', () => rig.sampler.state(target)[1] === 1)
    rig.sampler.update(target, rig.reader, oneWord, [], 100, patientUs)
    await rig.rounds(target, 20)
  })

  it('tells unreachable with the cause and since when, and reachable again; ages begin anew', async () => {
    const rig = new Rig()
    const target = rig.watch([cellAt(0, 400_000)], oneWord, 500, 10_000)
    await rig.rounds(target, 3)
    truncateSync(rig.memory.path, 0)
    await until('unreachable', () => rig.events.length === 1)
    const [unreachable] = rig.events as [Seen]
    expect(unreachable).toMatchObject({ kind: 'unreachable', target, status: 'MEMORY_LOST' })
    expect(unreachable.atUs - unreachable.sinceUs).toBeGreaterThanOrEqual(10_000)
    const [reachable, rounds = 0, failed = 0] = rig.sampler.state(target)
    expect([reachable, failed > 0, failed < rounds]).toEqual([0, true, true])
    truncateSync(rig.memory.path, 65_536)
    await until('reachable', () => rig.events.length === 2)
    expect(rig.events[1]).toMatchObject({ kind: 'reachable', target, status: undefined })
    const ageUs = rig.sampler.state(target)[samplerHeadFields + 2] ?? Infinity
    expect(ageUs).toBeLessThan(memoryAddon().monotonicUs() - (rig.events[1] as Seen).atUs)
  })

  it('tells unreachable with CLOSED when the file is closed', async () => {
    const rig = new Rig()
    rig.watch([], oneWord, 500, 10_000)
    rig.reader.close()
    await until('unreachable', () => rig.events.length === 1)
    expect(rig.events[0]).toMatchObject({ kind: 'unreachable', status: 'CLOSED' })
  })

  it('tells nothing of a target that has been removed, nor once it is closed', async () => {
    const rig = new Rig()
    const removed = rig.watch([cellAt(0, 1)], oneWord, 50)
    const kept = rig.watch([cellAt(0, 3_000)], oneWord, 50)
    rig.sampler.remove(removed)
    rig.sampler.remove(removed)
    await until('an event', () => rig.events.length > 0)
    expect(rig.events.map(({ target }) => target)).toEqual([kept])
    expectCode(() => rig.sampler.state(removed), 'INVALID_ARGUMENT', { field: 'target' })
    rig.words[0] = 1
    // It has something to tell, which the event loop has not come to yet.
    while (rig.sampler.state(kept)[samplerHeadFields] !== 1) holdMs(1)
    rig.sampler.close()
    rig.sampler.close()
    expect(countThreads('bd-sampler')).toBe(0)
    const later = new Rig()
    later.watch([cellAt(0, 1)], oneWord, 50)
    await until('an event of a later sampler', () => later.events.length > 0)
    expect(rig.events.length).toBe(1)
    expectCode(() => rig.watch([]), 'CLOSED')
    expectCode(() => rig.sampler.state(kept), 'CLOSED')
    expectCode(() => rig.sampler.update(kept, rig.reader, oneWord, [], 500, patientUs), 'CLOSED')
    rig.sampler.remove(kept)
  })

  it('coalesces what an event loop does not fetch, and never loses the newest', async () => {
    const rig = new Rig()
    const cells = Array.from({ length: 500 }, () => cellAt(0, 300))
    const target = rig.watch(cells, Float64Array.of(64, 4, 0), 50)
    // Each beat makes all cells move and then stall: a thousand events.
    const beat = closing(new (memoryAddon().BeatThread)({ memory: rig.memory, counterOffset: 64, fenceOffset: 0, fenceLimit: 1, intervalUs: 4_000 }))
    await until('events', () => rig.events.length >= 1_000)
    const before = beat.beats
    while (beat.beats < before + 20) holdMs(10)
    rig.words[0] = 1
    while (!beat.fenced) holdMs(1)
    const fetched = rig.events.length
    // Let the cells stall for good, still without fetching.
    while (!isAllStalled(rig.sampler.state(target), rig.words[16] as number)) holdMs(1)
    await until('the rest is delivered', () => rig.events.length > fetched)
    await rig.rounds(target, 2)
    const late = rig.events.slice(fetched)
    expect(late.length).toBeLessThanOrEqual(4_096 + 500)
    const newest = new Map(late.map(({ cell, kind }) => [cell, kind]))
    expect([...newest.values()].filter((kind) => kind !== 'stalled')).toEqual([])
    expect(newest.size).toBe(500)
    expect(late.every(({ atUs }, index) => index === 0 || atUs >= (late[index - 1] as Seen).atUs)).toBe(true)
  })

  it('does not count time in which the watcher itself was stopped', async () => {
    const rig = new Rig()
    const deadlineUs = 300_000
    const child = new Child('watcher.mjs', [rig.memory.path, String(deadlineUs)])
    expect(await child.line()).toBe('sampling')
    child.process.kill('SIGSTOP')
    await until('the child is stopped', () => /\) T /.test(readFileSync(`/proc/${String(child.process.pid)}/stat`, 'utf8')))
    const stoppedUs = memoryAddon().monotonicUs()
    await sleepMs(700)
    const stoppedForUs = memoryAddon().monotonicUs() - stoppedUs
    child.process.kill('SIGCONT')
    const { events } = JSON.parse(await child.line()) as { events: number[] }
    const [kind, , , , sinceUs = 0, atUs = 0] = events
    expect(kind).toBe(samplerEventKinds.indexOf('stalled'))
    // Of the time it was stopped, one interval may count. (Whether a wake-up was late by it, or a read long, is chance.)
    expect(atUs - sinceUs).toBeGreaterThanOrEqual(deadlineUs + stoppedForUs - 2_000)
    expect((await child.ended).code).toBe(0)
  })

  const refused: readonly (readonly [what: string, field: string, args: (rig: Rig) => readonly unknown[]])[] = [
    ['another object for the file', 'source', () => [{}, oneWord, [], 500, patientUs]],
    ['a memory for the file', 'source', (rig) => [rig.memory, oneWord, [], 500, patientUs]],
    ['triples that are no doubles', 'triples', (rig) => [rig.reader, [0, 4, 0], [], 500, patientUs]],
    ['a negative offset', 'triples', (rig) => [rig.reader, Float64Array.of(-1, 4, 0), [], 500, patientUs]],
    ['more bytes than can be sampled', 'triples', (rig) => [rig.reader, Float64Array.of(0, 2 ** 24, 1), [], 500, patientUs]],
    ['cells that are no array', 'cells', (rig) => [rig.reader, oneWord, {}, 500, patientUs]],
    ['a cell that is no object', 'cells[]', (rig) => [rig.reader, oneWord, [3], 500, patientUs]],
    ['a cell without a counter', 'cells', (rig) => [rig.reader, oneWord, [{ deadlineUs: 5 }], 500, patientUs]],
    ['a cell without a deadline', 'cells', (rig) => [rig.reader, oneWord, [{ counterPosition: 0 }], 500, patientUs]],
    ['a counter outside of what is read', 'cells', (rig) => [rig.reader, oneWord, [cellAt(1, 5)], 500, patientUs]],
    ['a pending word outside of what is read', 'cells', (rig) => [rig.reader, oneWord, [cellAt(0, 5, 4)], 500, patientUs]],
    ['a deadline of 0', 'deadlineUs', (rig) => [rig.reader, oneWord, [cellAt(0, 0)], 500, patientUs]],
    ['an interval of 0', 'intervalUs', (rig) => [rig.reader, oneWord, [], 0, patientUs]],
    ['no patience', 'unreachableAfterUs', (rig) => [rig.reader, oneWord, [], 500, NaN]],
  ]
  it.each(refused)('refuses %s with INVALID_ARGUMENT', (_what, field, args) => {
    const rig = new Rig()
    const add = rig.sampler.add.bind(rig.sampler) as (...any: readonly unknown[]) => number
    expectCode(() => add(...args(rig)), 'INVALID_ARGUMENT', { field })
    expect(countThreads('bd-sampler')).toBe(0)
  })

  it('survives a plan whose reading closes everything', () => {
    const rig = new Rig()
    const triples = Float64Array.of(0, 4, 0)
    const cell = {
      get counterPosition(): number {
        rig.reader.close()
        rig.sampler.close()
        structuredClone(triples.buffer, { transfer: [triples.buffer] })
        return 0
      },
      pendingPosition: -1,
      deadlineUs: 5,
    }
    const error = expectCode(() => rig.sampler.add(rig.reader, triples, [cell], 500, patientUs), 'CLOSED')
    expect(error.message).toMatch(/closed/)
  })

  it('needs a listener', () => {
    const { Sampler: Made } = memoryAddon()
    expectCode(() => new (Made as unknown as new (listener?: unknown) => Sampler)(), 'INVALID_ARGUMENT', { field: 'listener' })
  })
})

/** Has every cell stalled at this count? */
function isAllStalled(state: Float64Array, counter: number): boolean {
  const expected = [counter, undefined, undefined, 1]
  return state.every((value, index) => index < samplerHeadFields || value === (expected[(index - samplerHeadFields) % 4] ?? value))
}
