/**
 * The memory mappings of a process, as `/proc/PID/maps` prints them.
 *
 * Source: fs/proc/task_mmu.c and include/linux/mm_types.h of the Linux kernel.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { walkMapleTree } from '../maple-tree.js'
import { pageBytes } from '../page-table-format.js'
import { walkTree, type Faults } from '../walks.js'
import { findTask, ownMemory } from './find-task.js'
import { PathReader, readTexts } from './paths.js'

/** `vm_flags`, as far as they are shown or decide what a page holds. */
export const vmFlags = { read: 0x1n, write: 0x2n, execute: 0x4n, shared: 0x8n, mayShare: 0x80n, pfnMap: 0x400n, io: 0x4000n, hugeTlb: 0x40_0000n } as const

/** A `vm_area_struct`, as it stands in memory. */
export interface Vma {
  readonly address: bigint
  readonly start: bigint
  /** Behind the last byte. */
  readonly end: bigint
  /** `vm_flags`. */
  readonly flags: bigint
  /** Of `start` in its file, in pages. */
  readonly pageOffset: bigint
  /** Address of the `file`; 0 where there is none. */
  readonly file: bigint
  readonly operations: bigint
  readonly privateData: bigint
  /** Address of the `anon_vma_name` that the program has given; 0 where it has not, or this kernel knows none. */
  readonly givenName: bigint
}

export interface Mapping {
  readonly start: bigint
  /** Behind the last byte. */
  readonly end: bigint
  /** `rwxp`, `---s`: as `/proc` prints them. */
  readonly permissions: string
  /** In the file, in bytes. */
  readonly offset: bigint
  readonly device: { readonly major: number; readonly minor: number }
  readonly inode: bigint
  /** A path, or `[heap]`, `[stack]`, `[vdso]`, …; undefined where it has none, or it cannot be read. */
  readonly name: string | undefined
}

/** Addresses of one process end here on every processor; in 5-level page tables too. */
const endOfUserAddresses = 1n << 56n
/** Structures that are read in one batch. */
const batchObjects = 1 << 14
const mostNameBytes = 80

/**
 * @param mmAddress what `task_struct.mm` holds
 * @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED where there is no `mm_struct`, and what reading throws
 */
export async function readVmas(image: KernelImage, mmAddress: bigint): Promise<{ readonly vmas: Vma[]; readonly faults: Faults }> {
  const faults: Faults = []
  // A maple tree since 6.1, and a red-black tree before that (whose list, mm_struct.mmap, would take a read for each).
  const selection = new Selection(image.types, 'mm_struct', [], ['mm_mt.ma_root', 'mm_rb.rb_node'])
  if (!selection.has('mm_mt.ma_root') && !selection.has('mm_rb.rb_node')) throw new BackdoorsError('KERNEL_UNSUPPORTED', 'This kernel\'s struct mm_struct has neither mm_mt nor mm_rb.', { field: 'mm_struct.mm_mt' })
  const mm = await image.readObject(selection, mmAddress)
  const found = selection.has('mm_mt.ma_root') ? await fromMapleTree(image, mm.pointer('mm_mt.ma_root'), faults) : await fromRedBlackTree(image, mm.pointer('mm_rb.rb_node'), faults)
  const vmas: Vma[] = []
  for (const vma of found.map(vmaOf).sort((a, b) => (a.start < b.start ? -1 : 1))) {
    const isSound = vma.start < vma.end && vma.end <= endOfUserAddresses && vma.start % BigInt(pageBytes) === 0n && vma.end % BigInt(pageBytes) === 0n && (vmas.at(-1)?.end ?? 0n) <= vma.start
    if (isSound) vmas.push(vma)
    else faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `a mapping of a process of ${image.peer} from 0x${vma.start.toString(16)} to 0x${vma.end.toString(16)}`, { peer: image.peer, address: vma.address }))
  }
  return { vmas, faults }
}

const vmaMembers = ['vm_start', 'vm_end', 'vm_flags', 'vm_pgoff', 'vm_file', 'vm_ops', 'vm_private_data'] as const

async function fromMapleTree(image: KernelImage, root: bigint, faults: Faults): Promise<KernelObject[]> {
  const entries = await walkMapleTree(image, root, faults)
  return await readAll(image, new Selection(image.types, 'vm_area_struct', vmaMembers, ['anon_name', 'shared']), entries.map(({ entry }) => entry), faults)
}

async function fromRedBlackTree(image: KernelImage, root: bigint, faults: Faults): Promise<KernelObject[]> {
  const selection = new Selection(image.types, 'vm_area_struct', [...vmaMembers, 'vm_rb.rb_left', 'vm_rb.rb_right'], ['anon_name', 'shared'])
  return await walkTree(image, { root, selection, node: 'vm_rb', faults })
}

