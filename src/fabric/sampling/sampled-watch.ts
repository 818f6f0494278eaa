/** A watch by a native sampler. */
import { histogramBuckets, samplerCellFields, samplerHeadFields } from '../../native/memory.js'
import { Histogram } from '../histogram.js'
import type { CellState, Watch, WatchEvent, WatchHistograms, WatchPlan, WatchState } from '../remote-memory.js'
import type { SampledPlan, SharedSampler } from './shared-sampler.js'

export interface WatchSource<Source extends readonly unknown[]> {
  readonly sampler: SharedSampler<Source>
  /** Checks a plan, and makes what reads its cells; `close` lets go of that. */
  sample(plan: WatchPlan): SampledPlan<Source> & { close?(): void }
  /** The memory forgets the watch. */
  closed(watch: Watch): void
}

const noHistograms = unpackHistograms(new Float64Array(3 * histogramBuckets))

const before: WatchState = {
  cells: [],
  reachable: true,
  rounds: 0,
  failedRounds: 0,
  maxLatenessUs: 0,
  lastRoundTripUs: 0,
  meanRoundTripUs: 0,
  histograms: noHistograms,
}

export class SampledWatch<Source extends readonly unknown[]> implements Watch {
  readonly #source: WatchSource<Source>
  readonly #target: number
  #sampled: SampledPlan<Source> & { close?(): void }
  #last: WatchState = before
  #closed = false

  /** @throws BackdoorsError what checking the plan throws */
  constructor(source: WatchSource<Source>, plan: WatchPlan, listener: (event: WatchEvent) => void) {
    this.#source = source
    this.#sampled = source.sample(plan)
    this.#target = source.sampler.add(this.#sampled, listener)
  }

  get state(): WatchState {
    const packed = this.#source.sampler.state(this.#target)
    const counts = this.#source.sampler.histograms(this.#target)
    if (packed !== undefined && counts !== undefined) this.#last = unpackState(packed, unpackHistograms(counts))
    return this.#last
  }

  update(plan: WatchPlan): void {
    if (this.#closed) return
    const next = this.#source.sample(plan)
    this.#source.sampler.update(this.#target, next)
    // A read of the old plan may be under way: the native sampler holds what it needs until that is over.
    this.#sampled.close?.()
    this.#sampled = next
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#last = this.state
    this.#source.sampler.remove(this.#target)
    this.#sampled.close?.()
    this.#source.closed(this)
  }
}

function unpackState(packed: Float64Array, histograms: WatchHistograms): WatchState {
  const [reachable = 0, rounds = 0, failedRounds = 0, maxLatenessUs = 0, lastRoundTripUs = 0, meanRoundTripUs = 0] = packed
  const cells: CellState[] = []
  for (let at = samplerHeadFields; at < packed.length; at += samplerCellFields) {
    const [counter = 0, pending = 0, ageUs = 0, stalled = 0] = packed.subarray(at, at + samplerCellFields)
    cells.push({ counter, pending, ageUs, stalled: stalled !== 0 })
  }
  return { cells, reachable: reachable !== 0, rounds, failedRounds, maxLatenessUs, lastRoundTripUs, meanRoundTripUs, histograms }
}

function unpackHistograms(counts: Float64Array): WatchHistograms {
  const part = (index: number): Histogram => new Histogram(counts.subarray(index * histogramBuckets, (index + 1) * histogramBuckets))
  return { roundTrips: part(0), lateness: part(1), ages: part(2) }
}
