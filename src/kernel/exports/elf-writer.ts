/**
 * The head of an ELF core: 64 bits, little-endian. Behind it lies what its segments hold.
 *
 * Source: System V Application Binary Interface, chapters 4 and 5 (ELF-64 object file format, with the extended numbering of
 * program headers), and include/uapi/linux/elfcore.h of the Linux kernel.
 */
import { BackdoorsError } from '../../errors.js'
import { elfHeaderBytes, elfMagic, elfTypeCore, manySegments, programHeaderBytes, segmentTypes } from '../elf.js'
import { pageBytes } from '../page-table-format.js'

export interface ElfNote {
  /** Who has defined the type: `CORE`, `LINUX`, `VMCOREINFO`. */
  readonly name: string
  readonly type: number
  readonly description: Uint8Array
}

/** A `PT_LOAD`. */
export interface ElfSegment {
  /** In the file, in bytes. */
  readonly offset: number
  readonly virtual: bigint
  readonly physical: bigint
  /** Bytes that the file has, and those that the memory had; what the file has not is not there. */
  readonly fileBytes: number
  readonly memoryBytes: number
  /** `p_flags`: 1 execute, 2 write, 4 read. */
  readonly flags: number
}

export const segmentFlags = { execute: 1, write: 2, read: 4 } as const

/** Segments at most. */
const mostSegments = 1 << 21
const sectionHeaderBytes = 64

const padded = (length: number): number => (length + 3) & ~3
const toPage = (length: number): number => Math.ceil(length / pageBytes) * pageBytes

export function packNotes(notes: readonly ElfNote[]): Uint8Array {
  const packed = new Uint8Array(notes.reduce((sum, { name, description }) => sum + 12 + padded(name.length + 1) + padded(description.length), 0))
  const view = new DataView(packed.buffer)
  let at = 0
  for (const { name, type, description } of notes) {
    for (const [i, word] of [name.length + 1, description.length, type].entries()) view.setUint32(at + i * 4, word, true)
    packed.set(Buffer.from(name, 'latin1'), at + 12)
    at += 12 + padded(name.length + 1)
    packed.set(description, at)
    at += padded(description.length)
  }
  return packed
}

/** Bytes before the first segment's: whole pages. */
export function headBytes(noteBytes: number, segmentCount: number): number {
  return toPage(tableBytes(segmentCount) + noteBytes)
}

const isExtended = (segmentCount: number): boolean => segmentCount + 1 >= manySegments
const tableBytes = (segmentCount: number): number =>
  elfHeaderBytes + (segmentCount + 1) * programHeaderBytes + (isExtended(segmentCount) ? sectionHeaderBytes : 0)

/**
 * @param machine `e_machine`
 * @param notes as `packNotes` made them
 * @returns `headBytes` bytes
 * @throws BackdoorsError INVALID_ARGUMENT for more than two million segments
 */
export function packHead(machine: number, notes: Uint8Array, segments: readonly ElfSegment[]): Uint8Array {
  if (segments.length > mostSegments) throw new BackdoorsError('INVALID_ARGUMENT', `${segments.length} segments: at most ${mostSegments}`, { field: 'segments' })
  const head = new Uint8Array(headBytes(notes.length, segments.length))
  const view = new DataView(head.buffer)
  head.set(elfMagic)
  head.set([2, 1, 1], 4)
  view.setUint16(16, elfTypeCore, true)
  view.setUint16(18, machine, true)
  view.setUint32(20, 1, true)
  view.setBigUint64(32, BigInt(elfHeaderBytes), true)
  view.setUint16(52, elfHeaderBytes, true)
  view.setUint16(54, programHeaderBytes, true)
  view.setUint16(56, Math.min(segments.length + 1, manySegments), true)
  const notesAt = tableBytes(segments.length)
  if (isExtended(segments.length)) {
    // The true number stands in the first section header (sh_info), which has no other use.
    view.setBigUint64(40, BigInt(notesAt - sectionHeaderBytes), true)
    view.setUint16(58, sectionHeaderBytes, true)
    view.setUint16(60, 1, true)
    view.setUint32(notesAt - sectionHeaderBytes + 44, segments.length + 1, true)
  }
  packSegment(view, elfHeaderBytes, segmentTypes.note, 4, { offset: notesAt, virtual: 0n, physical: 0n, fileBytes: notes.length, memoryBytes: 0, flags: 0 })
  for (const [i, segment] of segments.entries()) packSegment(view, elfHeaderBytes + (i + 1) * programHeaderBytes, segmentTypes.load, pageBytes, segment)
  head.set(notes, notesAt)
  return head
}

function packSegment(view: DataView, at: number, type: number, alignment: number, { offset, virtual, physical, fileBytes, memoryBytes, flags }: ElfSegment): void {
  view.setUint32(at, type, true)
  view.setUint32(at + 4, flags, true)
  const words = [BigInt(offset), virtual, physical, BigInt(fileBytes), BigInt(memoryBytes), BigInt(alignment)]
  for (const [i, word] of words.entries()) view.setBigUint64(at + 8 + i * 8, word, true)
}
