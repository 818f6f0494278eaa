/** The processes of a machine and their threads, as `ps` lists them. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage, ObjectGroup } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { pageBytes } from '../page-table-format.js'
import { walkChains, type Faults } from '../walks.js'
import { readArguments } from './arguments.js'
import { isKernelThread, ownMemory } from './find-task.js'
import { readThreadNames, selectKthreads } from './kernel-threads.js'
import { mostPids, readProcesses } from './processes.js'
import { taskState, type TaskState } from './task-state.js'

export interface Task {
  /** Of its `struct task_struct`. */
  readonly address: bigint
  /** Number of the thread; of a process's first thread it is the process's. */
  readonly pid: number
  /** Number of the process. */
  readonly tgid: number
  /** Number of the process that it belongs to as a child; undefined where that cannot be read. */
  readonly ppid: number | undefined
  readonly state: TaskState
  /** Does it run on its CPU now? */
  readonly isRunning: boolean
  /** As the task names itself: 15 bytes. */
  readonly comm: string
  /** As `ps` names it: `comm`, but of a kernel thread its full name, with the work that it does. */
  readonly name: string
  /** Undefined where they cannot be read; none of a kernel thread, or where the process has given up its memory. */
  readonly arguments: readonly string[] | undefined
  /** The arguments as one line, or the name in brackets where there are none; undefined where they cannot be read. */
  readonly commandLine: string | undefined
  readonly isKernelThread: boolean
  readonly uid: number | undefined
  readonly euid: number | undefined
  /** Nanoseconds from boot to its start (`CLOCK_BOOTTIME`). */
  readonly startTimeNs: bigint | undefined
  /** The CPU that it runs on, or ran on last. */
  readonly cpu: number | undefined
  /** As in `/proc/PID/stat`: 0 to 39, below 0 for real time. */
  readonly priority: number
  /** -20 to 19. */
  readonly nice: number
  /** Threads of its process; undefined where that cannot be read. */
  readonly threads: number | undefined
  /** In bytes. 0 of kernel threads. Since Linux 6.2 each CPU keeps some pages of it to itself, and they are missing here, as in `ps`. */
  readonly rssBytes: number | undefined
  readonly vszBytes: number | undefined
  /** Address of its `mm_struct`; undefined of a kernel thread and a zombie. */
  readonly mm: bigint | undefined
}

export interface Tasks {
  /** In the order of their creation; threads behind the first one of their process. */
  readonly tasks: readonly Task[]
  readonly faults: Faults
}

export interface TaskOptions {
  /** All threads, not only the first of each process. */
  readonly threads?: boolean
}

const realTimePriorities = 100
const defaultPriority = 120

/**
 * Reads all tasks: one read for each process, and some batches.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws; what is damaged is left out, and said in `faults`
 */
export async function readTasks(image: KernelImage, { threads = false }: TaskOptions = {}): Promise<Tasks> {
  const faults: Faults = []
  const selection = selectTask(image)
  const leaders = (await readProcesses(image, selection, faults)).filter((task) => isSound(image, task, faults))
  const signalsOf = leaders.map((task) => task.pointer('signal'))
  const signal = { selection: new Selection(image.types, 'signal_struct', ['thread_head.next', 'nr_threads']), addresses: signalsOf }
  const [known] = threads ? await readEach(image, [signal], faults) : []
  const found = known ? await withThreads(image, leaders, known, faults) : leaders
  const kernelThreads = found.filter(isKernelThread)
  const [signals, parents, credentials, memories, kthreads] = (await readEach(image, [
    known ? { ...signal, addresses: [] } : signal,
    { selection: new Selection(image.types, 'task_struct', ['tgid']), addresses: parentsOf(found) },
    { selection: new Selection(image.types, 'cred', ['uid', 'euid']), addresses: found.map((task) => task.pointer('real_cred')) },
    { selection: selectMemory(image), addresses: found.flatMap(memoryOf) },
    selectKthreads(image, kernelThreads),
  ], faults)) as [Objects, Objects, Objects, Objects, Objects]
  const [names, lines] = await Promise.all([readThreadNames(image, kernelThreads, kthreads, faults), readArguments(image, [...memories.values()], faults)])
  const around = { signals: known ?? signals, parents: numbersOf(found, parents), credentials, memories, names }
  return { tasks: found.map((task) => taskOf(image, task, around, lines)), faults }
}

interface Around {
  readonly signals: ReadonlyMap<bigint, KernelObject>
  readonly parents: ReadonlyMap<bigint, number>
  readonly credentials: ReadonlyMap<bigint, KernelObject>
  readonly memories: ReadonlyMap<bigint, KernelObject>
  readonly names: ReadonlyMap<bigint, string>
}

function memoryOf(task: KernelObject): bigint[] {
  const mm = ownMemory(task)
  return mm === 0n ? [] : [mm]
}

function selectTask({ types }: KernelImage): Selection {
  const state = types.member('task_struct', '__state') ? '__state' : 'state'
  return new Selection(types, 'task_struct',
    ['pid', 'tgid', 'comm', 'flags', state, 'exit_state', 'on_cpu', 'tasks.next', 'thread_node.next', 'signal', 'real_parent', 'mm', 'real_cred', 'prio', 'static_prio'],
    ['start_boottime', 'real_start_time', 'thread_info.cpu', 'cpu', 'worker_private'])
}

function selectMemory({ types }: KernelImage): Selection {
  const counters = rssCounters.flatMap((name) => {
    const i = types.constant(name)
    return i === undefined ? [] : [`rss_stat.count[${i}]`, `rss_stat[${i}].count`]
  })
  return new Selection(types, 'mm_struct', ['pgd', 'arg_start', 'arg_end', 'env_start', 'env_end', 'total_vm'], counters)
}

