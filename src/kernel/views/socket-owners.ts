/** Which processes have which sockets open. */
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'
import { readPieces } from '../pieces.js'
import { walkList, type Faults } from '../walks.js'
import { readAll } from './socket-tables.js'

export interface SocketOwner {
  readonly pid: number
  readonly comm: string
  /** Number of the open file. */
  readonly fd: number
}

/** Open files of one process that are looked at, and of all: what is beyond is left out. */
const mostFiles = 1 << 20
const mostInAll = 1 << 22

/**
 * By the address of the `struct socket`; a process with many open files takes as many batches as one with few.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function readOwners(image: KernelImage, faults: Faults): Promise<Map<bigint, SocketOwner[]>> {
  const tasks = await readOpenTables(image, faults)
  const files = tasks.flatMap(({ task, table }) => filesIn(task, table))
  const wanted = [...new Set(files.slice(0, mostInAll).map(({ file }) => file))]
  const opened = new Map((await readAll(image, new Selection(image.types, 'file', ['f_op', 'private_data']), wanted, faults)).map((file) => [file.address, file]))
  const operations = image.addressOf('socket_file_ops')
  const owners = new Map<bigint, SocketOwner[]>()
  for (const { task, fd, file: address } of files) {
    const file = opened.get(address)
    if (file?.pointer('f_op') !== operations) continue
    const socket = file.pointer('private_data')
    const owner = { pid: task.signedNumber('pid'), comm: task.text('comm'), fd }
    const known = owners.get(socket)
    if (known) known.push(owner)
    else owners.set(socket, [owner])
  }
  return owners
}

interface OpenTable {
  readonly task: KernelObject
  readonly table: Uint8Array
}

async function readOpenTables(image: KernelImage, faults: Faults): Promise<OpenTable[]> {
  const selection = new Selection(image.types, 'task_struct', ['pid', 'comm', 'files', 'tasks.next'])
  const tasks: KernelObject[] = []
  const head = image.addressOf('init_task') + BigInt(selection.offsetOf('tasks.next'))
  for await (const task of walkList(image, { head, selection, link: 'tasks', faults })) if (task.pointer('files') !== 0n) tasks.push(task)
  const unique = (addresses: readonly bigint[]): bigint[] => [...new Set(addresses)]
  const byAddress = (objects: readonly KernelObject[]): Map<bigint, KernelObject> => new Map(objects.map((object) => [object.address, object]))
  const files = byAddress(await readAll(image, new Selection(image.types, 'files_struct', ['fdt']), unique(tasks.map((task) => task.pointer('files'))), faults))
  const tables = byAddress(await readAll(image, new Selection(image.types, 'fdtable', ['fd', 'max_fds']), unique([...files.values()].map((file) => file.pointer('fdt'))), faults))
  const found = tasks.flatMap((task) => {
    const table = tables.get(files.get(task.pointer('files'))?.pointer('fdt') ?? 0n)
    const count = Math.min(table?.number('max_fds') ?? 0, mostFiles)
    return table === undefined || count === 0 ? [] : [{ task, address: table.pointer('fd'), count }]
  })
  let left = mostInAll
  const affordable = found.filter(({ count }) => (left -= count) >= 0)
  const pieces = await readPieces(image.memory, affordable.map(({ address, count }) => ({ address, length: count * 8 })), faults)
  return affordable.map(({ task, count }, i) => ({ task, table: pieces[i]?.bytes(0, count * 8) ?? new Uint8Array(0) }))
}

function filesIn(task: KernelObject, table: Uint8Array): { task: KernelObject; fd: number; file: bigint }[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength)
  const files: { task: KernelObject; fd: number; file: bigint }[] = []
  for (let fd = 0; fd * 8 < table.length; fd++) {
    const file = view.getBigUint64(fd * 8, true)
    if (file !== 0n) files.push({ task, fd, file })
  }
  return files
}
