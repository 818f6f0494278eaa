/** One task among all, by its number, and the threads of a process. */
import { isBackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'
import { walkList, type Faults } from '../walks.js'
import { walkXarray } from '../xarray.js'

/** Threads of one process that are read at most. */
const mostThreads = 1 << 15

/** What most who look for a task want of it. */
export const taskMembers = ['pid', 'tgid', 'comm', 'mm', 'stack', 'signal'] as const

/**
 * The task of this number: of a process, or of a thread. It is looked up as the kernel does (`init_pid_ns.idr`), and where that
 * is damaged, the list of all processes is gone through.
 *
 * @param selection of `task_struct`; includes `pid`
 * @returns undefined where there is none
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function findTask(image: KernelImage, pid: number, selection = new Selection(image.types, 'task_struct', taskMembers), faults: Faults = []): Promise<KernelObject | undefined> {
  return (await findByNumber(image, pid, selection)) ?? (await findInList(image, pid, selection, faults))
}

async function findByNumber(image: KernelImage, pid: number, selection: Selection): Promise<KernelObject | undefined> {
  const link = image.types.member('task_struct', 'pid_links[0]')
  const isKnown = image.types.member('pid_namespace', 'idr.idr_rt.xa_head') && image.types.member('pid', 'tasks[0].first') && image.has('init_pid_ns')
  if (!isKnown || link === undefined) return undefined
  try {
    const root = await image.readObject(new Selection(image.types, 'pid_namespace', ['idr.idr_rt.xa_head']), image.addressOf('init_pid_ns'))
    const [found] = await walkXarray(image, { head: root.pointer('idr.idr_rt.xa_head'), first: pid, last: pid, faults: [] })
    if (found === undefined) return undefined
    const number = await image.readObject(new Selection(image.types, 'pid', ['tasks[0].first']), found.entry)
    const first = number.pointer('tasks[0].first')
    const task = first === 0n ? undefined : await image.readObject(selection, BigInt.asUintN(64, first - BigInt(link.offset)))
    return task?.signedNumber('pid') === pid ? task : undefined
  } catch (error) {
    // The list of processes is another way to the same task.
    if (isBackdoorsError(error, 'NOT_MAPPED', 'INVALID_ARGUMENT')) return undefined
    throw error
  }
}

async function findInList(image: KernelImage, pid: number, selection: Selection, faults: Faults): Promise<KernelObject | undefined> {
  const links = new Selection(image.types, 'task_struct', ['pid', 'tasks.next'])
  const head = image.addressOf('init_task') + BigInt(links.offsetOf('tasks.next'))
  for await (const task of walkList(image, { head, selection: links, link: 'tasks', faults })) {
    if (task.signedNumber('pid') === pid) return await image.readObject(selection, task.address)
  }
  return undefined
}

/** `PF_KTHREAD` */
const kernelThreadFlag = 0x0020_0000

/** @param task with `flags` */
export const isKernelThread = (task: KernelObject): boolean => (task.number('flags') & kernelThreadFlag) !== 0

/**
 * Address of the task's `mm_struct`; 0 where it has none. A thread of the kernel may borrow a process's for a while.
 * @param task with `mm` and `flags`
 */
export const ownMemory = (task: KernelObject): bigint => (isKernelThread(task) ? 0n : task.pointer('mm'))

/**
 * The threads of a process, its first thread first.
 * @param signal what `task_struct.signal` holds
 * @param selection of `task_struct`; includes `thread_node.next`
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function readThreads(image: KernelImage, signal: bigint, selection: Selection, faults: Faults): Promise<KernelObject[]> {
  const head = signal + BigInt(new Selection(image.types, 'signal_struct', ['thread_head.next']).offsetOf('thread_head.next'))
  const threads: KernelObject[] = []
  for await (const thread of walkList(image, { head: BigInt.asUintN(64, head), selection, link: 'thread_node', faults })) {
    threads.push(thread)
    if (threads.length >= mostThreads) break
  }
  return threads
}
