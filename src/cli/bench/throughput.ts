/** Many reads at once: message rate and bandwidth. */
import type { MemoryRange } from '../../fabric/remote-memory.js'
import { checkPattern } from './pattern.js'
import { patternLength, type BenchTarget } from './target.js'

export interface ThroughputPlan {
  /** `readMany` hands out bytes of the caller's own; `prepared` reads into the same registered buffers again and again. */
  readonly by: 'readMany' | 'prepared'
  /** Of each read, in bytes. */
  readonly size: number
  /** Reads in each call. */
  readonly reads: number
  readonly calls: number
  /** Calls under way at once, so that the wire is not idle while results are handed out. */
  readonly callsAtOnce: number
}

/** 64 × 64 B, as sessions' index entries are read. */
export const ratePlan = { by: 'readMany', size: 64, reads: 64, callsAtOnce: 2 } as const
/** 64 KiB reads, 4 in each call: 1 MiB is asked for at any time. As ib_read_bw, nothing is copied. */
export const bandwidthPlan = { by: 'prepared', size: 65536, reads: 4, callsAtOnce: 4 } as const
/** The same with a copy for the caller, as sessions are extracted. */
export const copiedBandwidthPlan = { ...bandwidthPlan, by: 'readMany' } as const

export interface Throughput extends ThroughputPlan {
  readonly readsPerSecond: number
  /** 10^6 bytes a second. */
  readonly megabytesPerSecond: number
  /** Nanoseconds between the ends of successive calls, for each read of the call. */
  readonly nsPerRead: Float64Array
}

const nsPerMs = 1e6
const msPerSecond = 1000

/** What one of the calls under way runs again and again. @returns what it read */
interface Lane {
  readonly call: () => Promise<readonly Uint8Array[]> | readonly Uint8Array[]
  readonly close: () => void
}

function laneOf({ memory, prepare }: BenchTarget, by: ThroughputPlan['by'], ranges: readonly MemoryRange[]): Lane {
  if (by === 'readMany') return { call: () => memory.readMany(ranges), close: () => undefined }
  const read = prepare(ranges)
  return {
    call: () => {
      const running = read.start()
      return running === undefined ? read.views : running.then(() => read.views)
    },
    close: () => read.close(),
  }
}

/** @throws Error where other bytes came than lie there */
export async function measureThroughput(target: BenchTarget, plan: ThroughputPlan, warmUpCalls: number): Promise<Throughput> {
  const ranges = Array.from({ length: plan.reads }, (_, index): MemoryRange => ({ offset: (index * plan.size) % patternLength, length: plan.size }))
  const lanes = Array.from({ length: plan.callsAtOnce }, () => laneOf(target, plan.by, ranges))
  try {
    if (warmUpCalls > 0) await callMany(lanes, warmUpCalls)
    const { stampsMs, last } = await callMany(lanes, plan.calls)
    ranges.forEach(({ offset }, index) => checkPattern(last[index] ?? new Uint8Array(0), offset, `${plan.by} of ${plan.size} B`))
    const elapsedMs = (stampsMs[plan.calls] ?? 0) - (stampsMs[0] ?? 0)
    const readsPerSecond = (plan.reads * plan.calls * msPerSecond) / elapsedMs
    const nsPerRead = new Float64Array(plan.calls)
    for (let call = 0; call < plan.calls; call += 1) nsPerRead[call] = (((stampsMs[call + 1] ?? 0) - (stampsMs[call] ?? 0)) * nsPerMs) / plan.reads
    return { ...plan, readsPerSecond, megabytesPerSecond: (readsPerSecond * plan.size) / 1e6, nsPerRead }
  } finally {
    for (const { close } of lanes) close()
  }
}

async function callMany(lanes: readonly Lane[], calls: number): Promise<{ stampsMs: Float64Array; last: readonly Uint8Array[] }> {
  const stampsMs = new Float64Array(calls + 1)
  let started = 0
  let ended = 0
  let last: readonly Uint8Array[] = []
  const keepCalling = async ({ call }: Lane): Promise<void> => {
    while (started < calls) {
      started += 1
      const result = call()
      last = result instanceof Promise ? await result : result
      ended += 1
      stampsMs[ended] = performance.now()
    }
  }
  stampsMs[0] = performance.now()
  await Promise.all(lanes.map(keepCalling))
  return { stampsMs, last }
}