const rssCounters = ['MM_FILEPAGES', 'MM_ANONPAGES', 'MM_SHMEMPAGES'] as const

/** Structures by their addresses. */
type Objects = ReadonlyMap<bigint, KernelObject>

/** Structures of several kinds, in one batch; each is read once. */
async function readEach(image: KernelImage, groups: readonly ObjectGroup[], faults: Faults): Promise<Objects[]> {
  const read = await image.readGroups(groups.map(({ selection, addresses }) => ({ selection, addresses: [...new Set(addresses)] })))
  return read.map((objects) => {
    const found = new Map<bigint, KernelObject>()
    for (const object of objects) {
      if (object instanceof KernelObject) found.set(object.address, object)
      else faults.push(object)
    }
    return found
  })
}

function isSound(image: KernelImage, task: KernelObject, faults: Faults): boolean {
  const [pid, tgid] = [task.signedNumber('pid'), task.signedNumber('tgid')]
  if (pid > 0 && pid <= mostPids && tgid > 0 && tgid <= mostPids) return true
  faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `What stands at 0x${task.address.toString(16)} of ${image.peer} is no task: its number would be ${pid}, its process's ${tgid}.`, { peer: image.peer, address: task.address, field: 'task_struct.pid' }))
  return false
}

/** All threads of all processes, step by step at once. */
async function withThreads(image: KernelImage, leaders: readonly KernelObject[], signals: ReadonlyMap<bigint, KernelObject>, faults: Faults): Promise<KernelObject[]> {
  const [first] = leaders
  if (first === undefined) return []
  const heads = new Set([...signals.values()].map((signal) => signal.addressOf('thread_head.next')))
  const threads = await walkChains(image, {
    firsts: [...signals.values()].map((signal) => signal.pointer('thread_head.next')), nodeOffset: BigInt(first.selection.offsetOf('thread_node.next')),
    next: 'thread_node.next', isEnd: (node) => heads.has(node), read: (addresses) => image.readObjects(first.selection, addresses), faults,
  })
  const followers = new Map<bigint, KernelObject[]>(leaders.map((leader) => [leader.pointer('signal'), []]))
  const known = new Set(leaders.map(({ address }) => address))
  for (const thread of threads) if (!known.has(thread.address) && isSound(image, thread, faults)) followers.get(thread.pointer('signal'))?.push(thread)
  return leaders.flatMap((leader) => [leader, ...(followers.get(leader.pointer('signal')) ?? [])])
}

/** Parents that are none of the tasks themselves: the idle task, and threads where only processes were read. */
function parentsOf(tasks: readonly KernelObject[]): bigint[] {
  const known = new Set(tasks.map(({ address }) => address))
  return tasks.map((task) => task.pointer('real_parent')).filter((parent) => !known.has(parent))
}

/** Numbers of the processes that the parents are threads of, by the parents' addresses. */
function numbersOf(tasks: readonly KernelObject[], parents: Objects): Map<bigint, number> {
  const known = new Map(tasks.map((task) => [task.address, task.signedNumber('tgid')]))
  for (const [address, parent] of parents) {
    const tgid = parent.signedNumber('tgid')
    if (tgid >= 0 && tgid <= mostPids) known.set(address, tgid)
  }
  return known
}

function taskOf({ types }: KernelImage, task: KernelObject, around: Around, lines: ReadonlyMap<bigint, readonly string[]>): Task {
  const { selection } = task
  const optional = (...paths: string[]): bigint | undefined => {
    const path = paths.find((one) => selection.has(one))
    return path === undefined ? undefined : task.unsigned(path)
  }
  const [mm] = memoryOf(task)
  const memory = mm === undefined ? undefined : around.memories.get(mm)
  const credentials = around.credentials.get(task.pointer('real_cred'))
  const comm = task.text('comm')
  const name = around.names.get(task.address) ?? comm
  const words = mm === undefined ? [] : lines.get(mm)
  const cpu = optional('thread_info.cpu', 'cpu')
  return {
    address: task.address,
    pid: task.signedNumber('pid'),
    tgid: task.signedNumber('tgid'),
    ppid: around.parents.get(task.pointer('real_parent')),
    state: taskState(task.number(selection.has('__state') ? '__state' : 'state'), task.number('exit_state')),
    isRunning: task.number('on_cpu') !== 0,
    comm, name,
    arguments: words,
    commandLine: words === undefined || words.length > 0 ? words?.join(' ') : `[${name}]`,
    isKernelThread: isKernelThread(task),
    uid: credentials?.number('uid'),
    euid: credentials?.number('euid'),
    startTimeNs: optional('start_boottime', 'real_start_time'),
    cpu: cpu === undefined ? undefined : Number(cpu),
    priority: task.signedNumber('prio') - realTimePriorities,
    nice: task.signedNumber('static_prio') - defaultPriority,
    threads: around.signals.get(task.pointer('signal'))?.signedNumber('nr_threads'),
    rssBytes: mm === undefined ? 0 : rssOf(types, memory),
    vszBytes: mm === undefined ? 0 : memory && memory.number('total_vm') * pageBytes,
    mm,
  }
}

function rssOf(types: KernelImage['types'], memory: KernelObject | undefined): number | undefined {
  let pages = 0
  for (const name of rssCounters) {
    const i = types.constant(name)
    const path = [`rss_stat.count[${i}]`, `rss_stat[${i}].count`].find((one) => memory?.selection.has(one))
    if (memory === undefined || path === undefined) return undefined
    // Counters that are kept apart may go below 0 for a while.
    pages += Math.max(0, memory.signedNumber(path))
  }
  return pages * pageBytes
}
