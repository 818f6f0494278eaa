/** What was read of a dead kernel, held against what the host said of itself just before. Each check gives what differs. */

import { panicCommand } from '../panic-kernel.js'

/** Output of commands that ran on the host, and what its console said until the end. */
export interface HostReport {
  readonly ps: string
  readonly ss: string
  readonly maps: string
  readonly meminfo: string
  readonly stat: string
  readonly uptime: string
  readonly dmesg: string
  readonly console: string
}

export interface Json {
  readonly [field: string]: unknown
}

const list = (value: unknown): readonly Json[] => (Array.isArray(value) ? (value as Json[]) : [])
const linesOf = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '')

/** All lines of `dmesg`, and then those of the panic, in this order. */
export function logDiffers({ dmesg, console }: HostReport, read: Json): string[] {
  const messages = list(read['entries']).flatMap(({ text }) => String(text).split('\n')).map((line) => line.trim())
  const panicAt = linesOf(console).findIndex((line) => line.includes('Kernel panic'))
  const wanted = [...linesOf(dmesg), ...linesOf(console).slice(panicAt)].map(withoutTime)
  let at = 0
  return wanted.filter((line) => {
    const found = messages.indexOf(line, at)
    if (found >= 0) at = found + 1
    return found < 0
  }).map((line) => `log: missing: ${line}`).concat(panicAt < 0 ? ['the console tells of no panic'] : [])
}

/** Lines behind the first of a message are indented by those who print it. */
const withoutTime = (line: string): string => line.replace(/^\[ *\d+\.\d+\] /, '').trim()

const isWorker = (name: string): boolean => name.startsWith('kworker/')

/**
 * `ps -eo pid,ppid,comm`, both ways. Three things may differ between the report and the panic, and do: the report's own `ps` and its shell
 * are gone, the shell that panics the kernel has come, and kernel workers come, go and change what their names say they work at.
 */
export function tasksDiffer({ ps }: HostReport, read: Json): string[] {
  const told = linesOf(ps).slice(1).map((line) => {
    const [pid, ppid, ...comm] = line.trim().split(/\s+/)
    return { pid: Number(pid), ppid: Number(ppid), name: comm.join(' ') }
  })
  const reporter = told.find(({ name }) => name === 'ps')
  const isReporter = (pid: number): boolean => pid === reporter?.pid || pid === reporter?.ppid
  const found = new Map(list(read['tasks']).map((task) => [Number(task['tgid']), task]))
  const pids = new Set(told.map(({ pid }) => pid))
  const missing = told.flatMap(({ pid, ppid, name }) => {
    const task = found.get(pid)
    if (task === undefined) return isReporter(pid) || isWorker(name) ? [] : [`ps: ${pid} ${name} is missing`]
    const shown = isWorker(name) ? [name.split('-')[0], String(task['name']).split('-')[0]] : [name, task['name']]
    return task['ppid'] === ppid && shown[0] === shown[1] ? [] : [`ps: ${pid} is ${String(task['name'])} of ${String(task['ppid'])} instead of ${name} of ${ppid}`]
  })
  const invented = [...found].flatMap(([pid, { name, commandLine }]) =>
    pids.has(pid) || isWorker(String(name)) || String(commandLine).endsWith(panicCommand) ? [] : [`ps: ${pid} ${String(name)} was not there`])
  return [...missing, ...invented]
}

/** What stands in only one of two lists, in which a line may stand more than once. */
function onlyIn(lines: readonly string[], others: readonly string[]): string[] {
  const left = new Map<string, number>()
  for (const other of others) left.set(other, (left.get(other) ?? 0) + 1)
  return lines.filter((line) => {
    const count = left.get(line) ?? 0
    left.set(line, count - 1)
    return count <= 0
  })
}

/**
 * `ss -tuanH`, both ways: protocol, state, queues and both ends of every socket; on this host none comes or goes by itself. A guest has no
 * `inet_diag`, and what `ss` has of /proc/net instead tells neither how many connections may wait nor `::` from `*`.
 */
export function socketsDiffer({ ss }: HostReport, read: Json): string[] {
  const end = (value: unknown): string => {
    const { address, port } = value as { address: string; port: number }
    const host = address === '::' ? '*' : address.includes(':') ? `[${address}]` : address
    return `${host}:${port === 0 ? '*' : port}`
  }
  const line = (protocol: string, state: string, received: string, sent: string, local: string, remote: string): string =>
    `${protocol} ${state} ${received} ${state === 'LISTEN' ? '-' : sent} ${local} ${remote}`
  const told = linesOf(ss).map((each) => line(...(each.trim().split(/\s+/) as Parameters<typeof line>)))
  const found = list(read['sockets']).map(({ protocol, state, receiveQueue, sendQueue, local, remote }) =>
    line(String(protocol), String(state), String(receiveQueue), String(sendQueue), end(local), end(remote)))
  return [...onlyIn(told, found).map((each) => `ss: missing: ${each}`), ...onlyIn(found, told).map((each) => `ss: was not there: ${each}`)]
}

/** /proc/PID/maps of a process that sleeps, to the letter. */
export function mapsDiffer({ maps }: HostReport, read: string): string[] {
  const [told, found] = [maps, read].map((text) => linesOf(text).map((line) => line.trim().replace(/\s+/g, ' '))) as [string[], string[]]
  return [...onlyIn(told, found).map((line) => `maps: missing: ${line}`), ...onlyIn(found, told).map((line) => `maps: was not there: ${line}`)]
}

