/** How often a host that lives is taken for dead, and how much patience would have spared it. */
import { join } from 'node:path'
import { availableParallelism } from 'node:os'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { Histogram } from '../../fabric/histogram.js'
import { histogramBoundUs, histogramBuckets } from '../../native/memory.js'
import { BenchChild } from './children.js'
import type { DetectSetting } from './detect.js'
import { beatIntervalUs, until, WatchedFile, withFolder } from './watched-file.js'

export interface FalseSuspicionsResult extends DetectSetting {
  readonly rounds: number
  /** Of processes that keep processors and memory busy, and of the watcher's own event loop. */
  readonly load: string
  /** Of a host that lived all the time. */
  readonly suspicions: number
  /** What would have been suspicions at other deadlines. */
  readonly curve: readonly CurvePoint[]
  /** Times that a counter moved, and the greatest of the ages that it had reached, in microseconds. */
  readonly movements: number
  readonly greatestAgeUs: number
  readonly roundTripP99Us: number
  readonly latenessP99Us: number
  readonly latenessMaxUs: number
}

export interface CurvePoint {
  readonly deadlineUs: number
  readonly suspicions: number
  readonly perMillionRounds: number
}

const sweptMib = 256

/**
 * Every age that a counter reached before it moved is counted: a deadline would have been missed once for each that is as great or
 * greater. So one run gives the whole curve. Its points are bounds of the histogram's buckets, where the count is exact.
 */
export function curveOf(ages: Histogram, rounds: number, fromUs: number): CurvePoint[] {
  const bounds = Array.from({ length: histogramBuckets }, (_, bucket) => histogramBoundUs(bucket)).filter((bound) => bound >= fromUs)
  const points = bounds.map((deadlineUs) => {
    const suspicions = ages.countFrom(deadlineUs)
    return { deadlineUs, suspicions, perMillionRounds: (suspicions / rounds) * 1e6 }
  })
  const end = points.findIndex(({ suspicions }) => suspicions === 0)
  return end < 0 ? points : points.slice(0, end + 1)
}

/** One host, which beats as a daemon does, for so many rounds of sampling. */
export async function benchFalseSuspicions({ deadlineUs, intervalUs }: DetectSetting, rounds: number, withLoad: boolean): Promise<FalseSuspicionsResult> {
  return withFolder(async (folder) => {
    const file = new WatchedFile(join(folder, 'host'))
    const children: BenchChild[] = []
    const start = async (...part: Parameters<typeof BenchChild.start>): Promise<void> => void children.push((await BenchChild.start(...part)).child)
    const busy = new BusyLoop()
    try {
      await start('host', file.path, beatIntervalUs(deadlineUs))
      const processors = availableParallelism()
      if (withLoad) for (let i = 0; i < processors; i++) await start('spin')
      if (withLoad) for (let i = 0; i < processors; i++) await start('sweep', sweptMib)
      let suspicions = 0
      const watch = file.memory.watch({ cells: [{ counterOffset: 0, deadlineUs }], intervalUs, unreachableAfterUs: 60e6 }, ({ kind }) => {
        if (kind === 'stalled') suspicions++
      })
      await until('a round', () => watch.state.rounds > 0)
      if (withLoad) busy.start()
      while (watch.state.rounds < rounds) await sleepMs(10)
      busy.stop()
      const { rounds: done, histograms, maxLatenessUs } = watch.state
      watch.close()
      const ages = histograms?.ages ?? new Histogram()
      return {
        deadlineUs, intervalUs, rounds: done, load: withLoad ? `${processors} × processor, ${processors} × ${sweptMib} MiB, the watcher's event loop` : 'none', suspicions,
        curve: curveOf(ages, done, deadlineUs / 8), movements: ages.total, greatestAgeUs: ages.quantileUs(1),
        roundTripP99Us: histograms?.roundTrips.quantileUs(0.99) ?? NaN, latenessP99Us: histograms?.lateness.quantileUs(0.99) ?? NaN, latenessMaxUs: maxLatenessUs,
      }
    } finally {
      busy.stop()
      await Promise.all(children.map((child) => child.end()))
      await file.close()
    }
  })
}

/** Keeps this process's own event loop and garbage collector at work. */
class BusyLoop {
  #running = false
  #kept: unknown[] = []

  start(): void {
    this.#running = true
    const turn = (): void => {
      if (!this.#running) return
      const untilMs = performance.now() + 20
      while (performance.now() < untilMs) {
        this.#kept.push({ text: String(this.#kept.length) })
        if (this.#kept.length > 100_000) this.#kept = []
      }
      setImmediate(turn)
    }
    setImmediate(turn)
  }

  stop(): void {
    this.#running = false
  }
}
