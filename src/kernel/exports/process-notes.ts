/**
 * What a core file notes of a process beside its memory: who it was, its threads and their registers, its mappings.
 *
 * Sources: include/linux/elfcore-compat.h and linux/elfcore.h (layouts, of x86-64), fs/binfmt_elf.c (contents and order) and
 * arch/x86/include/asm/ptrace.h of the Linux kernel.
 */
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { pageBytes } from '../page-table-format.js'
import type { ProcessMemory } from '../process-memory.js'
import { readThreads } from '../views/find-task.js'
import type { Mapping } from '../views/maps.js'
import { attempt, type Faults } from '../walks.js'
import type { ElfNote } from './elf-writer.js'

export const noteTypes = { prstatus: 1, fpregset: 2, prpsinfo: 3, auxv: 6, file: 0x4649_4c45 } as const
export const prstatusBytes = 336
const prpsinfoBytes = 136
const registersAt = 112
const argumentBytes = 80
const fpregsetBytes = 512
const defaultThreadBytes = 16 << 10

/** The registers that the kernel's entry code saves, in the order of `user_regs_struct`, by their names in `pt_regs`. */
const savedRegisters = ['r15', 'r14', 'r13', 'r12', 'bp', 'bx', 'r11', 'r10', 'r9', 'r8', 'ax', 'cx', 'dx', 'si', 'di', 'orig_ax', 'ip', 'cs', 'flags', 'sp', 'ss'] as const
/** Those behind them, which are kept with the thread. */
const threadRegisters = ['thread.fsbase', 'thread.gsbase', 'thread.ds', 'thread.es', 'thread.fsindex', 'thread.gsindex'] as const

export interface NotedThread {
  readonly pid: number
  /** Its registers in user mode are where it entered the kernel. A thread of the kernel's own has none. */
  readonly hasRegisters: boolean
}

export interface ProcessNotes {
  readonly notes: ElfNote[]
  readonly threads: NotedThread[]
}

export interface NotesOptions {
  readonly image: KernelImage
  /** Address of any task of the process. */
  readonly task: bigint
  readonly mm: bigint
  readonly memory: ProcessMemory
  readonly mappings: readonly Mapping[]
  readonly faults: Faults
}

