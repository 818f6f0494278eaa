import { describe, expect, it } from 'vitest'
import { judgePulse, type PulseKind } from './judge-pulse.js'
import type { CpuPulse, Pulse } from './pulse.js'

const second = 1_000_000
const deadlineUs = second
const ns = (seconds: number): bigint => BigInt(Math.round(seconds * 1000)) * 1_000_000n

interface Told extends Partial<Omit<Pulse, 'cpus' | 'panic'>> {
  readonly cpus?: readonly Partial<CpuPulse>[]
  readonly panic?: Partial<Pulse['panic']>
}

/** A kernel 100 s after its start, on two CPUs that idle without a timer. */
function pulse(atSeconds: number, { cpus = [{}, {}], panic, ...rest }: Told = {}): Pulse {
  return {
    atUs: atSeconds * second, jiffies: 1000n, kernelTimeNs: ns(100), ...rest,
    panic: { panicCpu: undefined, onlineCpus: cpus.map((_, i) => i), possibleCpus: [0, 1], stoppedCpus: [], isPanicked: false, ...panic },
    cpus: cpus.map((cpu, i) => ({ cpu: i, isIdle: true, isTickStopped: true, nextEventNs: undefined, counters: [5n, 6n], ...cpu })),
  }
}

/** The same kernel, read at each of the times. */
const still = (told: Told, ...times: number[]): Pulse[] => times.map((at) => pulse(at, told))
const kindOf = (pulses: readonly Pulse[], nowUs = pulses.at(-1)?.atUs ?? 0): PulseKind => judgePulse(pulses, { nowUs, deadlineUs }).kind
const busy = { isIdle: false, isTickStopped: false, nextEventNs: ns(100.004) }

describe('a kernel of which nothing moves', () => {
  it.each<[string, PulseKind, Told, number]>([
    ['is alive until the deadline is over', 'alive', { cpus: [busy, {}] }, 1],
    ['is stalled where a CPU is busy', 'stalled', { cpus: [busy, {}] }, 1.1],
    ['is stalled where a CPU has one task to itself (nohz_full)', 'stalled', { cpus: [{}, { isIdle: false, isTickStopped: true }] }, 1.1],
    ['is stalled where an idle CPU has its tick on', 'stalled', { cpus: [{ isTickStopped: false }, {}] }, 1.1],
    ['is stalled where no CPU is online', 'stalled', { cpus: [] }, 1.1],
    ['is idle where all CPUs are, and no timer is set', 'idle', {}, 100_000],
    ['is idle until the first of its timers is due', 'idle', { cpus: [{ nextEventNs: ns(160) }, { nextEventNs: ns(5000) }] }, 59],
    ['is idle while its timer is late, but not by the deadline', 'idle', { cpus: [{ nextEventNs: ns(160) }, {}] }, 60.9],
    ['is idle while its timer is late by no more than clocks differ', 'idle', { cpus: [{ nextEventNs: ns(160) }, {}] }, 61.05],
    ['is stalled when its timer is late by more than the deadline', 'stalled', { cpus: [{ nextEventNs: ns(160) }, {}] }, 61.2],
    ['is stalled when a timer was due before the first look', 'stalled', { cpus: [{}, { nextEventNs: ns(99.5) }] }, 1.1],
    ['is idle where it does not say whether ticks are stopped, and no timer is due', 'idle', { cpus: [{ isTickStopped: undefined }] }, 5],
  ])('%s', (_, kind, told, elapsed) => {
    expect(kindOf(still(told, 0, elapsed / 2, elapsed))).toBe(kind)
  })

  it('says what condemns it', () => {
    expect(judgePulse(still({ cpus: [{}, busy] }, 0, 3), { nowUs: 3 * second, deadlineUs }).seen).toBe('nothing has moved for 3000000 µs (deadline 1000000 µs), and CPU 1 is busy')
    expect(judgePulse(still({ cpus: [{}, { nextEventNs: ns(101) }] }, 0, 3), { nowUs: 3 * second, deadlineUs }).seen).toContain('a timer of CPU 1 is 2000000 µs overdue')
  })

  it('is condemned only by a pulse that is not itself older than the deadline', () => {
    expect(kindOf(still({ cpus: [busy] }, 0, 2), 2.5 * second)).toBe('stalled')
    expect(kindOf(still({ cpus: [busy] }, 0, 2), 3.5 * second)).toBe('alive')
  })

  it('is not condemned by the first pulse, or by a watcher whose clock stands or goes back', () => {
    expect(kindOf([pulse(500, { cpus: [busy] })])).toBe('alive')
    expect(kindOf(still({ cpus: [busy] }, 7, 7))).toBe('alive')
    expect(kindOf(still({ cpus: [busy] }, 7, 3))).toBe('alive')
    expect(kindOf([])).toBe('alive')
  })
})

describe('a kernel that moves', () => {
  it.each<[string, Told]>([
    ['jiffies', { jiffies: 1001n }], ['jiffies that wrap', { jiffies: 0n }], ['its clock', { kernelTimeNs: ns(100.004) }], ['its clock, set back', { kernelTimeNs: 0n }],
    ['its clock, set on by a year', { kernelTimeNs: ns(31_536_000) }], ['a counter', { cpus: [busy, { counters: [5n, 7n] }] }], ['a counter that wraps', { cpus: [busy, { counters: [5n, 0n] }] }],
    ['the next event of a timer', { cpus: [{ ...busy, nextEventNs: ns(101) }, {}] }], ['a CPU from idle to busy', { cpus: [busy, { isIdle: false }] }], ['a CPU that goes offline', { cpus: [busy] }],
  ])('is alive by %s', (_, told) => {
    const history = still({ cpus: [busy, {}] }, 0, 5)
    expect(kindOf([...history, pulse(6, { cpus: [busy, {}], ...told })])).toBe('alive')
  })

  it('is alive however late its timers are: a virtual machine that was paused goes on with old ones', () => {
    expect(kindOf([pulse(0), pulse(100, { kernelTimeNs: ns(900), cpus: [{ nextEventNs: ns(200) }] })])).toBe('alive')
  })

  it('has its deadline begin anew with each move, with two pulses kept', () => {
    let history: Pulse[] = []
    const kinds: PulseKind[] = []
    for (let at = 0; at < 10; at += 0.5) {
      const moves = at < 4 ? Math.floor(at / 0.8) : 5
      const judged = judgePulse([...history, pulse(at, { jiffies: BigInt(moves), cpus: [busy] })], { nowUs: at * second, deadlineUs })
      expect(judged.history.length).toBeLessThanOrEqual(2)
      history = judged.history
      kinds.push(judged.kind)
    }
    expect(kinds.lastIndexOf('alive')).toBe(10)
    expect(kinds.slice(11)).toEqual(Array<PulseKind>(9).fill('stalled'))
  })
})

it('a kernel of which somebody panics is judged as any other: what panic_cpu proves is asked of judgePanic', () => {
  const panicking = { panicCpu: 0, onlineCpus: [0], stoppedCpus: [1], isPanicked: true }
  expect(kindOf([pulse(0), pulse(2, { cpus: [busy], panic: panicking })])).toBe('alive')
  expect(kindOf(still({ cpus: [busy], panic: panicking }, 0, 2))).toBe('stalled')
})
