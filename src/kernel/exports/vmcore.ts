/**
 * A vmcore: all RAM of a machine in one file, as `/proc/vmcore` of a kdump kernel has it, for `crash` and `makedumpfile`.
 *
 * Source: fs/proc/vmcore.c and kernel/crash_core.c (crash_prepare_elf64_headers) of the Linux kernel.
 */
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import { elfMachines } from '../elf.js'
import type { KernelImage } from '../kernel-image.js'
import { pageBytes, x86FiveLevel } from '../page-table-format.js'
import type { RamSpan } from '../physical-memory.js'
import { wordOf } from '../slice.js'
import { cpusOf, maskRange } from '../views/cpu-mask.js'
import type { Faults } from '../walks.js'
import { headBytes, packHead, packNotes, segmentFlags, type ElfNote, type ElfSegment } from './elf-writer.js'
import { noteTypes, prstatusBytes } from './process-notes.js'
import { exportResumably, identityNote, type Exported } from './resumable-export.js'
import type { FilePiece, StreamOptions } from './sparse-file.js'

export interface VmcoreOptions extends StreamOptions {
  readonly image: KernelImage
  /** The file; until it is whole it is called `PATH.part`. */
  readonly path: string
}

export interface VmcoreResult extends Exported {
  readonly path: string
  /** Length of the file. */
  readonly fileBytes: number
  /** All RAM, in bytes. */
  readonly ramBytes: number
  readonly cpus: number
  readonly faults: Faults
}

/** `__page_offset` where the kernel does not move its direct mapping (Documentation/x86/x86_64/mm.rst). */
const directMapping = { fourLevels: 0xffff_8880_0000_0000n, fiveLevels: 0xff11_0000_0000_0000n } as const
const mostCpus = 8192
const allAccess = segmentFlags.read | segmentFlags.write | segmentFlags.execute

/**
 * Writes a vmcore. An export that was interrupted leaves `PATH.part`; the next one of the same machine, not started anew since,
 * goes on from there.
 *
 * @throws BackdoorsError KERNEL_UNSUPPORTED, FILE_IN_USE, SYSTEM_CALL_FAILED, and what reading throws
 */
export async function writeVmcore(options: VmcoreOptions): Promise<VmcoreResult> {
  const { image, path } = options
  if (!image.format.name.startsWith('x86-64')) throw new BackdoorsError('KERNEL_UNSUPPORTED', `A vmcore is written of x86-64, and ${image.peer} is another processor (${image.format.name}).`, { peer: image.peer })
  const faults: Faults = []
  const cpus = await readCpuNotes(image, faults)
  const notes = packNotes([...cpus, { name: 'VMCOREINFO', type: 0, description: Buffer.from(image.note.text, 'latin1') }, await identityNote(image)])
  const { spans } = image.physical
  const segments = await placeSegments(image, spans, notes.length)
  const head = packHead(elfMachines.x86, notes, segments)
  const ramBytes = spans.reduce((sum, { length }) => sum + length, 0)
  const fileBytes = segments.reduce((end, { offset, fileBytes: length }) => Math.max(end, offset + length), head.length)
  const ofRam = segments.slice(-spans.length)
  const pieces = spans.map(({ physical, length }, i): FilePiece => ({ offset: (ofRam[i] as ElfSegment).offset, physical, length }))
  const exported = await exportResumably({ ...options, head, physical: image.physical, pieces, memoryBytes: ramBytes, fileBytes })
  return { path, fileBytes, ...exported, ramBytes, cpus: cpus.length, faults }
}

/** The kernel's own image by its own addresses, within the RAM that it lies in; and all RAM by those of the direct mapping. */
async function placeSegments(image: KernelImage, spans: readonly RamSpan[], noteBytes: number): Promise<ElfSegment[]> {
  const base = image.has('page_offset_base') ? await image.variable('page_offset_base') : image.format === x86FiveLevel ? directMapping.fiveLevels : directMapping.fourLevels
  const text = await locateText(image, spans)
  let offset = headBytes(noteBytes, spans.length + (text === undefined ? 0 : 1))
  const ram = spans.map(({ physical, length }): ElfSegment => {
    const segment = { offset, virtual: BigInt.asUintN(64, base + BigInt(physical)), physical: BigInt(physical), fileBytes: length, memoryBytes: length, flags: allAccess }
    offset += Math.ceil(length / pageBytes) * pageBytes
    return segment
  })
  if (text === undefined) return ram
  const around = ram[text.span] as ElfSegment
  const kernel = { offset: around.offset + text.physical - Number(around.physical), virtual: text.address, physical: BigInt(text.physical), fileBytes: text.length, memoryBytes: text.length, flags: allAccess }
  return [kernel, ...ram]
}

/** Undefined where the kernel's image is not whole in one span: readers find it by the direct mapping then. */
async function locateText(image: KernelImage, spans: readonly RamSpan[]): Promise<{ address: bigint; physical: number; length: number; span: number } | undefined> {
  const [start, end] = [image.symbols.find('_text')?.address, image.symbols.find('_end')?.address]
  if (start === undefined || end === undefined || end <= start || end - start > 1n << 30n) return undefined
  const [translated] = await image.memory.translate([start])
  if (translated === undefined || 'missing' in translated) return undefined
  const [physical, length] = [translated.physical, Number(end - start)]
  const span = spans.findIndex((candidate) => candidate.physical <= physical && physical + length <= candidate.physical + candidate.length)
  return span < 0 ? undefined : { address: start, physical, length, span }
}

/**
 * A note for each CPU that is there: what it noted itself when it stopped (`crash_notes`), or else one with nothing in it. A
 * CPU that a panic has stopped is not online any more.
 */
async function readCpuNotes(image: KernelImage, faults: Faults): Promise<ElfNote[]> {
  const empty: ElfNote = { name: 'CORE', type: noteTypes.prstatus, description: new Uint8Array(prstatusBytes) }
  try {
    const { address, length } = maskRange(image, '__cpu_present_mask')
    const cpus = cpusOf(await image.memory.read(address, length)).slice(0, mostCpus)
    if (!image.has('crash_notes') || !image.has('__per_cpu_offset')) return cpus.map(() => empty)
    const [variable, table] = [await image.variable('crash_notes'), image.addressOf('__per_cpu_offset')]
    const offsets = await image.memory.readMany(cpus.map((cpu) => ({ address: table + BigInt(cpu * 8), length: 8 })))
    const notes = await image.memory.tryReadMany(offsets.map((word) => ({ address: BigInt.asUintN(64, variable + wordOf(word)), length: 20 + prstatusBytes })))
    return notes.map((note) => (note instanceof BackdoorsError ? undefined : statusIn(note)) ?? empty)
  } catch (error) {
    if (!isBackdoorsError(error, 'NOT_MAPPED', 'KERNEL_UNSUPPORTED')) throw error
    faults.push(error)
    return [empty]
  }
}

/** The note that `crash_save_cpu` has written; undefined where it has not. */
function statusIn(note: Uint8Array): ElfNote | undefined {
  const view = new DataView(note.buffer, note.byteOffset, note.byteLength)
  const isStatus = view.getUint32(0, true) === 5 && view.getUint32(4, true) === prstatusBytes && view.getUint32(8, true) === noteTypes.prstatus
  return isStatus && Buffer.from(note.subarray(12, 16)).toString('latin1') === 'CORE' ? { name: 'CORE', type: noteTypes.prstatus, description: note.subarray(20) } : undefined
}