function vmaOf(vma: KernelObject): Vma {
  const [file, flags] = [vma.pointer('vm_file'), vma.unsigned('vm_flags')]
  return {
    address: vma.address, file, flags, start: vma.unsigned('vm_start'), end: vma.unsigned('vm_end'), pageOffset: vma.unsigned('vm_pgoff'),
    operations: vma.pointer('vm_ops'), privateData: vma.pointer('vm_private_data'), givenName: givenNameOf(vma),
  }
}

/** Where the name shares its place with the links of a file's mappings, it is a name only where there is no file. */
function givenNameOf(vma: KernelObject): bigint {
  const { selection } = vma
  if (!selection.has('anon_name')) return 0n
  const [at, shared] = [selection.offsetOf('anon_name'), selection.has('shared') ? selection.field('shared').member : undefined]
  const isUnion = shared !== undefined && at >= shared.offset && at < shared.offset + shared.length
  return isUnion && vma.pointer('vm_file') !== 0n ? 0n : vma.pointer('anon_name')
}

/** Reads many structures, some thousands at a time; what cannot be read is left out and noted. */
async function readAll(image: KernelImage, selection: Selection, addresses: readonly bigint[], faults: Faults): Promise<KernelObject[]> {
  const found: KernelObject[] = []
  for (let at = 0; at < addresses.length; at += batchObjects) {
    for (const object of await image.readObjects(selection, addresses.slice(at, at + batchObjects))) {
      if (object instanceof KernelObject) found.push(object)
      else faults.push(object)
    }
  }
  return found
}

/**
 * The mappings of a process, or of a thread's process; none for a thread of the kernel.
 *
 * @example
 * const { mappings } = await readMaps(image, 1)
 * for (const mapping of mappings) console.log(formatMapping(mapping))
 * @throws BackdoorsError INVALID_ARGUMENT where there is no such process, KERNEL_UNSUPPORTED, and what reading throws
 */
export async function readMaps(image: KernelImage, pid: number): Promise<{ readonly mappings: Mapping[]; readonly faults: Faults }> {
  const faults: Faults = []
  const task = await findTask(image, pid, new Selection(image.types, 'task_struct', ['pid', 'flags', 'mm']), faults)
  if (task === undefined) throw new BackdoorsError('INVALID_ARGUMENT', `${image.peer} has no process ${pid}.`, { peer: image.peer, field: 'pid' })
  const mm = ownMemory(task)
  if (mm === 0n) return { mappings: [], faults }
  const { vmas, faults: missing } = await readVmas(image, mm)
  faults.push(...missing)
  return { mappings: await describeVmas(image, mm, vmas, faults), faults }
}

/** What `/proc` says of mappings. @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED, and what reading throws */
export async function describeVmas(image: KernelImage, mm: bigint, vmas: readonly Vma[], faults: Faults): Promise<Mapping[]> {
  const files = await readFiles(image, [...new Set(vmas.map(({ file }) => file))].filter((file) => file !== 0n), faults)
  const names = await readOtherNames(image, mm, vmas, faults)
  return vmas.map((vma, i) => {
    const file = files.get(vma.file)
    const { start, end, flags, pageOffset } = vma
    const offset = vma.file === 0n ? 0n : BigInt.asUintN(64, pageOffset * BigInt(pageBytes))
    return { start, end, permissions: permissionsOf(flags), offset, device: deviceOf(file?.device ?? 0), inode: file?.inode ?? 0n, name: names[i] ?? file?.path }
  })
}

const permissionsOf = (flags: bigint): string =>
  [[vmFlags.read, 'r', '-'], [vmFlags.write, 'w', '-'], [vmFlags.execute, 'x', '-'], [vmFlags.mayShare, 's', 'p']].map(([flag, yes, no]) => ((flags & (flag as bigint)) === 0n ? no : yes)).join('')

/** `dev_t` within the kernel: 12 bits, and 20 bits. */
const deviceOf = (device: number): Mapping['device'] => ({ major: device >>> 20, minor: device & 0xf_ffff })

interface OpenFile {
  readonly path: string | undefined
  readonly device: number | undefined
  readonly inode: bigint | undefined
}

