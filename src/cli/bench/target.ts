/** What is measured: memory that is read through a fabric, and reads that are prepared on it. */
import type { MemoryRange, RemoteMemory } from '../../fabric/remote-memory.js'

/** A prepared read, as far as the fabric offers each way of running it. */
export interface BenchRead {
  /** One for each range. */
  readonly views: readonly Uint8Array[]
  /** Nanoseconds from each run's start to the next one's. */
  readonly latencyLoop?: (iterations: number) => Float64Array
  readonly runSync?: () => void
  /** Undefined where the read was over before it returned. */
  readonly start: () => Promise<void> | undefined
  readonly close: () => void
}

/** Its memory is filled by the pattern from its first byte on. */
export interface BenchTarget {
  readonly fabric: 'verbs' | 'shm'
  readonly device: string
  /** Who answers, in words. */
  readonly responder: string
  readonly memory: RemoteMemory
  readonly prepare: (ranges: readonly MemoryRange[]) => BenchRead
  close(): Promise<void>
}

/** In bytes: as many 64 KiB reads as a queue pair has outstanding. */
export const patternLength = 1 << 20
/** The pattern, and a page that stands for a region's control page. */
export const targetLength = patternLength + 4096
export const controlRange = { offset: patternLength, length: 4096 } as const
