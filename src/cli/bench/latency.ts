/** Latency of one read at a time, by three ways of running it. */
import type { BenchRead } from './target.js'
import { checkPattern } from './pattern.js'

/**
 * `native`: a poll loop in the addon, as ib_read_lat. `synchronous`: a call of JavaScript for each read, which polls.
 * `awaited`: a promise for each read, by the completion queue's event channel.
 */
export const tiers = ['native', 'synchronous', 'awaited'] as const
export type Tier = (typeof tiers)[number]

export interface LatencySamples {
  readonly tier: Tier
  /** In bytes. */
  readonly size: number
  /** In the order they were taken, nanoseconds from each read's start to the next one's, as perftest measures. */
  readonly ns: Float64Array
  /**
   * Which of an awaited tier's reads went by the event channel, and so by a turn of the event loop: on a device that
   * is done before `run` returns, only some do.
   */
  readonly byEvent: Uint8Array
}

const none = new Uint8Array(0)
const nsPerMs = 1e6

/**
 * Warms up, measures, and checks what was read: a read of one range.
 * @returns undefined where the fabric has no such way
 * @throws Error where other bytes came than lie there
 */
export async function measureLatency(read: BenchRead, tier: Tier, iterations: number, warmUp: number): Promise<LatencySamples | undefined> {
  const view = read.views[0] as Uint8Array
  const size = view.length
  view.fill(0)
  const run = runOf(read, tier)
  if (run === undefined) return undefined
  if (warmUp > 0) await run(warmUp)
  const { ns, byEvent } = await run(iterations)
  checkPattern(view, 0, `the ${tier} tier at ${size} B`)
  return { tier, size, ns, byEvent }
}

type Run = (iterations: number) => Promise<Pick<LatencySamples, 'ns' | 'byEvent'>>

function runOf(read: BenchRead, tier: Tier): Run | undefined {
  if (tier === 'native') {
    const { latencyLoop } = read
    return latencyLoop && (async (iterations) => ({ ns: latencyLoop(iterations), byEvent: none }))
  }
  if (tier === 'awaited') return (iterations) => runAwaited(read, iterations)
  const { runSync } = read
  return runSync && (async (iterations) => ({ ns: runSynchronous(runSync, iterations), byEvent: none }))
}

function runSynchronous(run: () => void, iterations: number): Float64Array {
  const stampsMs = new Float64Array(iterations + 1)
  for (let index = 0; index < iterations; index += 1) {
    stampsMs[index] = performance.now()
    run()
  }
  stampsMs[iterations] = performance.now()
  return differencesNs(stampsMs)
}

async function runAwaited(read: BenchRead, iterations: number): Promise<Pick<LatencySamples, 'ns' | 'byEvent'>> {
  const stampsMs = new Float64Array(iterations + 1)
  const byEvent = new Uint8Array(iterations)
  for (let index = 0; index < iterations; index += 1) {
    stampsMs[index] = performance.now()
    const promise = read.start()
    if (promise !== undefined) byEvent[index] = 1
    await promise
  }
  stampsMs[iterations] = performance.now()
  return { ns: differencesNs(stampsMs), byEvent }
}

function differencesNs(stampsMs: Float64Array): Float64Array {
  const ns = new Float64Array(stampsMs.length - 1)
  for (let index = 0; index < ns.length; index += 1) ns[index] = ((stampsMs[index + 1] ?? 0) - (stampsMs[index] ?? 0)) * nsPerMs
  return ns
}