interface Identity {
  readonly parent: number
  readonly group: number
  readonly session: number
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED, and what reading throws */
export async function readProcessNotes({ image, task, mm, memory, mappings, faults }: NotesOptions): Promise<ProcessNotes> {
  const selection = new Selection(image.types, 'task_struct',
    ['pid', 'tgid', 'comm', 'stack', 'flags', 'static_prio', 'real_parent', 'real_cred', 'signal', 'thread_node.next', 'thread.fsbase', 'thread.gsbase'],
    ['__state', 'state', 'utime', 'stime', 'blocked.sig[0]', 'thread.ds', 'thread.es', 'thread.fsindex', 'thread.gsindex', 'thread.fpu.fpstate'])
  const asked = await image.readObject(selection, task)
  const threads = await readThreads(image, asked.pointer('signal'), selection, faults)
  // A thread that hit a damaged list is still the one that was asked for.
  if (!threads.some(({ address }) => address === task)) threads.unshift(asked)
  const leader = threads[0] as KernelObject
  const identity = await readIdentity(leader, faults)
  const registers = await readRegisters(image, threads, faults)
  const states = await readFloatingPoint(image, threads)
  const perThread = threads.map((thread, i) => {
    const state = states[i]
    const status: ElfNote = { name: 'CORE', type: noteTypes.prstatus, description: packStatus(thread, identity, registers[i]) }
    return { status, rest: state === undefined ? [] : [{ name: 'CORE', type: noteTypes.fpregset, description: state }] }
  })
  const ofProcess: ElfNote[] = [
    { name: 'CORE', type: noteTypes.prpsinfo, description: await packInfo(image, leader, identity, mm, memory, faults) },
    { name: 'CORE', type: noteTypes.auxv, description: await readAuxiliaryVector(image, mm) },
    { name: 'CORE', type: noteTypes.file, description: packFiles(mappings) },
  ]
  return {
    notes: perThread.flatMap(({ status, rest }, i) => [status, ...(i === 0 ? ofProcess : []), ...rest]),
    threads: threads.map((thread, i) => ({ pid: thread.signedNumber('pid'), hasRegisters: registers[i] !== undefined })),
  }
}

/** By the kernel's own pointers; what cannot be followed is 0, as for a process outside of every group. */
async function readIdentity(leader: KernelObject, faults: Faults): Promise<Identity> {
  // PIDTYPE_PGID and PIDTYPE_SID.
  const paths = ['real_parent.tgid', 'signal.pids[2].numbers[0].nr', 'signal.pids[3].numbers[0].nr']
  const [parent, group, session] = (await Promise.all(paths.map((path) => attempt(faults, () => leader.field(path))))).map((number) => Number(number ?? 0n)) as [number, number, number]
  return { parent, group, session }
}

/** `THREAD_SIZE`: the linker places the first task's stack between two symbols. */
function threadBytes(image: KernelImage): number {
  const [start, end] = [image.symbols.find('__start_init_task')?.address, image.symbols.find('__end_init_task')?.address]
  const bytes = start === undefined || end === undefined ? defaultThreadBytes : Number(end - start)
  return bytes >= pageBytes && bytes <= 1 << 20 && bytes % pageBytes === 0 ? bytes : defaultThreadBytes
}

/** At the top of its kernel stack each thread keeps what it entered the kernel with. */
async function readRegisters(image: KernelImage, threads: readonly KernelObject[], faults: Faults): Promise<(KernelObject | undefined)[]> {
  const selection = new Selection(image.types, 'pt_regs', savedRegisters)
  const id = image.types.find('pt_regs')?.id ?? 0
  // Kernels that know FRED leave room above it (TOP_OF_KERNEL_STACK_PADDING).
  const padding = image.has('asm_fred_entrypoint_user') ? 16 : 0
  const below = BigInt(threadBytes(image) - padding - image.types.sizeOf(id))
  const read = await image.readObjects(selection, threads.map((thread) => BigInt.asUintN(64, thread.pointer('stack') + below)))
  return read.map((registers) => {
    if (!(registers instanceof KernelObject)) return void faults.push(registers)
    // The two lowest bits of CS are the privilege level: 3 is user mode, and the kernel's own threads never come from there.
    return (registers.unsigned('cs') & 3n) === 3n ? registers : undefined
  })
}

/** `struct elf_prstatus`. */
function packStatus(thread: KernelObject, { parent, group, session }: Identity, registers: KernelObject | undefined): Uint8Array {
  const packed = new Uint8Array(prstatusBytes)
  const view = new DataView(packed.buffer)
  const has = (path: string): boolean => thread.selection.has(path)
  if (has('blocked.sig[0]')) view.setBigUint64(24, thread.unsigned('blocked.sig[0]'), true)
  for (const [i, id] of [thread.signedNumber('pid'), parent, group, session].entries()) view.setInt32(32 + i * 4, id, true)
  for (const [i, path] of ['utime', 'stime'].entries()) {
    if (!has(path)) continue
    const nanoseconds = thread.unsigned(path)
    view.setBigUint64(48 + i * 16, nanoseconds / 1_000_000_000n, true)
    view.setBigUint64(56 + i * 16, (nanoseconds % 1_000_000_000n) / 1000n, true)
  }
  if (registers === undefined) return packed
  for (const [i, name] of savedRegisters.entries()) view.setBigUint64(registersAt + i * 8, registers.unsigned(name), true)
  for (const [i, path] of threadRegisters.entries()) if (has(path)) view.setBigUint64(registersAt + (savedRegisters.length + i) * 8, thread.unsigned(path), true)
  return packed
}

/** `struct elf_prpsinfo`. */
async function packInfo(image: KernelImage, leader: KernelObject, { parent, group, session }: Identity, mm: bigint, memory: ProcessMemory, faults: Faults): Promise<Uint8Array> {
  const packed = new Uint8Array(prpsinfoBytes)
  const view = new DataView(packed.buffer)
  const state = leader.selection.has('__state') ? leader.number('__state') : leader.selection.has('state') ? leader.number('state') : 0
  const bit = state === 0 ? 0 : 32 - Math.clz32(state & -state)
  view.setUint8(0, bit)
  view.setUint8(1, ('RSDTZW'[bit] ?? '.').charCodeAt(0))
  view.setUint8(2, bit === 4 ? 1 : 0)
  view.setInt8(3, leader.signedNumber('static_prio') - 120)
  view.setBigUint64(8, leader.unsigned('flags'), true)
  for (const [i, path] of ['real_cred.uid', 'real_cred.gid'].entries()) view.setUint32(16 + i * 4, Number((await attempt(faults, () => leader.field(path))) ?? 0n), true)
  for (const [i, id] of [leader.signedNumber('tgid'), parent, group, session].entries()) view.setInt32(24 + i * 4, id, true)
  packed.set(leader.bytes('comm').subarray(0, 16), 40)
  packed.set(await readArguments(image, mm, memory), 56)
  return packed
}

/** The command line, with blanks between its words, as `elf_prpsinfo` has it. */
async function readArguments(image: KernelImage, mm: bigint, memory: ProcessMemory): Promise<Uint8Array> {
  const found = await image.readObject(new Selection(image.types, 'mm_struct', ['arg_start', 'arg_end']), mm)
  const [start, end] = [found.unsigned('arg_start'), found.unsigned('arg_end')]
  if (end <= start || start >= 1n << 56n) return new Uint8Array(0)
  const { bytes } = await memory.read(start, Math.min(argumentBytes - 1, Number(end - start)))
  return bytes.map((byte, i) => (byte === 0 && i < bytes.length - 1 ? 0x20 : byte))
}

/** `mm_struct.saved_auxv`, up to its end (`AT_NULL`). */
async function readAuxiliaryVector(image: KernelImage, mm: bigint): Promise<Uint8Array> {
  const found = await image.readObject(new Selection(image.types, 'mm_struct', ['saved_auxv']), mm)
  const bytes = found.bytes('saved_auxv')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let end = 0
  while (end + 16 <= bytes.length && view.getBigUint64(end, true) !== 0n) end += 16
  return bytes.subarray(0, Math.min(end + 16, bytes.length))
}

/** `NT_FILE`: which files are mapped where. */
function packFiles(mappings: readonly Mapping[]): Uint8Array {
  const mapped = mappings.filter(({ name, inode }) => name?.startsWith('/') === true && inode !== 0n)
  const names = Buffer.from(mapped.map(({ name }) => `${name as string}\0`).join(''))
  const packed = new Uint8Array(16 + mapped.length * 24 + names.length)
  const view = new DataView(packed.buffer)
  view.setBigUint64(0, BigInt(mapped.length), true)
  view.setBigUint64(8, BigInt(pageBytes), true)
  for (const [i, { start, end, offset }] of mapped.entries()) {
    for (const [j, word] of [start, end, offset / BigInt(pageBytes)].entries()) view.setBigUint64(16 + i * 24 + j * 8, word, true)
  }
  packed.set(names, 16 + mapped.length * 24)
  return packed
}

/** FXSAVE areas, where this kernel keeps them behind a pointer (since 5.16); undefined where there is none. */
async function readFloatingPoint(image: KernelImage, threads: readonly KernelObject[]): Promise<(Uint8Array | undefined)[]> {
  const isKnown = threads[0]?.selection.has('thread.fpu.fpstate') === true && image.types.member('fpstate', 'regs.xsave.header.xfeatures') !== undefined
  if (!isKnown) return []
  const selection = new Selection(image.types, 'fpstate', ['regs.fxsave', 'regs.xsave.header.xfeatures'])
  const read = await image.readObjects(selection, threads.map((thread) => thread.pointer('thread.fpu.fpstate')))
  return read.map((state) => {
    if (!(state instanceof KernelObject) || state.bytes('regs.fxsave').length !== fpregsetBytes) return undefined
    const packed = Uint8Array.from(state.bytes('regs.fxsave'))
    const features = state.unsigned('regs.xsave.header.xfeatures')
    // What is not among the features was not saved, because it stands as the processor begins with it.
    if ((features & 1n) === 0n) packed.fill(0, 0, 24).fill(0, 32, 160).set([0x7f, 0x03])
    if ((features & 2n) === 0n) packed.fill(0, 160, 416)
    return packed
  })
}
