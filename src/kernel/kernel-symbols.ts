/**
 * What is the same in every boot of one kernel: its symbols and its types. Learned from memory once, while the machine is
 * healthy, and kept by the kernel's build id, so that at failure only data is read.
 */
import { BackdoorsError } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { Btf } from './btf.js'
import { Kallsyms, mostSymbols, type KallsymsTables } from './kallsyms.js'
import type { VirtualMemory } from './virtual-memory.js'
import type { Vmcoreinfo } from './vmcoreinfo.js'

/** The tables as they stand in memory. */
export interface KernelTables extends Omit<KallsymsTables, 'relativeBase' | 'index'> {
  /** From `__start_BTF` to `__stop_BTF`; empty where the kernel has none. */
  readonly btf: Uint8Array
  /** Made of the tables, and kept beside them, as going through a hundred thousand names takes time: `Kallsyms.index`, `Btf.index`. */
  readonly symbolIndex?: Uint8Array | undefined
  readonly typeIndex?: Uint8Array | undefined
}

/** Names take some 13 bytes a symbol; a table that nothing ends is read so far. */
const bytesPerName = 32
const tokenTableBytes = 4096
const tokenIndexBytes = 512
const mostBtfBytes = 64 << 20
/** Of the addresses, when tables are held against memory. */
const comparedBytes = 4096
/** Every VMCOREINFO has it. */
const knownSymbol = '_stext'

/** Keeps the tables of kernels that were met, by build id. */
export interface SymbolCache {
  /** Undefined where there are none, or they are damaged. */
  load(buildId: string): Promise<KernelTables | undefined>
  store(buildId: string, tables: KernelTables): Promise<void>
}

/** A 32-bit word of the kernel's, and a 64-bit one. */
export async function readWord(memory: VirtualMemory, address: bigint, bytes: 4 | 8): Promise<bigint> {
  const word = await memory.read(address, bytes)
  const view = new DataView(word.buffer, word.byteOffset, bytes)
  return bytes === 4 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true)
}

function noted(note: Vmcoreinfo, name: string): bigint {
  const address = note.symbol(name)
  if (address === undefined) throw new BackdoorsError('KERNEL_UNSUPPORTED', `The VMCOREINFO of Linux ${note.osRelease} does not say where ${name} is (Linux 6.0 and later do).`, { field: name })
  return address
}

/** `kallsyms_relative_base`: where this boot has placed the symbols. @throws BackdoorsError as `VirtualMemory.read`, KERNEL_UNSUPPORTED */
export async function readRelativeBase(memory: VirtualMemory, note: Vmcoreinfo): Promise<bigint> {
  return await readWord(memory, noted(note, 'kallsyms_relative_base'), 8)
}

/** Reads the tables from a kernel's memory. @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT, and what reading throws */
export async function readTables(memory: VirtualMemory, note: Vmcoreinfo): Promise<KernelTables> {
  const at = {
    names: noted(note, 'kallsyms_names'),
    tokenTable: noted(note, 'kallsyms_token_table'),
    tokenIndex: noted(note, 'kallsyms_token_index'),
    offsets: noted(note, 'kallsyms_offsets'),
  }
  const count = Number(await readWord(memory, noted(note, 'kallsyms_num_syms'), 4))
  if (count < 1 || count > mostSymbols) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel claims ${count} symbols.`, { field: 'kallsyms_num_syms' })
  const ends = Object.values(at).filter((address) => address > at.names)
  const namesEnd = ends.reduce((least, address) => (address < least ? address : least), at.names + BigInt(count * bytesPerName))
  const namesBytes = Number(namesEnd - at.names)
  const [offsets, names, tokenTable, tokenIndex] = (await memory.readMany([
    { address: at.offsets, length: count * 4 },
    { address: at.names, length: namesBytes },
    { address: at.tokenTable, length: tokenTableBytes },
    { address: at.tokenIndex, length: tokenIndexBytes },
  ])) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
  const tables = { count, offsets, names, tokenTable, tokenIndex }
  const symbols = decodeSymbols({ ...tables, relativeBase: await readRelativeBase(memory, note) }, note)
  return { ...tables, btf: await readBtf(memory, symbols) }
}

async function readBtf(memory: VirtualMemory, symbols: Kallsyms): Promise<Uint8Array> {
  const [start, stop] = [symbols.find('__start_BTF')?.address, symbols.find('__stop_BTF')?.address]
  if (start === undefined || stop === undefined || stop <= start) return new Uint8Array(0)
  if (stop - start > BigInt(mostBtfBytes)) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel claims ${stop - start} bytes of BTF.`, { field: 'BTF' })
  return await memory.read(start, Number(stop - start))
}

