import { describe, expect, it } from 'vitest'
import { surviveDamage, withBytes } from '../testing/hostile-memory.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { readTasks, type Task } from './tasks.js'

const host = await panickedHost()

interface Line {
  readonly pid: number
  readonly tid: number
  readonly ppid: number
  readonly stat: string
  readonly vszKiB: number
  readonly rssKiB: number
  readonly comm: string
  readonly args: string
}

/** `ps -eLo pid,tid,ppid,stat,psr,vsz,rss,comm,args` */
const lines = (reported['ps'] as string).trimEnd().split('\n').slice(1).map((line): Line => {
  const [, pid, tid, ppid, stat, , vsz, rss, rest] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s(.*)$/.exec(line) as unknown as string[]
  return { pid: Number(pid), tid: Number(tid), ppid: Number(ppid), stat: stat as string, vszKiB: Number(vsz), rssKiB: Number(rss), comm: (rest as string).slice(0, 15).trim(), args: (rest as string).slice(16).trim() }
})
const { tasks, faults } = await readTasks(host, { threads: true })
const byPid = new Map(tasks.map((task) => [task.pid, task]))
const both = lines.flatMap((line) => (byPid.has(line.tid) ? [{ line, task: byPid.get(line.tid) as Task }] : []))
/** The process that ran the commands went on changing. */
const isBusy = ({ line }: { line: Line }): boolean => line.args.includes('guest-agent')

describe('the tasks of a host that panicked', () => {
  it('are those that ps listed, but for ps and its shell', () => {
    expect(faults).toEqual([])
    expect(lines.filter(({ tid }) => !byPid.has(tid)).map(({ comm }) => comm)).toEqual(['sh', 'ps'])
    const listed = new Set(lines.map(({ tid }) => tid))
    expect(tasks.filter(({ pid }) => !listed.has(pid)).map(({ commandLine, state, isRunning }) => [commandLine, state, isRunning])).toEqual([['/bin/sh -c sleep 0.2; echo c > /proc/sysrq-trigger', 'R', true]])
  })

  it('have their process, parent, state and niceness', () => {
    const shown = (stat: string): string => (stat.match(/[<N]/) ?? ['']).join('')
    expect(both.map(({ task }) => [task.tgid, task.ppid, task.state, task.nice < 0 ? '<' : task.nice > 0 ? 'N' : '', (task.threads ?? 0) > 1]))
      .toEqual(both.map(({ line }) => [line.pid, line.ppid, line.stat[0], shown(line.stat), line.stat.includes('l')]))
  })

  it('have their memory, as far as it did not change any more', () => {
    const still = both.filter((one) => !isBusy(one))
    expect(still.map(({ task }) => [task.vszBytes, task.rssBytes])).toEqual(still.map(({ line }) => [line.vszKiB * 1024, line.rssKiB * 1024]))
    expect(still.filter(({ task }) => task.mm !== undefined).length).toBeGreaterThan(5)
  })

  it('have their names and command lines: kernel threads in brackets, workers with their work', () => {
    // A worker may have got other work since.
    const differs = both.filter(({ line, task }) => task.name.slice(0, 15).trim() !== line.comm || task.commandLine?.replaceAll(/\s/g, ' ').trim() !== line.args)
    expect(differs.map(({ task }) => task.comm)).toEqual(['kworker/0:1'])
    expect(byPid.get(2)).toMatchObject({ commandLine: '[kthreadd]', isKernelThread: true, arguments: [], rssBytes: 0 })
  })

  it('have their user and their time of start', () => {
    expect(new Set(tasks.map(({ uid, euid }) => `${uid} ${euid}`))).toEqual(new Set(['0 0']))
    const starts = tasks.filter(({ pid, tgid }) => pid === tgid).map(({ startTimeNs }) => Number(startTimeNs) / 1e9)
    expect(starts).toEqual(starts.toSorted((a, b) => a - b))
    expect(starts.at(-1)).toBeLessThan(14)
  })

  it('are one for each process where threads are not asked for', async () => {
    const processes = await readTasks(host)
    expect(processes.tasks.map(({ pid }) => pid)).toEqual(tasks.filter(({ pid, tgid }) => pid === tgid).map(({ pid }) => pid))
  })
})

describe('damaged tasks', () => {
  const processes = tasks.filter(({ pid, tgid }) => pid === tgid)
  const { address } = byPid.get(30) as Task
  const at = (member: string): bigint => address + BigInt(host.types.member('task_struct', member)?.offset ?? 0)
  const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)

  it.each<[string, string, bigint, string]>([
    ['comes back to an entry before', 'tasks.next', at('tasks.next'), 'KERNEL_DATA_CORRUPT'], ['leads nowhere', 'tasks.next', 0n, 'NOT_MAPPED'], ['leads to the end of addresses', 'tasks.next', (1n << 64n) - 8n, 'NOT_MAPPED'],
  ])('are listed as far as their list goes, where it %s, and the table of their numbers is lost too', async (_, member, value, code) => {
    const damaged = await withBytes(host, at(member), pointer(value))
    expect(await readTasks(damaged)).toMatchObject({ tasks: { length: processes.length }, faults: [] })
    const found = await readTasks(await withBytes(damaged, host.addressOf('init_pid_ns') + BigInt(host.types.member('pid_namespace', 'idr.idr_rt.xa_head')?.offset ?? 0), pointer(0n)))
    expect(found.tasks.at(-1)?.pid).toBe(30)
    expect(found.faults).toMatchObject([{ code }])
  })

  it('are left out where their number cannot be one, and said', async () => {
    const found = await readTasks(await withBytes(host, at('pid'), new Uint8Array(4).fill(0xff)))
    expect(found.tasks.length).toBe(tasks.filter(({ pid, tgid }) => pid === tgid).length - 1)
    expect(found.faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT', details: { address, field: 'task_struct.pid' } }])
  })

  it('have no user, and no parent, where those cannot be read', async () => {
    const found = await readTasks(await withBytes(await withBytes(host, at('real_cred'), pointer(0x1000n)), at('real_parent'), pointer(0x2000n)))
    expect(found.tasks.find(({ pid }) => pid === 30)).toMatchObject({ uid: undefined, ppid: undefined, comm: 'oom_reaper' })
    expect(found.faults.map(({ code }) => code)).toEqual(['NOT_MAPPED', 'NOT_MAPPED'])
  })

  it('have no command line where their memory is not there', async () => {
    const stack = tasks.find(({ comm }) => comm === 'stack') as Task
    const start = (stack.mm as bigint) + BigInt(host.types.member('mm_struct', 'arg_start')?.offset ?? 0)
    const found = await readTasks(await withBytes(host, start, pointer(0x1000n)))
    expect(found.tasks.find(({ comm }) => comm === 'stack')).toMatchObject({ arguments: undefined, commandLine: undefined })
    expect(found.faults.map(({ code }) => code)).toEqual(['NOT_MAPPED'])
  })

  it('give an answer or an error, and always an end', async () => {
    await surviveDamage(host, [40, 500], 60, async (image) => await readTasks(image, { threads: true }))
  })
})
