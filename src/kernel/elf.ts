/**
 * The parts of ELF that memory images use: 64 bits, little-endian.
 *
 * Source: System V Application Binary Interface, chapters 4 and 5 (ELF-64 object file format).
 */
import { BackdoorsError } from '../errors.js'
import type { ReadableMemory } from '../fabric/remote-memory.js'
import type { RamSpan } from './physical-memory.js'

export const elfHeaderBytes = 64
export const programHeaderBytes = 56
export const elfMagic = [0x7f, 0x45, 0x4c, 0x46] as const
/** `e_type`. */
export const elfTypeCore = 4
/** `p_type`. */
export const segmentTypes = { load: 1, note: 4 } as const
/** `e_machine`. */
export const elfMachines = { x86: 62, arm64: 183 } as const
/** `e_phnum` when the true count stands in the first section header. */
export const manySegments = 0xffff
/** Program headers that are read at most. */
const mostSegments = 1 << 16

/**
 * What an ELF core's load segments say of physical memory.
 * @returns undefined where the memory does not begin as an ELF file
 * @throws BackdoorsError KERNEL_DATA_CORRUPT where it does, and is no core of this kind or is damaged
 */
export async function readLoadSegments(memory: ReadableMemory): Promise<RamSpan[] | undefined> {
  if (memory.length < elfHeaderBytes) return undefined
  const head = await memory.read(0, elfHeaderBytes)
  if (!elfMagic.every((byte, i) => head[i] === byte)) return undefined
  const corrupt = (what: string): BackdoorsError => new BackdoorsError('KERNEL_DATA_CORRUPT', `${memory.peer}: ${what}`, { peer: memory.peer, field: 'ELF' })
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  if (head[4] !== 2 || head[5] !== 1 || view.getUint16(16, true) !== elfTypeCore) throw corrupt('an ELF file, but no 64-bit little-endian core')
  const offset = Number(view.getBigUint64(32, true))
  const count = view.getUint16(56, true) === manySegments ? await extendedCount(memory, Number(view.getBigUint64(40, true))) : view.getUint16(56, true)
  const length = count * programHeaderBytes
  if (view.getUint16(54, true) !== programHeaderBytes || count > mostSegments || count === 0 || offset > memory.length - length) throw corrupt('its program headers lie outside the file')
  const headers = await memory.read(offset, length)
  return spansOf(new DataView(headers.buffer, headers.byteOffset, length), count, memory.length)
}

async function extendedCount(memory: ReadableMemory, sectionOffset: number): Promise<number> {
  if (!(sectionOffset >= 0 && sectionOffset <= memory.length - 64)) return Infinity
  const section = await memory.read(sectionOffset, 64)
  return new DataView(section.buffer, section.byteOffset, 64).getUint32(44, true)
}

/** What a segment claims beyond the file's end is left out: a dump that was cut off is read as far as it goes. */
function spansOf(headers: DataView, count: number, fileLength: number): RamSpan[] {
  const spans: RamSpan[] = []
  for (let i = 0; i < count; i++) {
    const at = i * programHeaderBytes
    if (headers.getUint32(at, true) !== segmentTypes.load) continue
    const offset = Number(headers.getBigUint64(at + 8, true))
    const physical = Number(headers.getBigUint64(at + 24, true))
    const length = Math.min(Number(headers.getBigUint64(at + 32, true)), fileLength - offset)
    if (length > 0) spans.push({ physical, length, offset })
  }
  return withoutOverlaps(spans)
}

/** A vmcore has the kernel's image twice: by its own addresses, and as a part of the RAM. */
function withoutOverlaps(spans: readonly RamSpan[]): RamSpan[] {
  const kept: RamSpan[] = []
  for (const { physical, length, offset } of spans.toSorted((a, b) => a.physical - b.physical || b.length - a.length)) {
    const last = kept.at(-1)
    const covered = last === undefined ? 0 : Math.max(0, last.physical + last.length - physical)
    if (covered < length) kept.push({ physical: physical + covered, length: length - covered, offset: offset + covered })
  }
  return kept
}
