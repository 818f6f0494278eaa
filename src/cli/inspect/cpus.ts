/** `inspect NODE cpus`: a line as of `uptime`, and what each CPU ran. */
import type { KernelImage } from '../../kernel/kernel-image.js'
import { attempt } from '../../kernel/walks.js'
import { cpuTimes, readCpus, type Cpu } from '../../kernel/views/cpus.js'
import { readUptime, type Uptime } from '../../kernel/views/uptime.js'
import { columns, number, word } from './text.js'
import { count, secondsOf, type Answer } from './view.js'

export async function inspectCpus(image: KernelImage): Promise<Answer> {
  const { cpus, faults: missing } = await readCpus(image)
  const faults = [...missing]
  const uptime = await attempt(faults, () => readUptime(image))
  const lines = (): string[] => [...(uptime ? [lineOf(uptime)] : []), ...columns(head, cpus.map(rowOf))]
  return { lines, fields: () => ({ uptime: uptime && uptimeOf(uptime), cpus: cpus.map(fieldsOf) }), faults, isEmpty: cpus.length === 0 }
}

function lineOf({ uptimeSeconds, time, load }: Uptime): string {
  return `${dateOf(time.realNs)?.replace('T', ' ').replace(/\..*/, ' UTC') ?? 'at an unknown time'} up ${uptimeSeconds.toFixed(2)} s, load average: ${load.map((mean) => mean.toFixed(2)).join(', ')}`
}

/** A damaged clock may show a time that no calendar has. */
function dateOf(realNs: bigint): string | undefined {
  const date = new Date(Number(realNs / 1_000_000n))
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString()
}

const uptimeOf = ({ uptimeSeconds, time, load }: Uptime): Record<string, unknown> => ({ uptimeSeconds, time: dateOf(time.realNs), load })

/** Times are seconds. */
const head = [
  number('CPU'), word('ONLINE'), word('DOES'), number('RUNNABLE'), number('SWITCHES'), number('USER'), number('NICE'), number('SYSTEM'), number('SOFTIRQ'), number('IRQ'),
  number('IDLE'), number('IOWAIT'), number('STEAL'), number('PID'), word('COMMAND'),
]

function rowOf({ cpu, isOnline, isIdle, running, switches, times, current }: Cpu): (string | number | undefined)[] {
  const seconds = cpuTimes.map((name) => (times?.[name] === undefined ? undefined : secondsOf(times[name])))
  const does = isIdle === undefined ? undefined : isIdle ? 'idles' : 'runs'
  return [cpu, isOnline ? 'yes' : 'no', does, running, switches?.toString(), ...seconds, current?.pid, current?.comm]
}

function fieldsOf({ switches, clockNs, times, ...cpu }: Cpu): Record<string, unknown> {
  return { ...cpu, switches: count(switches), clockNs: count(clockNs), timesNs: times && Object.fromEntries(cpuTimes.map((name) => [name, count(times[name])])) }
}
