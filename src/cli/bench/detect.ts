/** How long it takes until a dead process is known to be dead. */
import { join } from 'node:path'
import { setTimeout as sleepMs } from 'node:timers/promises'
import type { Histogram } from '../../fabric/histogram.js'
import type { Watch, WatchEvent, WatchHistograms } from '../../fabric/remote-memory.js'
import { memoryAddon } from '../../native/load.js'
import { BenchChild } from './children.js'
import { distributionOf, sorted, type Distribution } from './statistics.js'
import { beatIntervalUs, roundsMore, until, WatchedFile, withFolder } from './watched-file.js'

export interface DetectSetting {
  readonly deadlineUs: number
  readonly intervalUs: number
}

export interface DetectRow extends DetectSetting {
  /** From the return of `kill` to the read that condemned the process, in microseconds. */
  readonly verdictUs: Distribution
  /** The same until the event loop heard of it. */
  readonly heardUs: Distribution
  /** What was taken for dead before it was killed; such trials are not among the others, and made once more. */
  readonly tooEarly: number
  /** How long the calls of `kill` took: the process died at some moment of that time. */
  readonly killUs: Distribution
  /** Whose call of `kill` took longer than half a deadline: nobody knows when the process died. They are not among the others either, and made once more. */
  readonly unclear: number
  /** Of the sampling meanwhile; a histogram's bound, a quarter too high at most. */
  readonly roundTripP99Us: number
  /** By how much the sampler's thread was late from the kill to the verdict, in all: the 99th percentile of the trials. Such time is in the verdict. */
  readonly delayP99Us: number
  readonly goalP50Us: number
  readonly goalP99Us: number
}

export interface DetectResult {
  readonly row: DetectRow
  /** Of every trial, in ascending order, from the kill to the verdict, in microseconds. */
  readonly verdictsUs: Float64Array
}

export const defaultDetectSettings: readonly DetectSetting[] = [
  { deadlineUs: 1000, intervalUs: 100 },
  { deadlineUs: 2000, intervalUs: 200 },
  { deadlineUs: 5000, intervalUs: 500 },
  { deadlineUs: 20_000, intervalUs: 1000 },
]

/** The host has beaten for so long before it is killed, in milliseconds: longer than its start disturbs the machine. */
const settleMs = 20
/** Lateness up to this is nobody's: the sampler does not make up for it either (`kJitterNs` in addon/common/sampler.cc). */
const jitterUs = 100

/** For each trial wanted, so many processes are killed at most: where hardly any tells anything, it ends all the same. */
const attemptsPerTrial = 4

interface Trial {
  readonly verdictUs: number
  readonly heardUs: number
  readonly killUs: number
  readonly delayUs: number
}

/** How many trials told nothing, and why. */
export type Missed = Pick<DetectRow, 'tooEarly' | 'unclear'>

/**
 * Tries until so many trials tell something, four times as often at most.
 * @returns those that do, and how many of the others there were
 */
export async function clearTrials<T extends object>(wanted: number, attempt: () => Promise<T | keyof Missed>): Promise<{ done: T[]; missed: Missed }> {
  const done: T[] = []
  const missed = { tooEarly: 0, unclear: 0 }
  for (let attempts = 0; done.length < wanted && attempts < wanted * attemptsPerTrial; attempts++) {
    const trial = await attempt()
    if (typeof trial === 'string') missed[trial]++
    else done.push(trial)
  }
  return { done, missed }
}