/**
 * Do these tables stand in this memory? A build id is only what the memory claims: so their count, their tokens, and the beginning
 * of their addresses are compared.
 */
export async function areOf(memory: VirtualMemory, note: Vmcoreinfo, { count, tokenIndex, tokenTable, offsets }: KernelTables): Promise<boolean> {
  const first = offsets.subarray(0, comparedBytes)
  const found = await memory.tryReadMany([
    { address: noted(note, 'kallsyms_num_syms'), length: 4 },
    { address: noted(note, 'kallsyms_token_index'), length: tokenIndex.length },
    { address: noted(note, 'kallsyms_token_table'), length: tokenTable.length },
    { address: noted(note, 'kallsyms_offsets'), length: first.length },
  ])
  const expected = [new Uint8Array(Uint32Array.of(count).buffer), tokenIndex, tokenTable, first]
  return found.every((bytes, i) => bytes instanceof Uint8Array && Buffer.compare(bytes, expected[i] as Uint8Array) === 0)
}

/**
 * Before Linux 6.15 an address that is not negative was one by itself, of a variable that each CPU has; from then on all are
 * relative. VMCOREINFO knows one symbol's address, which tells.
 * @throws BackdoorsError KERNEL_UNSUPPORTED where the kernel has no BTF, KERNEL_DATA_CORRUPT
 */
export function decodeTables({ btf, symbolIndex, typeIndex, ...tables }: KernelTables, relativeBase: bigint, note: Vmcoreinfo): { symbols: Kallsyms; types: Btf } {
  if (btf.length === 0) throw new BackdoorsError('KERNEL_UNSUPPORTED', 'The kernel has no BTF (CONFIG_DEBUG_INFO_BTF): the layout of its structures is not known.', { field: 'BTF' })
  return { symbols: decodeSymbols({ ...tables, relativeBase, index: symbolIndex }, note), types: new Btf(btf, typeIndex) }
}

function decodeSymbols(tables: KallsymsTables, note: Vmcoreinfo): Kallsyms {
  const wanted = note.symbol(knownSymbol)
  for (const absolutePerCpu of [true, false]) {
    const symbols = new Kallsyms(tables, { absolutePerCpu })
    if (wanted === undefined || symbols.find(knownSymbol)?.address === wanted) return symbols
  }
  throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel's symbols do not agree with its VMCOREINFO about ${knownSymbol}.`, { field: 'kallsyms' })
}

const sections = ['names', 'tokenTable', 'tokenIndex', 'offsets', 'btf', 'symbolIndex', 'typeIndex'] as const
const magic = 'backdoors kernel tables 2\n'
const headBytes = 68
const nothing = new Uint8Array(0)

/** One file: a head of 68 bytes (magic, CRC32C of all that follows it, count, lengths), then the tables. */
export function packTables(tables: KernelTables): Uint8Array {
  const parts = sections.map((name) => tables[name] ?? nothing)
  const packed = new Uint8Array(headBytes + parts.reduce((sum, { length }) => sum + length, 0))
  const head = new DataView(packed.buffer, 0, headBytes)
  packed.set(new TextEncoder().encode(magic))
  head.setUint32(36, tables.count, true)
  let at = headBytes
  for (const [i, part] of parts.entries()) {
    head.setUint32(40 + 4 * i, part.length, true)
    packed.set(part, at)
    at += part.length
  }
  head.setUint32(32, crc32c(packed, 36, packed.length - 36, 0), true)
  return packed
}

/** @returns undefined where the bytes are not what `packTables` made */
export function unpackTables(packed: Uint8Array): KernelTables | undefined {
  if (packed.length < headBytes || new TextDecoder().decode(packed.subarray(0, magic.length)) !== magic) return undefined
  const head = new DataView(packed.buffer, packed.byteOffset, headBytes)
  if (head.getUint32(32, true) !== crc32c(packed, 36, packed.length - 36, 0)) return undefined
  let at = headBytes
  const [names, tokenTable, tokenIndex, offsets, btf, symbolIndex, typeIndex] = sections.map((_, i) => packed.subarray(at, (at += head.getUint32(40 + 4 * i, true))))
  if (!names || !tokenTable || !tokenIndex || !offsets || !btf || !symbolIndex || !typeIndex || at !== packed.length) return undefined
  const kept = (index: Uint8Array): Uint8Array | undefined => (index.length === 0 ? undefined : index)
  return { count: head.getUint32(36, true), names, tokenTable, tokenIndex, offsets, btf, symbolIndex: kept(symbolIndex), typeIndex: kept(typeIndex) }
}
