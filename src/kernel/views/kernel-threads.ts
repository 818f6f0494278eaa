/** The full names of kernel threads, which do not fit into `comm`: of workers, with what they work on. */
import type { KernelImage, ObjectGroup } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import type { Faults } from '../walks.js'

/** `PF_WQ_WORKER` */
const workerFlag = 0x20
/** `TASK_COMM_LEN` of the longest kind: what `/proc` prints of a name. */
const mostNameBytes = 64

/** What holds the names of kernel threads: nothing, of a kernel that keeps none. @param threads `task_struct`s of kernel threads */
export function selectKthreads({ types }: KernelImage, threads: readonly KernelObject[]): ObjectGroup {
  const hasWorkers = types.member('kthread', 'data') !== undefined && types.member('worker', 'desc') !== undefined
  return { selection: new Selection(types, 'kthread', [], ['data', 'full_name']), addresses: hasWorkers ? threads.map(kthreadOf).filter((address) => address !== 0n) : [] }
}

/** Before 5.17 it stood in the place of another member; those threads keep their short names. */
const kthreadOf = (task: KernelObject): bigint => (task.selection.has('worker_private') ? task.pointer('worker_private') : 0n)

/**
 * Source: `proc_task_name` in fs/proc/array.c, `get_kthread_comm` in kernel/kthread.c, `wq_worker_comm` in kernel/workqueue.c.
 *
 * @param threads `task_struct`s of kernel threads
 * @param kthreads what `selectKthreads` selected, by address
 * @returns by the tasks' addresses; those that have no name but `comm` are left out
 */
export async function readThreadNames(image: KernelImage, threads: readonly KernelObject[], kthreads: ReadonlyMap<bigint, KernelObject>, faults: Faults): Promise<Map<bigint, string>> {
  const names = new Map<bigint, string>()
  const workers: Named[] = []
  const others: Named[] = []
  for (const task of threads) {
    const kthread = kthreads.get(kthreadOf(task))
    if (kthread === undefined) continue
    if (task.number('flags') & workerFlag) workers.push({ task, at: kthread.pointer('data') })
    else if (kthread.selection.has('full_name') && kthread.pointer('full_name') !== 0n) others.push({ task, at: kthread.pointer('full_name') })
  }
  await Promise.all([nameWorkers(image, workers, names, faults), nameOthers(image, others, names, faults)])
  return names
}

interface Named {
  readonly task: KernelObject
  readonly at: bigint
}

async function nameWorkers(image: KernelImage, workers: readonly Named[], names: Map<bigint, string>, faults: Faults): Promise<void> {
  if (workers.length === 0) return
  const read = await image.readObjects(new Selection(image.types, 'worker', ['desc', 'pool', 'current_work']), workers.map(({ at }) => at))
  for (const [i, worker] of read.entries()) {
    const { task } = workers[i] as Named
    if (!(worker instanceof KernelObject)) faults.push(worker)
    else if (worker.pointer('pool') !== 0n && worker.text('desc') !== '') names.set(task.address, `${task.text('comm')}${worker.pointer('current_work') === 0n ? '-' : '+'}${worker.text('desc')}`)
  }
}

async function nameOthers(image: KernelImage, others: readonly Named[], names: Map<bigint, string>, faults: Faults): Promise<void> {
  const read = await image.memory.tryReadMany(others.map(({ at }) => ({ address: at, length: mostNameBytes })))
  for (const [i, bytes] of read.entries()) {
    if (!(bytes instanceof Uint8Array)) {
      faults.push(bytes)
      continue
    }
    const end = bytes.indexOf(0)
    names.set((others[i] as Named).task.address, new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)))
  }
}
