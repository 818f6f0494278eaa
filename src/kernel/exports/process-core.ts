/** A core file of a process whose machine has died, as the machine's kernel would have written it. */
import { BackdoorsError } from '../../errors.js'
import { elfMachines } from '../elf.js'
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'
import { processMemory, type ProcessMemory } from '../process-memory.js'
import { describeVmas, vmFlags, type Vma } from '../views/maps.js'
import { findTask, ownMemory } from '../views/find-task.js'
import { attempt, type Faults } from '../walks.js'
import { headBytes, packHead, packNotes, segmentFlags, type ElfSegment } from './elf-writer.js'
import { readProcessNotes, type NotedThread } from './process-notes.js'
import { exportResumably, identityNote, type Exported } from './resumable-export.js'
import type { FilePiece, StreamOptions } from './sparse-file.js'

export interface ProcessCoreOptions extends StreamOptions {
  readonly image: KernelImage
  /** Of the process, or of any of its threads. */
  readonly pid: number
  /** The file; until it is whole it is called `PATH.part`. */
  readonly path: string
}

export interface ProcessCoreResult extends Exported {
  readonly path: string
  /** Length of the file. */
  readonly fileBytes: number
  /** Memory of the process that is there. */
  readonly memoryBytes: number
  /** Memory of the process that is not there: swapped out, or of a file and not in its cache. */
  readonly missingBytes: number
  /** What of `missingBytes` reads as zeros in the file, because telling it apart would take too many segments. */
  readonly zeroFilledBytes: number
  readonly segments: number
  /** The first one is the process's first thread. */
  readonly threads: readonly NotedThread[]
  readonly faults: Faults
}

/** Segments that are added to tell what is missing from what is there. */
const mostSplits = 60_000
/** Memory that was reserved and never touched takes no room in the file from so many bytes on. */
const reservedBytes = 1 << 30

/**
 * Writes an ELF core that debuggers open. Memory that is missing is left out of the file (`p_filesz`), so that a debugger looks
 * for it in the program's own files; memory that was never touched is zeros. An export that was interrupted leaves `PATH.part`; the
 * next one of the same process goes on from there, if it finds the process as it was: a machine that has died keeps it so.
 *
 * @throws BackdoorsError INVALID_ARGUMENT where there is no such process, or it is a thread of the kernel; KERNEL_UNSUPPORTED,
 * FILE_IN_USE, SYSTEM_CALL_FAILED, and what reading throws
 */
export async function writeProcessCore(options: ProcessCoreOptions): Promise<ProcessCoreResult> {
  const { image, pid, path } = options
  if (!image.format.name.startsWith('x86-64')) throw new BackdoorsError('KERNEL_UNSUPPORTED', `Core files are written of x86-64, and ${image.peer} is another processor (${image.format.name}).`, { peer: image.peer })
  const faults: Faults = []
  const task = await findTask(image, pid, new Selection(image.types, 'task_struct', ['pid', 'tgid', 'flags', 'mm']), faults)
  const mm = task === undefined ? 0n : ownMemory(task)
  if (task === undefined || mm === 0n) throw new BackdoorsError('INVALID_ARGUMENT', `${image.peer} has no process ${pid}${task ? ' with memory of its own: it is a thread of the kernel, or has ended' : ''}.`, { peer: image.peer, field: 'pid' })
  const memory = await processMemory(image, mm)
  const mappings = await describeVmas(image, mm, memory.vmas, faults)
  const { notes, threads } = await readProcessNotes({ image, task: task.address, mm, memory, mappings, faults })
  const packed = packNotes([...notes, await identityNote(image, task.unsigned('tgid'), mm, await startOf(task))])
  const plan = await planSegments(memory)
  const segments = placeSegments(plan.segments, packed.length)
  const fileBytes = segments.reduce((end, { offset, fileBytes: length }) => Math.max(end, offset + length), 0)
  const head = packHead(elfMachines.x86, packed, segments)
  const exported = await exportResumably({ ...options, head, physical: image.physical, pieces: piecesOf(memory, segments), memoryBytes: plan.presentBytes, fileBytes })
  const { presentBytes: memoryBytes, missingBytes, zeroFilledBytes } = plan
  return { path, fileBytes, ...exported, memoryBytes, missingBytes, zeroFilledBytes, segments: segments.length, threads, faults: [...faults, ...memory.faults] }
}