async function readFiles(image: KernelImage, addresses: readonly bigint[], faults: Faults): Promise<Map<bigint, OpenFile>> {
  const files = await readAll(image, new Selection(image.types, 'file', ['f_path.mnt', 'f_path.dentry', 'f_inode']), addresses, faults)
  const inodes = new Map((await readAll(image, new Selection(image.types, 'inode', ['i_ino', 'i_sb']), unique(files, 'f_inode'), faults)).map((inode) => [inode.address, inode]))
  const systems = new Map((await readAll(image, new Selection(image.types, 'super_block', ['s_dev']), unique([...inodes.values()], 'i_sb'), faults)).map((system) => [system.address, system]))
  const paths = await new PathReader(image, faults).resolve(files.map((file) => ({ mount: file.pointer('f_path.mnt'), entry: file.pointer('f_path.dentry') })))
  return new Map(files.map((file, i) => {
    const inode = inodes.get(file.pointer('f_inode'))
    const system = inode && systems.get(inode.pointer('i_sb'))
    return [file.address, { path: paths[i], inode: inode?.unsigned('i_ino'), device: system?.number('s_dev') }]
  }))
}

const unique = (objects: readonly KernelObject[], pointer: string): bigint[] => [...new Set(objects.map((object) => object.pointer(pointer)))]

/** Names of mappings that are not their file's: of the kernel's own pages, heap and stack, and those that a program gave. */
async function readOtherNames(image: KernelImage, mmAddress: bigint, vmas: readonly Vma[], faults: Faults): Promise<(string | undefined)[]> {
  const mm = await image.readObject(new Selection(image.types, 'mm_struct', ['start_brk', 'brk', 'start_stack']), mmAddress)
  const special = await readSpecialNames(image, vmas, faults)
  const named = vmas.filter(({ givenName }) => givenName !== 0n)
  const nameOffset = BigInt(image.types.member('anon_vma_name', 'name')?.offset ?? 0)
  const texts = await readTexts(image, named.map(({ givenName }) => ({ address: BigInt.asUintN(64, givenName + nameOffset), length: mostNameBytes })))
  const given = new Map<Vma, string>()
  for (const [i, text] of texts.entries()) {
    if (text instanceof BackdoorsError) faults.push(text)
    else given.set(named[i] as Vma, text)
  }
  const [heapStart, heapEnd, stack] = [mm.unsigned('start_brk'), mm.unsigned('brk'), mm.unsigned('start_stack')]
  return vmas.map((vma) => {
    const name = given.get(vma)
    if (vma.file !== 0n) return name === undefined ? undefined : `[anon_shmem:${name}]`
    if (vma.operations !== 0n && special.has(vma.privateData)) return special.get(vma.privateData)
    if (vma.start < heapEnd && vma.end > heapStart) return '[heap]'
    if (vma.start <= stack && vma.end >= stack) return '[stack]'
    return name === undefined ? undefined : `[anon:${name}]`
  })
}

/** By what `vm_private_data` holds: a `vm_special_mapping`, where the mapping's operations say so. */
async function readSpecialNames(image: KernelImage, vmas: readonly Vma[], faults: Faults): Promise<Map<bigint, string>> {
  const candidates = vmas.filter(({ file, operations }) => file === 0n && operations !== 0n)
  const namer = image.symbols.find('special_mapping_name')?.address
  const operations = await readAll(image, new Selection(image.types, 'vm_operations_struct', ['name']), [...new Set(candidates.map((vma) => vma.operations))], faults)
  const isSpecial = new Set(operations.filter((found) => namer !== undefined && found.pointer('name') === namer).map(({ address }) => address))
  const pages = [...new Set(candidates.filter((vma) => isSpecial.has(vma.operations)).map(({ privateData }) => privateData))]
  const mappings = await readAll(image, new Selection(image.types, 'vm_special_mapping', ['name']), pages, faults)
  const texts = await readTexts(image, mappings.map((mapping) => ({ address: mapping.pointer('name'), length: mostNameBytes })))
  const names = new Map<bigint, string>()
  for (const [i, text] of texts.entries()) {
    if (text instanceof BackdoorsError) faults.push(text)
    else names.set((mappings[i] as KernelObject).address, text)
  }
  return names
}

/** `/proc` begins names in this column. */
const nameColumn = 73

/** The line that `/proc/PID/maps` has. */
export function formatMapping({ start, end, permissions, offset, device, inode, name }: Mapping): string {
  const hex = (value: bigint | number, digits: number): string => value.toString(16).padStart(digits, '0')
  const line = `${hex(start, 8)}-${hex(end, 8)} ${permissions} ${hex(offset, 8)} ${hex(device.major, 2)}:${hex(device.minor, 2)} ${inode} `
  // A line break in a name would begin a mapping that is none.
  return name === undefined ? line : `${line.padEnd(nameColumn)}${name.replaceAll('\n', '\\012')}`
}