/** What the view gives of /proc/meminfo; the first three do not change. */
const constantMemory = ['MemTotal', 'SwapTotal', 'SwapFree']
const countedMemory = [
  'MemFree', 'MemAvailable', 'Buffers', 'Cached', 'SwapCached', 'Active(anon)', 'Inactive(anon)', 'Active(file)', 'Inactive(file)', 'Unevictable', 'Mlocked', 'Dirty',
  'Writeback', 'AnonPages', 'Mapped', 'Shmem', 'KReclaimable', 'Slab', 'SReclaimable', 'SUnreclaim', 'KernelStack', 'PageTables',
]
/** Each of two CPUs keeps up to 125 pages of a number to itself (mm/vmstat.c); and of what there is, a twentieth may change until the panic. */
const keptBytes = 2 * 125 * 4096
const changedShare = 1 / 20

export function memoryDiffers({ meminfo }: HostReport, read: Json): string[] {
  const told = new Map([...meminfo.matchAll(/^(\S+): +(\d+) kB/gm)].map(([, name, kib]) => [name as string, Number(kib) * 1024]))
  const found = (read['bytes'] ?? {}) as Readonly<Record<string, number | undefined>>
  const wanted = [...constantMemory, ...countedMemory]
  const unknown = Object.keys(found).filter((name) => !wanted.includes(name)).map((name) => `mem: ${name} is not checked`)
  return wanted.flatMap((name) => {
    const [value, reported = NaN] = [found[name] ?? NaN, told.get(name)]
    const mostBytes = constantMemory.includes(name) ? 0 : keptBytes + reported * changedShare
    return Math.abs(value - reported) <= mostBytes ? [] : [`mem: ${name} is ${value} instead of ${reported}, give or take ${mostBytes}`]
  }).concat(unknown)
}

/** The fields of a CPU in /proc/stat, in their order. */
const statTimes = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal']
/** A tick of /proc/stat, and one of the kernel, which counts its time in these. In seconds. */
const ticksS = 0.02
/** The kernel adds to a CPU's idle time what it has slept since it last woke, and memory alone does not tell; ticks wake it meanwhile. In seconds. */
const longestSleepS = 2

/** Numbers, and the times that /proc/stat has counted: they go on, no faster than time does. The one CPU that is left runs the panic. */
export function cpusDiffer({ stat, uptime }: HostReport, read: Json): string[] {
  const told = [...stat.matchAll(/^cpu(\d+) (.*)$/gm)].map(([, cpu, times]) => ({ cpu: Number(cpu), times: (times as string).trim().split(/\s+/).map((ticks) => Number(ticks) / 100) }))
  const found = list(read['cpus'])
  const passedS = Number((read['uptime'] as Json | undefined)?.['uptimeSeconds']) - Number(uptime.split(' ')[0])
  const numbers = (cpus: readonly { readonly cpu?: unknown }[]): string => cpus.map(({ cpu }) => String(cpu)).join(', ')
  if (numbers(found) !== numbers(told)) return [`cpus: ${numbers(found)} instead of ${numbers(told)}`]
  if (!(passedS >= 0)) return [`cpus: ${passedS} s have passed since /proc/uptime was read`]
  const online = found.filter(({ isOnline }) => isOnline === true).map(({ current }) => (current as Json | undefined)?.['comm'])
  return told.flatMap(({ cpu, times }, i) => statTimes.flatMap((name, column) => {
    const grownS = Number(((found[i] as Json)['timesNs'] as Json | undefined)?.[name]) / 1e9 - (times[column] ?? NaN)
    const leastS = -ticksS - (name === 'idle' || name === 'iowait' ? longestSleepS : 0)
    return grownS >= leastS && grownS <= passedS + ticksS ? [] : [`cpus: ${name} of CPU ${cpu} has grown by ${grownS} s in ${passedS} s`]
  })).concat(online.length === 1 && online[0] === 'sh' ? [] : [`cpus: online is what runs ${online.join(', ')}, instead of the shell that panics the kernel alone`])
}

export function panicDiffers({ console }: HostReport, read: Json): string[] {
  const reason = /Kernel panic - not syncing: (.*?)( \]---)?$/m.exec(console)?.[1]
  return reason !== undefined && read['reason'] === reason && read['isPanicked'] === true ? [] : [`panic: ${String(read['reason'])} instead of ${String(reason)}`]
}

/** gdb's words on the core of `known-stack.c`: both threads, and the first one's calls in their order. */
export function backtraceDiffers(gdb: string): string[] {
  // An optimizing compiler makes gdb say `depth=depth@entry=3`.
  const calls = [/innermost \(depth=\S*3\)/, /middle \(depth=\S*2\)/, /outer \(depth=\S*1\)/, /main \(\)/].map((call) => gdb.search(call))
  const isInOrder = calls.every((at, i) => at >= 0 && at > (calls[i - 1] ?? -1))
  const threads = gdb.match(/^[* ] +\d+ +/gm)?.length ?? 0
  return [...(isInOrder ? [] : [`gdb: the stack is not main, outer, middle, innermost:\n${gdb}`]), ...(threads === 2 ? [] : [`gdb: ${threads} threads instead of 2`])]
}
