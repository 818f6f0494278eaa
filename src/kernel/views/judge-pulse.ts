/** Does a kernel go on? A pure function of the pulses that were read of it. Whether it has panicked is judged by `judgePanic`. */
import type { CpuPulse, Pulse } from './pulse.js'

/**
 * - `alive`: something has moved within the deadline.
 * - `idle`: nothing has, and nothing has to: every CPU that is online idles with its tick stopped, and no timer is overdue.
 * - `stalled`: a CPU is busy or a timer is overdue, and nothing has moved for longer than the deadline.
 */
export type PulseKind = 'alive' | 'idle' | 'stalled'

export interface JudgedPulse {
  readonly kind: PulseKind
  /** What that was concluded from. */
  readonly seen: string
  /** What the next judgement has to know: give it with the next pulse behind. Two pulses at most. */
  readonly history: Pulse[]
}

export interface JudgeOptions {
  /** The watcher's monotonic clock. */
  readonly nowUs: number
  readonly deadlineUs: number
}

/** The clocks of two machines go apart by less than one part in so many. */
const clockPrecision = 1000

/**
 * Judges the last of some pulses. No duration comes from the watched machine: its clock is only compared with its own timers, and
 * is taken to have gone on since it was last read as the watcher's did. It has gone on for longer: so a timer is
 * never called overdue too early.
 *
 * @param pulses in the order they were read; the last one is judged
 * @param options `nowUs` is when it is judged: a pulse that is itself older than the deadline condemns nobody
 */
export function judgePulse(pulses: readonly Pulse[], { nowUs, deadlineUs }: JudgeOptions): JudgedPulse {
  const last = pulses.at(-1)
  if (last === undefined) return { kind: 'alive', seen: 'no pulse has been read yet', history: [] }
  const since = firstAlike(pulses, last)
  const history = since === last ? [last] : [since, last]
  const quietUs = Math.max(0, last.atUs - since.atUs)
  const quiet = `nothing has moved for ${Math.round(quietUs)} µs (deadline ${deadlineUs} µs)`
  if (quietUs <= deadlineUs) return { kind: 'alive', seen: pulses.length < 2 ? 'its first pulse' : 'its clocks and counters move', history }
  if (nowUs - last.atUs > deadlineUs) return { kind: 'alive', seen: `its last pulse was read ${Math.round(nowUs - last.atUs)} µs ago`, history }
  const reason = stallReason(last, quietUs, deadlineUs)
  if (reason !== undefined) return { kind: 'stalled', seen: `${quiet}, and ${reason}`, history }
  return { kind: 'idle', seen: `every CPU is idle, and no timer is due`, history }
}

/** The first of the pulses at the end that are all alike. */
function firstAlike(pulses: readonly Pulse[], last: Pulse): Pulse {
  const mark = markOf(last)
  let first = last
  for (let i = pulses.length - 2; i >= 0; i--) {
    const pulse = pulses[i] as Pulse
    if (markOf(pulse) !== mark) break
    first = pulse
  }
  return first
}

/** All that moves. Only whether it is the same counts, so that numbers may wrap and clocks may jump. */
function markOf({ jiffies, kernelTimeNs, panic, cpus }: Pulse): string {
  const perCpu = cpus.map(({ cpu, isIdle, isTickStopped, nextEventNs, counters }) => [cpu, isIdle, isTickStopped, nextEventNs, ...counters].join(' '))
  return [jiffies, kernelTimeNs, panic.panicCpu, ...perCpu].join('\n')
}

function stallReason({ kernelTimeNs, cpus }: Pulse, quietUs: number, deadlineUs: number): string | undefined {
  if (cpus.length === 0) return 'no CPU is online'
  const busy = cpus.find(({ isIdle, isTickStopped }) => !isIdle || isTickStopped === false)
  if (busy) return `CPU ${busy.cpu} ${busy.isIdle ? 'has its tick on' : 'is busy'}`
  const allowedUs = deadlineUs + quietUs / clockPrecision
  const overdueUs = ({ nextEventNs }: CpuPulse): number => (nextEventNs === undefined ? -Infinity : Number(kernelTimeNs - nextEventNs) / 1000 + quietUs)
  const late = cpus.find((cpu) => overdueUs(cpu) > allowedUs)
  return late && `a timer of CPU ${late.cpu} is ${Math.round(overdueUs(late))} µs overdue`
}
