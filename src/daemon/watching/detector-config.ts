/** The detector's part of the configuration: what is measured, what its limits are, and what is told when. */
import { z } from 'zod'
import type { ConditionRule } from '../../monitor/conditions.js'
import type { FlappingRule } from '../../monitor/flapping.js'

const part = z.number().gt(0).max(1)
const percent = z.number().gt(0).max(100)
const positive = z.number().gt(0).max(1e9)

/** What the daemon measures of this machine and of the servers on it. */
export const sensorsSchema = z.strictObject({
  enabled: z.boolean().default(true),
  intervalMs: z.number().min(50).max(3_600_000).default(1000),
  /** Past these, peers report the condition `pressure`. */
  limits: z.strictObject({
    /** Parts of the machine's memory, and of its table of open files. */
    memory: part.default(0.95),
    openFiles: part.default(0.9),
    /** Tasks that run or wait to, for each CPU: just now, and over the last minute. */
    runnablePerCpu: positive.default(8),
    loadPerCpu: positive.default(4),
    /** Of the last ten seconds, how much some task stalled for want of it, in percent (`/proc/pressure`). */
    cpuStallPercent: percent.default(90),
    memoryStallPercent: percent.default(20),
    ioStallPercent: percent.default(80),
    /** Of a server: parts of the memory that it may have, and of its limit of open files. */
    serverMemory: part.default(0.9),
    serverFiles: part.default(0.9),
    /** Connections of a server that wait to be accepted. */
    acceptQueue: positive.default(128),
  }).prefault({}),
})

export type SensorsConfig = z.output<typeof sensorsSchema>

export const flappingSchema = z.strictObject({
  /** More changes between alive and not than this within the window: it flaps, and telling is held down. */
  flips: z.number().int().min(1).max(1000).default(6),
  windowMs: z.number().min(100).max(86_400_000).default(60_000),
  holdMs: z.number().min(10).max(3_600_000).default(1000),
  longestHoldMs: z.number().min(10).max(86_400_000).default(60_000),
})

export const conditionsSchema = z.strictObject({
  /** A sensor that is past its limit for so long is told; it is over when it is well below (90%) for so long. */
  raiseAfterMs: z.number().min(0).max(3_600_000).default(2000),
  clearAfterMs: z.number().min(0).max(3_600_000).default(5000),
})

const clearBelow = 0.9

export const conditionRule = ({ raiseAfterMs, clearAfterMs }: z.output<typeof conditionsSchema>): ConditionRule => ({
  raiseAfterUs: raiseAfterMs * 1000, clearAfterUs: clearAfterMs * 1000, clearBelow,
})

export const flappingRule = ({ flips, windowMs, holdMs, longestHoldMs }: z.output<typeof flappingSchema>): FlappingRule => ({
  flips, windowUs: windowMs * 1000, holdUs: holdMs * 1000, longestHoldUs: longestHoldMs * 1000,
})
