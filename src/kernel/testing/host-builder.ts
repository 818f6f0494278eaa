/** Processes with files that they map, made by hand in a machine of their own, with the recorded host's types. */
import { encodeHeader } from '../../region/header.js'
import { planRegion } from '../../region/layout.js'
import { tinyGeometry } from '../../region/testing/writer-box.js'
import { Kallsyms } from '../kallsyms.js'
import { KernelImage } from '../kernel-image.js'
import { pageBytes, x86FourLevel } from '../page-table-format.js'
import { builtNote } from './built-image.js'
import { packSymbols } from './kallsyms-builder.js'
import { writeMember } from './members.js'
import { PageTables } from './page-tables.js'

const base = 0xffff_8880_0000_0000n
/** Of the RAM, in pages: page tables, what the kernel has allocated, and what processes have mapped. */
const [firstKernelPage, firstFrame, pages] = [64, 256, 512]
const sharedWritable = 0x8n | 0x2n
const kernelThread = 0x0020_0000n

export interface BuiltFile {
  readonly uid?: number
  readonly mode?: number
  readonly inode?: number
}

export interface BuiltMapping {
  readonly start: bigint
  /** Where its pages are, in pages; undefined is a hole. */
  readonly frames: readonly (number | undefined)[]
  /** Address of the file; default: a file that only its owner, 0, may open. */
  readonly file?: bigint
  readonly flags?: bigint
  /** In the file, in pages. */
  readonly pageOffset?: bigint
}

export interface BuiltProcess {
  readonly mm: bigint
  readonly pgd: bigint
  /** Physical address of its root table. */
  readonly root: number
  readonly task: bigint
}

/** Pages of a region that `addRegion` makes. */
export const regionPages = planRegion(tinyGeometry).regionBytes / pageBytes

export class HostBuilder {
  readonly #tables = new PageTables(x86FourLevel, pages)
  readonly #view: DataView
  readonly #host: KernelImage
  readonly #initTask: number
  #lastTask: number
  #next = firstKernelPage * pageBytes
  /** Pages that follow each other in a file do not in memory. */
  #nextFrame = pages - 1

  constructor(host: KernelImage) {
    this.#host = host
    this.#view = new DataView(this.#tables.ram.buffer)
    for (let page = 0; page < pages; page++) this.#tables.map(base + BigInt(page * pageBytes), page * pageBytes)
    this.#initTask = this.#lastTask = this.#allocate('task_struct')
    this.#linkTask(this.#initTask)
  }

