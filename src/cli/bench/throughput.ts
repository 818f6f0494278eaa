/** Many reads at once by `readMany`: message rate and bandwidth. */
import type { MemoryRange, RemoteMemory } from '../../fabric/remote-memory.js'
import { checkPattern } from './pattern.js'
import { patternLength } from './target.js'

export interface ThroughputPlan {
  /** Of each read, in bytes. */
  readonly size: number
  /** Reads in each call. */
  readonly reads: number
  readonly calls: number
  /** Calls under way at once, so that the wire is not idle while results are handed out. */
  readonly callsAtOnce: number
}

/** 64 × 64 B, as sessions' index entries are read. */
export const ratePlan = { size: 64, reads: 64, callsAtOnce: 2 } as const
/** 64 KiB reads, 4 in each call, as a pooled buffer holds them: 1 MiB is asked for at any time. */
export const bandwidthPlan = { size: 65536, reads: 4, callsAtOnce: 4 } as const

export interface Throughput extends ThroughputPlan {
  readonly readsPerSecond: number
  /** 10^6 bytes a second. */
  readonly megabytesPerSecond: number
  /** Nanoseconds between the ends of successive calls, for each read of the call. */
  readonly nsPerRead: Float64Array
}

const nsPerMs = 1e6
const msPerSecond = 1000

/** @throws Error where other bytes came than lie there */
export async function measureThroughput(memory: RemoteMemory, plan: ThroughputPlan, warmUpCalls: number): Promise<Throughput> {
  const ranges = Array.from({ length: plan.reads }, (_, index): MemoryRange => ({ offset: (index * plan.size) % patternLength, length: plan.size }))
  if (warmUpCalls > 0) await callMany(memory, ranges, { ...plan, calls: warmUpCalls })
  const { stampsMs, last } = await callMany(memory, ranges, plan)
  ranges.forEach(({ offset }, index) => checkPattern(last[index] ?? new Uint8Array(0), offset, `readMany of ${plan.size} B`))
  const elapsedMs = (stampsMs[plan.calls] ?? 0) - (stampsMs[0] ?? 0)
  const readsPerSecond = (plan.reads * plan.calls * msPerSecond) / elapsedMs
  const nsPerRead = new Float64Array(plan.calls)
  for (let call = 0; call < plan.calls; call += 1) nsPerRead[call] = (((stampsMs[call + 1] ?? 0) - (stampsMs[call] ?? 0)) * nsPerMs) / plan.reads
  return { ...plan, readsPerSecond, megabytesPerSecond: (readsPerSecond * plan.size) / 1e6, nsPerRead }
}

async function callMany(memory: RemoteMemory, ranges: readonly MemoryRange[], { calls, callsAtOnce }: ThroughputPlan): Promise<{ stampsMs: Float64Array; last: Uint8Array[] }> {
  const stampsMs = new Float64Array(calls + 1)
  let started = 0
  let ended = 0
  let last: Uint8Array[] = []
  const keepCalling = async (): Promise<void> => {
    while (started < calls) {
      started += 1
      last = await memory.readMany(ranges)
      ended += 1
      stampsMs[ended] = performance.now()
    }
  }
  stampsMs[0] = performance.now()
  await Promise.all(Array.from({ length: callsAtOnce }, keepCalling))
  return { stampsMs, last }
}
