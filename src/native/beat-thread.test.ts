import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import { closing, countThreads, createMemory, expectCode, until } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'
import type { BeatThread, BeatThreadOptions, SharedMemory } from './memory.js'

function start(memory: SharedMemory, options: Partial<BeatThreadOptions> = {}): BeatThread {
  const defaults = { memory, counterOffset: 64, fenceOffset: 0, fenceLimit: 1, intervalUs: 200 }
  return closing(new (memoryAddon().BeatThread)({ ...defaults, ...options }))
}

describe('BeatThread', () => {
  it('advances its counter, and no other byte', async () => {
    const memory = createMemory()
    const words = new Uint32Array(memory.buffer)
    const beat = start(memory)
    await until('100 beats', () => beat.beats >= 100)
    beat.close()
    expect(words[16]).toBe(beat.beats)
    expect(words.every((word, index) => word === 0 || index === 16)).toBe(true)
  })

  it('wraps its counter', async () => {
    const memory = createMemory()
    const words = new Uint32Array(memory.buffer)
    words[16] = 0xffff_fff0
    const beat = start(memory)
    await until('32 beats', () => beat.beats >= 32)
    beat.close()
    expect(words[16]).toBe(beat.beats - 16)
  })

  it('stops for good when its fence word reaches the limit', async () => {
    const memory = createMemory()
    const words = new Uint32Array(memory.buffer)
    words[0] = 6
    const beat = start(memory, { fenceLimit: 7 })
    await until('a beat', () => beat.beats > 0)
    expect(beat.fenced).toBe(false)
    words[0] = 9
    await until('the thread has seen the fence', () => beat.fenced)
    const { beats } = beat
    words[0] = 0
    await until('the thread is gone', () => countThreads('bd-beat') === 0)
    expect([beat.beats, words[16]]).toEqual([beats, beats])
  })

  it('never beats where it is fenced from the start, and always where there is no limit', async () => {
    const memory = createMemory()
    new Uint32Array(memory.buffer)[0] = 0xffff_ffff
    const fenced = start(memory)
    await until('the thread has seen the fence', () => fenced.fenced)
    expect(fenced.beats).toBe(0)
    const free = start(memory, { fenceLimit: 0 })
    await until('a beat', () => free.beats > 0)
  })

  it('beats at its interval', async () => {
    const beat = start(createMemory(), { intervalUs: 1_000 })
    await until('a beat', () => beat.beats > 0)
    const [beats, fromUs] = [beat.beats, memoryAddon().monotonicUs()]
    await until('50 beats', () => beat.beats >= beats + 50)
    const passedUs = memoryAddon().monotonicUs() - fromUs
    // It may be late, but is never early.
    expect(passedUs).toBeGreaterThan(48_000)
  })

  it('has real-time priority, or warns', () => {
    const beat = start(createMemory(), { intervalUs: 1_000_000 })
    const task = readThread('bd-beat')
    const policy = Number(task.split(') ')[1]?.split(' ')[38])
    const hasWarned = beat.warnings.some((warning) => warning.includes('real-time priority'))
    expect(policy === 1).toBe(!hasWarned)
    for (const warning of beat.warnings) expect(warning).toMatch(/\(E[A-Z]+\).*Grant /)
  })

  it('has a second thread, where there are two processors, which shares none with the first', () => {
    start(createMemory(), { intervalUs: 1_000_000 })
    const processorsOf = (name: string): number[] => {
      const task = readdirSync('/proc/self/task').find((each) => readFileSync(`/proc/self/task/${each}/comm`, 'utf8').trim() === name)
      const list = task === undefined ? '' : (/Cpus_allowed_list:\s*(\S+)/.exec(readFileSync(`/proc/self/task/${task}/status`, 'utf8'))?.[1] ?? '')
      return list.split(',').flatMap((range) => {
        const [first, last = first] = range.split('-').filter((end) => end !== '').map(Number)
        return first === undefined ? [] : Array.from({ length: (last as number) - first + 1 }, (_, i) => first + i)
      })
    }
    const [own, relief] = [processorsOf('bd-beat'), processorsOf('bd-beat-relief')]
    if (availableParallelism() === 1) return void expect([own.length, relief.length]).toEqual([1, 0])
    expect(relief).toHaveLength(1)
    expect(own).not.toContain(relief[0])
    expect(own).toHaveLength(availableParallelism() - 1)
  })

  it('is closed promptly in the midst of a long interval, and tells its numbers afterwards', async () => {
    const beat = start(createMemory(), { intervalUs: 3.6e9 })
    await until('its beat', () => beat.beats === 1)
    beat.close()
    beat.close()
    expect([beat.beats, beat.fenced, countThreads('bd-beat'), countThreads('bd-beat-relief')]).toEqual([1, false, 0, 0])
  })

  it('goes on in pages whose memory has been closed', async () => {
    const memory = createMemory()
    const other = closing(new (memoryAddon().SharedMemory)({ path: memory.path }))
    const words = new Uint32Array(other.buffer)
    const beat = start(memory)
    await until('a beat', () => beat.beats > 0)
    memory.close()
    const before = words[16] as number
    await until('another beat', () => words[16] !== before)
    beat.close()
    expect(words[16]).toBe(beat.beats)
  })

  const memory = (): SharedMemory => createMemory()
  const refused: readonly (readonly [field: string, options: () => unknown])[] = [
    ['options', () => undefined],
    ['memory', () => ({ counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['memory', () => ({ memory: {}, counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['memory', () => ({ memory: { pages: {} }, counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['memory', () => ({ memory: new (memoryAddon().SharedMemory)({ path: memory().path, writable: false }), counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['counterOffset', () => ({ memory: memory(), fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['counterOffset', () => ({ memory: memory(), counterOffset: 2, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['counterOffset', () => ({ memory: memory(), counterOffset: 65_536, fenceOffset: 4, fenceLimit: 0, intervalUs: 1 })],
    ['fenceOffset', () => ({ memory: memory(), counterOffset: 0, fenceOffset: 65_534, fenceLimit: 0, intervalUs: 1 })],
    ['fenceLimit', () => ({ memory: memory(), counterOffset: 0, fenceOffset: 4, fenceLimit: -1, intervalUs: 1 })],
    ['intervalUs', () => ({ memory: memory(), counterOffset: 0, fenceOffset: 4, fenceLimit: 0 })],
    ['intervalUs', () => ({ memory: memory(), counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 0 })],
  ]
  it.each(refused)('refuses a wrong %s with INVALID_ARGUMENT', (field, options) => {
    const made = options()
    expectCode(() => new (memoryAddon().BeatThread)(made as BeatThreadOptions), 'INVALID_ARGUMENT', { field })
    expect(countThreads('bd-beat')).toBe(0)
  })
})

/** The `stat` line (proc(5)) of this process's thread of this name. */
function readThread(name: string): string {
  const lines = readdirSync('/proc/self/task').map((task) => readFileSync(`/proc/self/task/${task}/stat`, 'utf8'))
  return lines.find((line) => line.includes(`(${name})`)) ?? ''
}
