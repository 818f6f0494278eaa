/** `backdoors bench read-latency`: what is measured, and the figures that come of it. */
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import { measureLatency, tiers, type LatencySamples, type Tier } from './latency.js'
import { openShmTarget } from './shm-target.js'
import { distributionOf, perftestRowOf, sorted, type Distribution, type PerftestRow } from './statistics.js'
import { patternLength, type BenchTarget } from './target.js'
import { bandwidthPlan, copiedBandwidthPlan, measureThroughput, ratePlan, type Throughput, type ThroughputPlan } from './throughput.js'

export interface ReadLatencyOptions {
  /** In bytes. */
  readonly sizes: readonly number[]
  readonly iterations: number
}

export interface LatencyFigures {
  readonly tier: Tier
  readonly size: number
  /** All samples, in microseconds. */
  readonly us: Distribution
  readonly perftestUs: PerftestRow
  /** Of an awaited tier: those that went by the event channel. Null where none did, and for other tiers. */
  readonly byEventUs: Distribution | null
}

export interface ThroughputFigures extends ThroughputPlan {
  readonly readsPerSecond: number
  readonly megabytesPerSecond: number
  readonly nsPerRead: Distribution
}

export interface MeasuredLatency {
  readonly figures: LatencyFigures
  /** Nanoseconds, in the order they were taken, and in ascending order. */
  readonly ns: Float64Array
  readonly ascendingNs: Float64Array
}

export interface ReadLatencyResult {
  readonly latency: readonly MeasuredLatency[]
  /** Message rate, bandwidth, and bandwidth with a copy for the caller. */
  readonly throughput: readonly ThroughputFigures[]
}

const usPerNs = 1e-3
/** A tenth of the iterations goes before, unmeasured: caches, translations and the compiler of JavaScript settle in it. */
const warmUpOf = (iterations: number): number => Math.ceil(iterations / 10)
/** Calls of readMany for so many reads of the latency's: a call of 64 reads takes as long as many. */
const callsOf = (iterations: number): number => Math.max(Math.ceil(iterations / 50), 2)

export type Fabric = 'auto' | 'verbs' | 'shm'

/** Why auto falls back to shm: there is nothing to measure verbs on. */
const absences = ['VERBS_UNAVAILABLE', 'DEVICE_NOT_FOUND', 'NO_USABLE_GID'] as const

/** @returns the target, and, where auto has fallen back to shm, why */
export async function openTarget(fabric: Fabric, options: { device?: string; apart?: boolean }): Promise<{ target: BenchTarget; fallback?: string }> {
  if (fabric === 'shm') return { target: openShmTarget() }
  try {
    const { openVerbsTarget } = await import('./verbs-target.js')
    return { target: await openVerbsTarget(options) }
  } catch (error) {
    // A device that was named is wanted, not just any measurement.
    if (fabric === 'verbs' || options.device !== undefined || !isBackdoorsError(error, ...absences)) throw error
    return { target: openShmTarget(), fallback: error.message }
  }
}

export function checkSizes(sizes: readonly number[]): void {
  const wrong = sizes.find((size) => !Number.isInteger(size) || size < 1 || size > patternLength)
  if (wrong !== undefined) throw new BackdoorsError('INVALID_ARGUMENT', `--sizes: each is a whole number from 1 to ${patternLength} bytes`, { field: '--sizes' })
}

/** Everything on one target; `log` hears of each measurement as it begins. */
export async function measureReadLatency(target: BenchTarget, { sizes, iterations }: ReadLatencyOptions, log: (what: string) => void): Promise<ReadLatencyResult> {
  checkSizes(sizes)
  const latency: MeasuredLatency[] = []
  for (const size of sizes) {
    const read = target.prepare([{ offset: 0, length: size }])
    try {
      for (const tier of tiers) {
        log(`${size} B, ${tier}`)
        const samples = await measureLatency(read, tier, iterations, warmUpOf(iterations))
        if (samples !== undefined) latency.push(figuresOf(samples))
      }
    } finally {
      read.close()
    }
  }
  const throughput: ThroughputFigures[] = []
  for (const plan of [ratePlan, bandwidthPlan, copiedBandwidthPlan]) {
    log(`${plan.by}: ${plan.reads} × ${plan.size} B`)
    throughput.push(throughputFiguresOf(await measureThroughput(target, { ...plan, calls: callsOf(iterations) }, 2)))
  }
  return { latency, throughput }
}

function figuresOf({ tier, size, ns, byEvent }: LatencySamples): MeasuredLatency {
  const ascendingNs = sorted(ns)
  const events = ns.filter((_, index) => byEvent[index] === 1)
  return {
    ns,
    ascendingNs,
    figures: {
      tier,
      size,
      us: distributionOf(ascendingNs, usPerNs),
      perftestUs: perftestRowOf(ascendingNs, usPerNs),
      byEventUs: events.length === 0 ? null : distributionOf(sorted(events), usPerNs),
    },
  }
}

const throughputFiguresOf = ({ nsPerRead, ...rest }: Throughput): ThroughputFigures => ({ ...rest, nsPerRead: distributionOf(sorted(nsPerRead)) })