/** One setting, in so many trials that tell something. Each has a process of its own, which beats the same counter. */
export async function benchDetect({ deadlineUs, intervalUs }: DetectSetting, trials: number): Promise<DetectResult> {
  return withFolder(async (folder) => {
    const file = new WatchedFile(join(folder, 'host'))
    const listeners = new Set<(event: WatchEvent, heardUs: number) => void>()
    const addon = memoryAddon()
    let watch: Watch | undefined
    try {
      watch = file.memory.watch({ cells: [{ counterOffset: 0, deadlineUs }], intervalUs, unreachableAfterUs: 60e6 }, (event) => {
        const heardUs = addon.monotonicUs()
        for (const listener of listeners) listener(event, heardUs)
      })
      const running = watch
      const { done, missed } = await clearTrials(trials, async () => {
        const host = await startHost(file, deadlineUs)
        return await kill(host, running, listeners, { deadlineUs, intervalUs }).finally(() => host.end())
      })
      const row = rowOf({ deadlineUs, intervalUs }, done, missed, watch.state.histograms?.roundTrips)
      return { row, verdictsUs: sorted(Float64Array.from(done, ({ verdictUs }) => verdictUs)) }
    } finally {
      watch?.close()
      await file.close()
    }
  })
}

async function startHost(file: WatchedFile, deadlineUs: number): Promise<BenchChild> {
  return (await BenchChild.start('host', file.path, beatIntervalUs(deadlineUs))).child
}

/** @returns why it tells nothing, where it does not: the host was taken for dead while it lived, or its death took too long */
async function kill(host: BenchChild, watch: Watch, listeners: Set<(event: WatchEvent, heardUs: number) => void>, { deadlineUs, intervalUs }: DetectSetting): Promise<Trial | keyof Missed> {
  const before = watch.state.cells[0]?.counter
  await until('a beat', () => watch.state.cells[0]?.counter !== before && watch.state.cells[0]?.stalled === false)
  await sleepMs(settleMs)
  await roundsMore(watch, 2)
  let heard: (verdict: { atUs: number; heardUs: number }) => void = () => undefined
  const verdict = new Promise<{ atUs: number; heardUs: number }>((resolve) => (heard = resolve))
  const listener = (event: WatchEvent, heardUs: number): void => {
    if (event.kind === 'stalled') heard({ atUs: event.atUs, heardUs })
  }
  listeners.add(listener)
  try {
    // At any moment between two reads.
    spin(Math.random() * intervalUs)
    const { cells, histograms: before } = watch.state
    if (cells[0]?.stalled !== false) return 'tooEarly'
    const { calledUs, returnedUs } = host.kill()
    const { atUs, heardUs } = await verdict
    if (atUs < calledUs) return 'tooEarly'
    const killUs = returnedUs - calledUs
    if (killUs > deadlineUs / 2) return 'unclear'
    return { verdictUs: atUs - returnedUs, heardUs: heardUs - returnedUs, killUs, delayUs: delayOf(before, watch.state.histograms) }
  } finally {
    listeners.delete(listener)
  }
}

/** What the thread was late by between two states, in microseconds, without what any schedule's jitter is. */
function delayOf(before: WatchHistograms | undefined, after: WatchHistograms | undefined): number {
  if (before === undefined || after === undefined) return NaN
  return after.lateness.since(before.lateness).filled().reduce((sum, { belowUs, count }) => sum + (belowUs > jitterUs ? belowUs * count : 0), 0)
}

function spin(us: number): void {
  const addon = memoryAddon()
  const untilUs = addon.monotonicUs() + us
  while (addon.monotonicUs() < untilUs);
}

function rowOf({ deadlineUs, intervalUs }: DetectSetting, trials: readonly Trial[], missed: Missed, roundTrips: Histogram | undefined): DetectRow {
  const of = (pick: (trial: Trial) => number): Distribution => distributionOf(sorted(Float64Array.from(trials, pick)))
  const roundTripP99Us = roundTrips?.quantileUs(0.99) ?? NaN
  const delayP99Us = of(({ delayUs }) => delayUs).p99
  return {
    deadlineUs, intervalUs, verdictUs: of(({ verdictUs }) => verdictUs), heardUs: of(({ heardUs }) => heardUs), killUs: of(({ killUs }) => killUs), ...missed, roundTripP99Us, delayP99Us,
    goalP50Us: deadlineUs + intervalUs, goalP99Us: deadlineUs + 2 * intervalUs + roundTripP99Us + delayP99Us,
  }
}
