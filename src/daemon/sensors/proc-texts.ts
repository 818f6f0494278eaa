/** What the files of /proc say (`proc(5)`, Documentation/filesystems/proc.rst). Pure; what is not there, or no number, is undefined. */

const kibibyte = 1024

function numberOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9]+(\.[0-9]+)?$/.test(text)) return undefined
  const value = Number(text)
  return Number.isFinite(value) ? value : undefined
}

/** A line `name:   123 kB`, as `/proc/meminfo` and `/proc/PID/status` have them, in bytes. */
export function kibibytesLine(text: string, name: string): number | undefined {
  const start = text.startsWith(`${name}:`) ? 0 : text.indexOf(`\n${name}:`) + 1
  if (start === 0 && !text.startsWith(`${name}:`)) return undefined
  const [, value, unit] = text.slice(start, start + 80).split('\n', 1)[0]?.split(/\s+/) ?? []
  const kibibytes = unit === 'kB' ? numberOf(value) : undefined
  return kibibytes === undefined ? undefined : kibibytes * kibibyte
}

/** `/proc/meminfo`: memory that programs cannot get without swapping, and all there is, in bytes. */
export function memoryUse(meminfo: string): { used: number; total: number } | undefined {
  const total = kibibytesLine(meminfo, 'MemTotal')
  const available = kibibytesLine(meminfo, 'MemAvailable')
  if (total === undefined || available === undefined) return undefined
  return { used: Math.max(0, total - available), total }
}

/** `/proc/sys/fs/file-nr`: open file descriptions of the machine, and how many it can have. */
export function fileTable(fileNr: string): { open: number; most: number } | undefined {
  const [allocated, unused, most] = fileNr.trim().split(/\s+/).map(numberOf)
  if (allocated === undefined || unused === undefined || most === undefined) return undefined
  return { open: Math.max(0, allocated - unused), most }
}

/** `/proc/loadavg`: tasks that run or wait to, over the last minute, and at this moment. */
export function load(loadavg: string): { minute: number; runnable: number } | undefined {
  const [minute, , , tasks] = loadavg.trim().split(/\s+/)
  const [average, runnable] = [numberOf(minute), numberOf(tasks?.split('/')[0])]
  if (average === undefined || runnable === undefined) return undefined
  return { minute: average, runnable }
}

/** `/proc/pressure/*`: how much of the last ten seconds some task stalled, in percent. */
export function stallPercent(pressure: string): number | undefined {
  return numberOf(/^some avg10=([0-9.]+) /m.exec(pressure)?.[1])
}

/** `/proc/PID/limits`: the soft limit of open files; undefined also where there is none. */
export function openFilesLimit(limits: string): number | undefined {
  return numberOf(/^Max open files +(\S+) /m.exec(limits)?.[1])
}

/** `/proc/PID/cgroup`: path of its group in the unified hierarchy. */
export function cgroupPath(cgroup: string): string | undefined {
  const path = /^0::(\/.*)$/m.exec(cgroup)?.[1]
  return path === undefined || path.split('/').includes('..') ? undefined : path
}

/** A file of one number, as `memory.max`: undefined for `max`, which is no limit. */
export const singleNumber = (text: string): number | undefined => numberOf(text.trim())

const listening = '0A'

/**
 * `/proc/PID/net/tcp` and `tcp6`: connections that wait to be accepted, by the inode of their listening socket. The kernel lists
 * listening sockets first (`tcp_get_idx` in net/ipv4/tcp_ipv4.c), so the beginning of the file does, and the rest is not looked at.
 */
export function acceptQueues(tcp: string): Map<number, number> {
  const queues = new Map<number, number>()
  // Line by line, as there may be thousands behind those that listen; the last may be cut off.
  for (let start = tcp.indexOf('\n') + 1, end = tcp.indexOf('\n', start); start > 0 && end > 0; [start, end] = [end + 1, tcp.indexOf('\n', end + 1)]) {
    const [, , , state, sizes, , , , , inodeText] = tcp.slice(start, end).trim().split(/\s+/)
    if (state !== listening) break
    const waiting = /^[0-9A-F]{8}:([0-9A-F]{8})$/.exec(sizes ?? '')?.[1]
    const inode = numberOf(inodeText)
    if (waiting !== undefined && inode !== undefined) queues.set(inode, Number.parseInt(waiting, 16))
  }
  return queues
}

/** What a link in `/proc/PID/fd` names, if it is a socket. */
export const socketInode = (link: string): number | undefined => numberOf(/^socket:\[([0-9]+)\]$/.exec(link)?.[1])