/** When the process began, in nanoseconds: numbers of processes are used again. 0 where this kernel does not say, or it cannot be read. */
async function startOf(task: KernelObject): Promise<bigint> {
  const { types } = task.selection
  const member = ['start_boottime', 'real_start_time'].find((path) => types.member('task_struct', path))
  return member === undefined ? 0n : ((await attempt([], () => task.field(`group_leader.${member}`))) ?? 0n)
}

interface PlannedSegment {
  readonly address: bigint
  length: number
  readonly isInFile: boolean
  readonly flags: number
}

interface Plan {
  readonly segments: PlannedSegment[]
  presentBytes: number
  missingBytes: number
  zeroFilledBytes: number
}

/** One segment for each mapping, or for each part of it that is there or is missing. */
async function planSegments(memory: ProcessMemory): Promise<Plan> {
  const plan: Plan = { segments: [], presentBytes: 0, missingBytes: 0, zeroFilledBytes: 0 }
  let splits = 0
  for (const vma of memory.vmas) {
    let last: PlannedSegment | undefined
    for await (const { address, length, kind } of memory.runs(vma)) {
      const isInFile = kind === 'memory' || (kind === 'zero' && length < reservedBytes)
      if (kind === 'memory') plan.presentBytes += length
      if (kind === 'missing') plan.missingBytes += length
      const isFilled = last?.isInFile === true && kind === 'missing' && splits >= mostSplits
      if (isFilled) plan.zeroFilledBytes += length
      if (last !== undefined && (last.isInFile === isInFile || isFilled)) last.length += length
      else {
        if (last !== undefined) splits++
        last = { address, length, isInFile, flags: flagsOf(vma) }
        plan.segments.push(last)
      }
    }
  }
  return plan
}

const flagsOf = ({ flags }: Vma): number =>
  ((flags & vmFlags.read) === 0n ? 0 : segmentFlags.read) | ((flags & vmFlags.write) === 0n ? 0 : segmentFlags.write) | ((flags & vmFlags.execute) === 0n ? 0 : segmentFlags.execute)

function placeSegments(planned: readonly PlannedSegment[], noteBytes: number): ElfSegment[] {
  let offset = headBytes(noteBytes, planned.length)
  return planned.map(({ address, length, isInFile, flags }) => {
    const segment = { offset, virtual: address, physical: 0n, fileBytes: isInFile ? length : 0, memoryBytes: length, flags }
    offset += segment.fileBytes
    return segment
  })
}

/** The tables are walked again, for they may be larger than what can be remembered of them. */
async function* piecesOf(memory: ProcessMemory, segments: readonly ElfSegment[]): AsyncGenerator<FilePiece> {
  let next = 0
  for (const vma of memory.vmas) {
    for await (const run of memory.runs(vma)) {
      while (next < segments.length && endOf(segments[next] as ElfSegment) <= run.address) next++
      const segment = segments[next]
      // A machine that still runs may have changed its tables since the segments were planned.
      const isPlanned = segment !== undefined && segment.fileBytes > 0 && run.address >= segment.virtual && run.address + BigInt(run.length) <= endOf(segment)
      if (run.kind === 'memory' && isPlanned) yield { offset: segment.offset + Number(run.address - segment.virtual), physical: run.physical, length: run.length }
    }
  }
}

const endOf = ({ virtual, memoryBytes }: ElfSegment): bigint => virtual + BigInt(memoryBytes)
