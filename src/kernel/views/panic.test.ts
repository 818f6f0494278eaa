import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { surviveDamage, withBytes } from '../testing/hostile-memory.js'
import { counted } from '../testing/only-our-errors.js'
import { panickedHost } from '../testing/panicked-host.js'
import type { LogEntry } from './log.js'
import { lastWords, readPanic } from './panic.js'
import { judgePanic, readPanicState, type PanicState } from './panic-state.js'

const host = await panickedHost()
const bytes = (...words: number[]): Uint8Array => new Uint8Array(Int32Array.from(words).buffer)

describe('a host that panicked', () => {
  it('says where, why, in which task, and that its other CPU stands', async () => {
    expect(await readPanic(host)).toMatchObject({
      isPanicked: true, panicCpu: 1, onlineCpus: [1], possibleCpus: [0, 1], stoppedCpus: [0], reason: 'sysrq triggered crash',
      task: { pid: 231, comm: 'sh' }, faults: [],
    })
  })

  it('gives the text of its panic as the console showed it, from its cause on', async () => {
    const { oops } = await readPanic(host)
    const console = readFileSync(new URL('../testing/recorded/console.log', import.meta.url), 'utf8').split(/\r?\n/).map((line) => line.trimEnd())
    const shown = console.slice(console.findIndex((line) => line.includes('sysrq: Trigger a crash'))).filter((line) => line !== '')
    expect(oops.map((line) => line.trimEnd())).toEqual(shown)
  })

  it('is known to a watcher by one batch', async () => {
    const { image, batches } = counted(host)
    await readPanicState(image)
    const before = batches()
    await readPanicState(image)
    expect(batches() - before).toBe(1)
  })
})

describe('panic_cpu and the masks of CPUs', () => {
  const [panicCpu, online, possible] = ['panic_cpu', '__cpu_online_mask', '__cpu_possible_mask'].map((symbol) => host.addressOf(symbol)) as [bigint, bigint, bigint]

  it('of a kernel that lives say so', async () => {
    const alive = await withBytes(await withBytes(host, panicCpu, bytes(-1)), online, bytes(3))
    expect(await readPanicState(alive)).toEqual({ panicCpu: undefined, onlineCpus: [0, 1], possibleCpus: [0, 1], stoppedCpus: [], isPanicked: false })
    expect(await readPanic(alive)).toMatchObject({ isPanicked: false, task: undefined })
  })

  it('are no panic while other CPUs run: crash_kexec sets panic_cpu for a moment', async () => {
    expect(await readPanicState(await withBytes(host, online, bytes(3)))).toMatchObject({ panicCpu: 1, isPanicked: false })
  })

  it.each<[string, bigint, Uint8Array, string]>([
    ['a CPU that the machine has not panics', panicCpu, bytes(77), 'panic_cpu'], ['a negative CPU panics', panicCpu, bytes(-2), 'panic_cpu'],
    ['a CPU is online that the machine has not', online, bytes(0, 1), '__cpu_online_mask'], ['there is no CPU', possible, bytes(0), '__cpu_possible_mask'],
  ])('are refused where %s', async (_, address, replacement, field) => {
    await expect(readPanicState(await withBytes(host, address, replacement))).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT', details: { field } })
  })

  it('and all that is known of a panic, damaged on the way, give an answer or an error', async () => {
    await surviveDamage(host, [4, 100], 300, readPanic)
  })
})

describe('that a kernel has panicked', () => {
  const alone: PanicState = { panicCpu: 0, onlineCpus: [0], possibleCpus: [0], stoppedCpus: [], isPanicked: true }

  it.each<[string, Partial<PanicState>, number, string | undefined]>([
    ['is sure as soon as another CPU was seen to stop', { possibleCpus: [0, 1], stoppedCpus: [1] }, 0, 'panic_cpu is 0, and of 2 CPUs only 0 is online'],
    ['is not while other CPUs run', { onlineCpus: [0, 1], possibleCpus: [0, 1], isPanicked: false }, 2000, undefined],
    ['is not where panic_cpu was only just seen set, and nobody stopped', {}, 999, undefined],
    ['is sure of the only CPU once panic_cpu has stayed set for the deadline', {}, 1000, 'panic_cpu is 0, and it is the only CPU'],
    ['is sure where a crash kernel left no trace of stopping, after the deadline', { possibleCpus: [0, 1, 2, 3] }, 1000, 'panic_cpu is 0, and of 4 CPUs only 0 is online'],
    ['is sure where no CPU is online any more', { onlineCpus: [], possibleCpus: [0, 1], stoppedCpus: [0, 1] }, 0, 'panic_cpu is 0, and of 2 CPUs only none is online'],
    ['is not where nobody panics', { panicCpu: undefined, isPanicked: false }, 5000, undefined],
  ])('%s', (_, state, setForUs, seen) => {
    expect(judgePanic({ ...alone, ...state }, setForUs, 1000)).toBe(seen)
  })
})

describe('last words', () => {
  const entry = (text: string, at = 0, facility = 0): LogEntry => ({ sequence: 0n, timeNs: BigInt(at) * 1_000_000_000n, level: 0, facility, caller: { cpu: 0 }, text })
  const wordsOf = (entries: LogEntry[], isPanicking = true): string[] => lastWords(entries, isPanicking).oops.map((line) => line.slice(15))

  it('begin with the oops that the panic came of, not with one before it', () => {
    const before = ['------------[ cut here ]------------', 'WARNING: CPU: 0', '---[ end trace 0 ]---', 'eth0: link up'].map((text) => entry(text))
    const last = ['BUG: kernel NULL pointer dereference', 'Oops: 0002 [#1]', 'RIP: 0010:x', '---[ end trace 1 ]---', 'Kernel panic - not syncing: Fatal exception', '---[ end Kernel panic ]---']
    expect(wordsOf([...before, ...last.map((text) => entry(text))])).toEqual(last)
    expect(lastWords(last.map((text) => entry(text)), true).reason).toBe('Fatal exception')
  })

  it('do not reach back over a pause', () => {
    expect(wordsOf([entry('BUG: soft', 1), entry('Kernel panic - not syncing: x', 60)])).toEqual(['Kernel panic - not syncing: x'])
  })

  it('are not what a program wrote into the log', () => {
    expect(lastWords([entry('Kernel panic - not syncing: a joke', 0, 1)], true)).toEqual({ reason: undefined, oops: [] })
  })

  it('of a kernel that lives on are its last oops, to its end', () => {
    expect(wordsOf(['quiet', 'Oops: 0000', 'Call Trace:', '---[ end trace 1 ]---', 'quiet'].map((text) => entry(text)), false)).toEqual(['Oops: 0000', 'Call Trace:', '---[ end trace 1 ]---'])
    expect(wordsOf([entry('quiet')], false)).toEqual([])
  })
})
