/** What was read of a dead kernel, held against what the host said of itself just before. Each check gives what differs. */

/** Output of commands that ran on the host, and what its console said until the end. */
export interface HostReport {
  readonly ps: string
  readonly ss: string
  readonly maps: string
  readonly meminfo: string
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

/** `ps -eo pid,ppid,comm`: but for the commands that made the report, which have ended since. */
export function tasksDiffer({ ps }: HostReport, read: Json): string[] {
  const tasks = new Map(list(read['tasks']).map((task) => [Number(task['tgid']), task]))
  return linesOf(ps).slice(1).flatMap((line) => {
    const [pid, ppid, ...comm] = line.trim().split(/\s+/)
    const name = comm.join(' ')
    const task = tasks.get(Number(pid))
    if (['ps', 'sh'].includes(name) && task === undefined) return []
    if (task === undefined) return [`ps: ${pid} ${name} is missing`]
    // A kernel worker's name says what it works at, which changes.
    const isSame = task['ppid'] === Number(ppid) && (task['name'] === name || String(task['comm']).startsWith('kworker'))
    return isSame ? [] : [`ps: ${pid} is ${String(task['name'])} of ${String(task['ppid'])} instead of ${name} of ${ppid}`]
  })
}

/** `ss -tanH`, IPv4: state and both ends. */
export function socketsDiffer({ ss }: HostReport, read: Json): string[] {
  const end = (value: unknown): string => {
    const { address, port } = value as { address: string; port: number }
    return `${address}:${port === 0 ? '*' : port}`
  }
  const found = new Set(list(read['sockets']).filter(({ protocol, family }) => protocol === 'tcp' && family === 'ipv4').map(({ state, local, remote }) => `${String(state)} ${end(local)} ${end(remote)}`))
  return linesOf(ss).map((line) => line.trim().split(/\s+/)).filter(([, , , local]) => local !== undefined && /^\d/.test(local)).flatMap(([state, , , local, remote]) => {
    const key = `${state} ${local} ${remote}`
    return found.has(key) ? [] : [`ss: ${key} is missing`]
  })
}

export function mapsDiffer({ maps }: HostReport, read: string): string[] {
  const found = new Set(linesOf(read).map((line) => line.trim().replace(/\s+/g, ' ')))
  return linesOf(maps).map((line) => line.trim().replace(/\s+/g, ' ')).filter((line) => !found.has(line) && !line.includes('[vsyscall]')).map((line) => `maps: missing: ${line}`)
}

export function memoryDiffers({ meminfo }: HostReport, read: Json): string[] {
  const total = Number(/^MemTotal: +(\d+) kB/m.exec(meminfo)?.[1]) * 1024
  const found = (read['bytes'] as Json | undefined)?.['MemTotal']
  return found === total ? [] : [`mem: MemTotal is ${String(found)} instead of ${total}`]
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
