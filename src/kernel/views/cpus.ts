/** The CPUs of a machine, and what each of them was doing. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import type { Faults } from '../walks.js'
import { decodePanicState, panicRanges } from './panic-state.js'
import { isTickStopped } from './tick.js'

export interface Cpu {
  readonly cpu: number
  readonly isOnline: boolean
  /** The task that it runs; its idle task where it has none. Undefined where that cannot be read. */
  readonly current: { readonly pid: number; readonly comm: string; readonly address: bigint } | undefined
  readonly isIdle: boolean | undefined
  /** Tasks that run or want to. */
  readonly running: number | undefined
  /** Switches between tasks since boot. */
  readonly switches: bigint | undefined
  readonly isTickStopped: boolean | undefined
  /** Its run queue's own clock, in nanoseconds since boot: when it last had to do with scheduling. */
  readonly clockNs: bigint | undefined
  /** Since boot, in nanoseconds, as far as this kernel counts them; of an idle CPU the time since its last tick or wake-up is missing. */
  readonly times: Readonly<Record<CpuTime, bigint | undefined>> | undefined
}

/** By the names of /proc/stat: `user` and `nice` have the time of guests, too. */
export const cpuTimes = ['user', 'nice', 'system', 'softirq', 'irq', 'idle', 'iowait', 'steal'] as const
export type CpuTime = (typeof cpuTimes)[number]

export interface Cpus {
  readonly cpus: readonly Cpu[]
  readonly faults: Faults
}

type Read = KernelObject | BackdoorsError | undefined

/**
 * Every CPU that the machine may have: a few batches, whatever their number.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT where the masks of CPUs make no sense, and what reading throws
 */
export async function readCpus(image: KernelImage): Promise<Cpus> {
  const faults: Faults = []
  const { possibleCpus, onlineCpus } = decodePanicState(image, await image.memory.readMany(panicRanges(image)))
  const { types } = image
  const readAll = async (symbol: string, selection: Selection): Promise<Read[]> => note(await image.readObjects(selection, await image.perCpu(symbol, possibleCpus)), faults)
  const queues = await readAll('runqueues', new Selection(types, 'rq', ['curr', 'idle', 'nr_running', 'nr_switches', 'clock']))
  const ticks = image.has('tick_cpu_sched') ? await readAll('tick_cpu_sched', new Selection(types, 'tick_sched', [], ['tick_stopped', 'flags', 'idle_sleeptime', 'iowait_sleeptime'])) : []
  const times = await readAll('kernel_cpustat', new Selection(types, 'kernel_cpustat', ['cpustat']))
  const running = queues.map((queue) => (queue instanceof KernelObject ? queue.pointer('curr') : 0n))
  const tasks = new Map<bigint, KernelObject>()
  for (const task of note(await image.readObjects(new Selection(types, 'task_struct', ['pid', 'comm']), running.filter((address) => address !== 0n)), faults)) if (task instanceof KernelObject) tasks.set(task.address, task)
  const online = new Set(onlineCpus)
  const cpus = possibleCpus.map((cpu, i): Cpu => {
    const [queue, tick, time] = [queues[i], ticks[i], times[i]].map((read) => (read instanceof KernelObject ? read : undefined))
    const task = tasks.get(running[i] as bigint)
    return {
      cpu, isOnline: online.has(cpu),
      current: task && { pid: task.signedNumber('pid'), comm: task.text('comm'), address: task.address },
      isIdle: queue && queue.pointer('curr') === queue.pointer('idle'),
      running: queue?.number('nr_running'), switches: queue?.unsigned('nr_switches'), clockNs: queue?.unsigned('clock'),
      isTickStopped: tick && isTickStopped(tick),
      times: time && timesOf(image, time, tick),
    }
  })
  return { cpus, faults }
}

function note(read: readonly (KernelObject | BackdoorsError)[], faults: Faults): Read[] {
  for (const one of read) if (one instanceof BackdoorsError) faults.push(one)
  return [...read]
}

/** While ticks stop on idle CPUs, the time that they sleep is kept with the tick, as `get_idle_time` of fs/proc/stat.c takes it. */
function timesOf({ types }: KernelImage, stat: KernelObject, tick: KernelObject | undefined): Record<CpuTime, bigint | undefined> {
  const bytes = stat.bytes('cpustat')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const entries = cpuTimes.map((name): [CpuTime, bigint | undefined] => {
    const at = (types.constant(`CPUTIME_${name.toUpperCase()}`) ?? -1) * 8
    const counted = at >= 0 && at + 8 <= bytes.length ? view.getBigUint64(at, true) : undefined
    const member = `${name}_sleeptime`
    const slept = tick?.selection.has(member) ? tick.unsigned(member) : 0n
    return [name, slept > 0n ? slept : counted]
  })
  return Object.fromEntries(entries) as Record<CpuTime, bigint | undefined>
}
