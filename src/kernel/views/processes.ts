/** All processes of a kernel. */
import { isBackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { walkList, type Faults } from '../walks.js'
import { walkXarray } from '../xarray.js'

/** `PID_MAX_LIMIT` of 64-bit kernels. */
export const mostPids = 4 << 20

/**
 * The first thread of each process, but for the idle task. By the table of process numbers, which takes a handful of batches
 * however many there are; where that is damaged, by the list of all processes, which takes a read for each.
 * @param selection of `task_struct`; includes `tasks.next`
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function readProcesses(image: KernelImage, selection: Selection, faults: Faults): Promise<KernelObject[]> {
  const byNumber = await processesByNumber(image, selection)
  if (byNumber !== undefined) return byNumber
  const processes: KernelObject[] = []
  const head = image.addressOf('init_task') + BigInt(selection.offsetOf('tasks.next'))
  for await (const task of walkList(image, { head, selection, link: 'tasks', faults })) processes.push(task)
  return processes
}

/** @returns undefined where this kernel has no such table, or anything in it is damaged */
async function processesByNumber(image: KernelImage, selection: Selection): Promise<KernelObject[] | undefined> {
  const kind = image.types.constant('PIDTYPE_TGID')
  const link = kind === undefined ? undefined : image.types.member('task_struct', `pid_links[${kind}]`)
  const first = `tasks[${kind}].first`
  const isKnown = image.types.member('pid_namespace', 'idr.idr_rt.xa_head') && image.types.member('pid', first) && image.has('init_pid_ns')
  if (!isKnown || link === undefined) return undefined
  const faults: Faults = []
  try {
    const root = await image.readObject(new Selection(image.types, 'pid_namespace', ['idr.idr_rt.xa_head']), image.addressOf('init_pid_ns'))
    const entries = await walkXarray(image, { head: root.pointer('idr.idr_rt.xa_head'), first: 0, last: mostPids, faults })
    const numbers = await image.readObjects(new Selection(image.types, 'pid', [first]), entries.map(({ entry }) => entry))
    const links = numbers.flatMap((number) => (number instanceof KernelObject ? [number.pointer(first)] : (faults.push(number), [])))
    const tasks = await image.readObjects(selection, links.filter((at) => at !== 0n).map((at) => BigInt.asUintN(64, at - BigInt(link.offset))))
    const sound = tasks.filter((task) => task instanceof KernelObject)
    return faults.length === 0 && sound.length === tasks.length && sound.length > 0 ? sound : undefined
  } catch (error) {
    if (isBackdoorsError(error, 'NOT_MAPPED', 'INVALID_ARGUMENT', 'KERNEL_DATA_CORRUPT')) return undefined
    throw error
  }
}