  /** As it stands now. */
  image(): KernelImage {
    const symbols = new Kallsyms(packSymbols([{ type: 'D', name: 'init_task', address: this.addressOf(this.#initTask) }], base - 4096n))
    return new KernelImage({ physical: this.#tables.physical, note: builtNote, format: x86FourLevel, memory: this.#tables.open(), symbols, types: this.#host.types, notePhysical: 0 })
  }

  get initTask(): bigint {
    return this.addressOf(this.#initTask)
  }

  addressOf(at: number): bigint {
    return base + BigInt(at)
  }

  /** @returns address of its `struct file` */
  addFile({ uid = 0, mode = 0o100_600, inode = 1 }: BuiltFile = {}): bigint {
    const [file, node] = [this.#allocate('file'), this.#allocate('inode')]
    this.set('file', this.addressOf(file), 'f_inode', this.addressOf(node))
    for (const [member, value] of [['i_uid.val', uid], ['i_mode', mode], ['i_ino', inode]] as const) this.set('inode', this.addressOf(node), member, BigInt(value))
    return this.addressOf(file)
  }

  /** @returns pages, in the order of a file */
  addFrames(count: number): number[] {
    return Array.from({ length: count }, () => {
      if (this.#nextFrame < firstFrame) throw new Error('no RAM left')
      return this.#nextFrame--
    })
  }

  /** The pages of a region as a daemon makes it. */
  addRegion(node = 'a', incarnation = 7n): number[] {
    const frames = this.addFrames(regionPages)
    this.writeHeader(frames, node, incarnation)
    return frames
  }

  writeHeader([first]: readonly number[], node: string, incarnation: bigint): void {
    this.#tables.ram.set(encodeHeader(node, 'test', incarnation, tinyGeometry), (first as number) * pageBytes)
  }

  addProcess(mappings: readonly BuiltMapping[]): BuiltProcess {
    const [mm, task, root] = [this.#allocate('mm_struct'), this.#allocate('task_struct'), this.#tables.addSpace()]
    const vmas = mappings.map((mapping) => this.#addMapping(mapping, root))
    this.set('mm_struct', this.addressOf(mm), 'pgd', this.addressOf(root))
    this.set('mm_struct', this.addressOf(mm), 'mm_mt.ma_root', this.#addTree(mappings, vmas))
    this.set('task_struct', this.addressOf(task), 'mm', this.addressOf(mm))
    this.#linkTask(task)
    return { mm: this.addressOf(mm), pgd: this.addressOf(root), root, task: this.addressOf(task) }
  }

  /** A thread of the kernel that has borrowed a process's memory. */
  addKernelThread(mm: bigint): void {
    const task = this.#allocate('task_struct')
    this.set('task_struct', this.addressOf(task), 'mm', mm)
    this.set('task_struct', this.addressOf(task), 'flags', kernelThread)
    this.#linkTask(task)
  }

  /** Has a page of a process elsewhere, or nowhere. */
  mapPage({ root }: BuiltProcess, address: bigint, frame: number | undefined): void {
    const entry = this.#tables.map(address, (frame ?? 0) * pageBytes, 12, root)
    if (frame === undefined) this.#tables.setEntry(entry, 0n)
  }

  set(structure: string, address: bigint, path: string, value: bigint): void {
    writeMember(this.#view, this.#host.types, { structure, start: Number(address - base), path }, value)
  }

  #addMapping({ start, frames, file, flags = sharedWritable, pageOffset = 0n }: BuiltMapping, root: number): bigint {
    const vma = this.addressOf(this.#allocate('vm_area_struct'))
    const members = { vm_start: start, vm_end: start + BigInt(frames.length * pageBytes), vm_flags: flags, vm_pgoff: pageOffset, vm_file: file ?? this.addFile() }
    for (const [member, value] of Object.entries(members)) this.set('vm_area_struct', vma, member, value)
    for (const [i, frame] of frames.entries()) if (frame !== undefined) this.#tables.map(start + BigInt(i * pageBytes), frame * pageBytes, 12, root)
    return vma
  }

  /** One leaf: gaps and mappings take turns. @returns what `ma_root` holds */
  #addTree(mappings: readonly BuiltMapping[], vmas: readonly bigint[]): bigint {
    const node = this.addressOf(this.#allocate('maple_node'))
    for (const [i, { start, frames }] of mappings.entries()) {
      this.set('maple_node', node, `mr64.pivot[${2 * i}]`, start - 1n)
      this.set('maple_node', node, `mr64.pivot[${2 * i + 1}]`, start + BigInt(frames.length * pageBytes) - 1n)
      this.set('maple_node', node, `mr64.slot[${2 * i + 1}]`, vmas[i] as bigint)
    }
    return node | (1n << 3n) | 6n
  }

  #linkTask(task: number): void {
    const link = (at: number): bigint => this.addressOf(at) + BigInt(this.#host.types.member('task_struct', 'tasks')?.offset ?? NaN)
    this.set('task_struct', this.addressOf(this.#lastTask), 'tasks.next', link(task))
    this.set('task_struct', this.addressOf(task), 'tasks.next', link(this.#initTask))
    this.#lastTask = task
  }

  #allocate(structure: string): number {
    const { types } = this.#host
    const at = this.#next
    // Nodes of a maple tree have to be aligned so.
    this.#next = Math.ceil((at + types.sizeOf(types.find(structure)?.id ?? 0)) / 256) * 256
    if (this.#next > firstFrame * pageBytes) throw new Error('no RAM left')
    return at
  }
}
