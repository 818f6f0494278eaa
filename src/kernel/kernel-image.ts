/** A Linux kernel as it stands in memory: where its data is, and what it is made of. */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import type { Btf } from './btf.js'
import type { Kallsyms } from './kallsyms.js'
import { areOf, decodeTables, readRelativeBase, readTables, readWord, type KernelTables, type SymbolCache } from './kernel-symbols.js'
import { arm64FourKiB, pageBytes, x86FiveLevel, x86FourLevel, type PageTableFormat } from './page-table-format.js'
import type { PhysicalMemory } from './physical-memory.js'
import { KernelObject, type Selection } from './kernel-object.js'
import { wordOf, type Slice } from './slice.js'
import { findDirectMap } from './direct-map.js'
import { VirtualMemory, type VirtualRange } from './virtual-memory.js'
import { findVmcoreinfo, mostVmcoreinfoBytes, Vmcoreinfo } from './vmcoreinfo.js'

export interface LearnOptions {
  readonly physical: PhysicalMemory
  /** Physical addresses at which a VMCOREINFO may stand, told by somebody nearer to the memory; believed only if it does. */
  readonly hints?: readonly number[]
  readonly cache?: SymbolCache
  /** Of several kernels in one memory (earlier lives leave theirs): is it this one? Default: the first that can be read. */
  readonly accept?: (image: KernelImage) => Promise<boolean>
  /** Told of each step: reading half a gigabyte over a network takes a while. `done` and `total` are bytes. */
  readonly onProgress?: (step: 'looking for the kernel' | 'reading symbols and types', done: number, total: number) => void
}

export interface KernelImageParts {
  readonly physical: PhysicalMemory
  readonly note: Vmcoreinfo
  readonly format: PageTableFormat
  readonly memory: VirtualMemory
  readonly symbols: Kallsyms
  readonly types: Btf
  readonly notePhysical: number
  /** See `findDirectMap`. */
  readonly directMap?: bigint | undefined
}

/** Structures of one kind that are wanted. */
export interface ObjectGroup {
  readonly selection: Selection
  readonly addresses: readonly bigint[]
}

/** Pieces in which memory is searched; a note that lies across two is found in the second, which begins a page early. */
const searchBytes = 4 << 20
/** Bytes of structures that are read at once. */
const batchBytes = 64 << 20
/** `__START_KERNEL_map` of x86-64: where the kernel's own image is mapped. */
const x86ImageBase = 0xffff_ffff_8000_0000n

export class KernelImage {
  readonly physical: PhysicalMemory
  readonly note: Vmcoreinfo
  readonly format: PageTableFormat
  /** The kernel's own address space. */
  readonly memory: VirtualMemory
  readonly symbols: Kallsyms
  readonly types: Btf
  /** Where the note stands: a hint for those who read the same boot again. */
  readonly notePhysical: number
  readonly directMap: bigint | undefined

  /** Of parts from elsewhere; `learn` finds them in memory. */
  constructor(parts: KernelImageParts) {
    this.physical = parts.physical
    this.note = parts.note
    this.format = parts.format
    this.directMap = parts.directMap
    this.memory = parts.memory
    if (parts.directMap !== undefined) this.memory.useDirectMap(parts.directMap)
    this.symbols = parts.symbols
    this.types = parts.types
    this.notePhysical = parts.notePhysical
  }

  /**
   * Finds the kernel in a machine's physical memory and learns its symbols and types, from the cache where it knows them.
   * @throws BackdoorsError KERNEL_NOT_FOUND, KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT, and what reading throws
   */
  static async learn({ physical, hints = [], cache, accept = () => Promise.resolve(true), onProgress }: LearnOptions): Promise<KernelImage> {
    let lastError: BackdoorsError | undefined
    const tried = new Set<number>()
    for await (const { at, isHint } of candidates(physical, hints, onProgress)) {
      if (tried.has(at)) continue
      tried.add(at)
      try {
        const image = await learnFrom(physical, at, cache, onProgress)
        if (await accept(image)) return image
      } catch (error) {
        if (!isBackdoorsError(error) || !isAboutTheKernel(error)) throw error
        // A hint may be stale: if it leads to a kernel, the search comes to it, too, and says then what is wrong with it.
        if (isHint) tried.delete(at)
        else lastError = error
      }
    }
    if (lastError !== undefined) throw lastError
    throw new BackdoorsError('KERNEL_NOT_FOUND', `No VMCOREINFO of a Linux kernel in the memory of ${physical.memory.peer}: it runs no Linux, or one without CONFIG_CRASH_CORE, or not all of its RAM is lent.`, { peer: physical.memory.peer })
  }

  /** The same kernel, read by another way to its memory. */
  over(physical: PhysicalMemory): KernelImage {
    const { note, format, symbols, types, notePhysical, directMap } = this
    return new KernelImage({ physical, note, format, memory: new VirtualMemory({ physical, format, root: rootOf(note) }), symbols, types, notePhysical, directMap })
  }

  /** Is this the kernel that is in memory now? A host that was started anew may have another, or the same elsewhere. */
  async isCurrent(): Promise<boolean> {
    const [bytes] = await this.physical.readMany([{ physical: this.notePhysical, length: this.note.text.length }])
    return Buffer.from(bytes as Uint8Array).toString('latin1') === this.note.text
  }

  /** Whose kernel it is, for messages. */
  get peer(): string {
    return this.physical.memory.peer
  }

  /** @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no such symbol */
  addressOf(symbol: string): bigint {
    const found = this.symbols.find(symbol)
    if (found) return found.address
    throw new BackdoorsError('KERNEL_UNSUPPORTED', `Linux ${this.note.osRelease} on ${this.peer} has no symbol ${symbol}.`, { peer: this.peer, field: symbol })
  }

  has(symbol: string): boolean {
    return this.symbols.find(symbol) !== undefined
  }

  /** Where a CPU's own copy of a per-CPU variable is. @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
  async perCpu(symbol: string, cpus: readonly number[]): Promise<bigint[]> {
    const [table, variable] = [this.addressOf('__per_cpu_offset'), this.addressOf(symbol)]
    const words = await this.memory.readMany(cpus.map((cpu) => ({ address: table + BigInt(cpu * 8), length: 8 })))
    return words.map((word) => BigInt.asUintN(64, wordOf(word) + variable))
  }

  /** A variable of 4 or 8 bytes. @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
  async variable(symbol: string, bytes: 4 | 8 = 8): Promise<bigint> {
    return await readWord(this.memory, this.addressOf(symbol), bytes)
  }

  /** Reads structures; one that cannot be read is answered by its error. All in one batch, unless they are very many. */
  async readObjects(selection: Selection, addresses: readonly bigint[]): Promise<(KernelObject | BackdoorsError)[]> {
    return (await this.readGroups([{ selection, addresses }]))[0] as (KernelObject | BackdoorsError)[]
  }

  /** As `readObjects`, for structures of several kinds in one batch. */
  async readGroups(groups: readonly ObjectGroup[]): Promise<(KernelObject | BackdoorsError)[][]> {
    const wanted: VirtualRange[] = []
    for (const { selection, addresses } of groups) for (const address of addresses) for (const range of selection.ranges(address)) wanted.push(range)
    const read = await this.#readInBatches(wanted)
    let next = 0
    return groups.map(({ selection, addresses }) => {
      const count = selection.pieces.length
      if (count === 0) return []
      return addresses.map((address) => {
        const pieces = read.slice(next, (next += count))
        return pieces.find((piece) => piece instanceof BackdoorsError) ?? new KernelObject(selection, address, pieces as Slice[], this.memory)
      })
    })
  }

  async #readInBatches(wanted: readonly VirtualRange[]): Promise<readonly (Slice | BackdoorsError)[]> {
    const read: (Slice | BackdoorsError)[] = []
    let [from, bytes] = [0, 0]
    for (let i = 0; i < wanted.length; i++) {
      const { length } = wanted[i] as VirtualRange
      if (bytes > 0 && bytes + length > batchBytes) {
        for (const slice of await this.memory.tryReadSlices(wanted.slice(from, i))) read.push(slice)
        ;[from, bytes] = [i, 0]
      }
      bytes += length
    }
    const last = from === wanted.length ? [] : await this.memory.tryReadSlices(from === 0 ? wanted : wanted.slice(from))
    return from === 0 ? last : [...read, ...last]
  }

  /** @throws BackdoorsError NOT_MAPPED, and what reading throws */
  async readObject(selection: Selection, address: bigint): Promise<KernelObject> {
    const [found] = await this.readObjects(selection, [address])
    if (found instanceof KernelObject) return found
    throw found ?? new BackdoorsError('INVALID_ARGUMENT', 'No member was selected.', { field: selection.structure })
  }

  /** A process's address space. @param pgd what `mm_struct.pgd` holds: an address in the kernel's direct mapping */
  async addressSpace(pgd: bigint): Promise<VirtualMemory> {
    const [translated] = await this.memory.translate([pgd])
    if (translated === undefined || 'missing' in translated) throw new BackdoorsError('NOT_MAPPED', `The root of a process's page tables, at 0x${pgd.toString(16)} of ${this.peer}, is not mapped.`, { peer: this.peer, address: pgd, length: pageBytes })
    return new VirtualMemory({ physical: this.physical, format: this.format, root: translated.physical })
  }
}

const isAboutTheKernel = ({ code }: BackdoorsError): boolean => ['KERNEL_UNSUPPORTED', 'KERNEL_DATA_CORRUPT', 'NOT_MAPPED', 'OUT_OF_RANGE'].includes(code)

/** First what was hinted at, then all that a search of the memory finds. */
async function* candidates(physical: PhysicalMemory, hints: readonly number[], onProgress: LearnOptions['onProgress']): AsyncGenerator<{ readonly at: number; readonly isHint: boolean }> {
  for (const at of hints) yield { at, isHint: true }
  const total = physical.spans.reduce((sum, { length }) => sum + length, 0)
  let done = 0
  for (const { physical: start, length } of physical.spans) {
    for (let at = 0; at < length; at += searchBytes - mostVmcoreinfoBytes) {
      const piece = { physical: start + at, length: Math.min(searchBytes, length - at) }
      const [bytes] = await physical.readMany([piece])
      for (const found of findVmcoreinfo(bytes as Uint8Array)) yield { at: piece.physical + found, isHint: false }
      onProgress?.('looking for the kernel', done + at, total)
      // Of memory that is near, the search would otherwise hold up everything else in this process.
      await new Promise(setImmediate)
    }
    done += length
  }
}

async function learnFrom(physical: PhysicalMemory, at: number, cache: SymbolCache | undefined, onProgress: LearnOptions['onProgress']): Promise<KernelImage> {
  const room = physical.spans.find((span) => span.physical <= at && at < span.physical + span.length)
  const length = room ? Math.min(mostVmcoreinfoBytes, room.physical + room.length - at) : mostVmcoreinfoBytes
  const [bytes] = await physical.readMany([{ physical: at, length }])
  const note = new Vmcoreinfo(bytes as Uint8Array)
  const format = formatOf(note)
  const memory = new VirtualMemory({ physical, format, root: rootOf(note) })
  const relativeBase = await readRelativeBase(memory, note)
  const { buildId } = note
  const kept = buildId === undefined ? undefined : await cache?.load(buildId)
  onProgress?.('reading symbols and types', 0, 1)
  const readAndKeep = async (): Promise<ReturnType<typeof decodeTables>> => {
    const tables = await readTables(memory, note)
    const fresh = decodeTables(tables, relativeBase, note)
    // A cache that cannot be written costs time at the next start, and nothing now.
    if (buildId !== undefined) await cache?.store(buildId, { ...tables, symbolIndex: fresh.symbols.index, typeIndex: fresh.types.index }).catch(() => undefined)
    return fresh
  }
  const decoded = (kept && (await areOf(memory, note, kept)) ? tryDecode(kept, relativeBase, note) : undefined) ?? (await readAndKeep())
  onProgress?.('reading symbols and types', 1, 1)
  return new KernelImage({ physical, note, format, memory, ...decoded, notePhysical: at, directMap: await findDirectMap(memory, decoded.symbols, at) })
}

/** What was kept may be another kernel's, that claims the same build id, or damaged: then it is as good as none. */
function tryDecode(tables: KernelTables, relativeBase: bigint, note: Vmcoreinfo): ReturnType<typeof decodeTables> | undefined {
  try {
    return decodeTables(tables, relativeBase, note)
  } catch (error) {
    if (isBackdoorsError(error)) return undefined
    throw error
  }
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function formatOf(note: Vmcoreinfo): PageTableFormat {
  if (note.pageBytes !== pageBytes) throw new BackdoorsError('KERNEL_UNSUPPORTED', `Linux ${note.osRelease} has pages of ${note.pageBytes ?? 'unknown'} bytes; only those of ${pageBytes} are read.`, { field: 'PAGESIZE' })
  if (note.number('phys_base') !== undefined) return note.number('pgtable_l5_enabled') === 1n ? x86FiveLevel : x86FourLevel
  if (note.number('kimage_voffset') !== undefined && note.number('VA_BITS') === 48n) return arm64FourKiB
  throw new BackdoorsError('KERNEL_UNSUPPORTED', `Linux ${note.osRelease} runs on a processor whose page tables are not known here (x86-64, and arm64 with 48 bits, are).`, { field: 'phys_base' })
}

/** Physical address of the kernel's root table. @throws BackdoorsError KERNEL_UNSUPPORTED */
function rootOf(note: Vmcoreinfo): number {
  const table = note.symbol('swapper_pg_dir')
  const [physBase, imageOffset] = [note.number('phys_base'), note.number('kimage_voffset')]
  const moved = physBase !== undefined ? physBase - x86ImageBase : -(imageOffset ?? 0n)
  const root = table === undefined ? -1n : BigInt.asIntN(64, table + moved)
  if (root < 0n || root >= 1n << 52n) throw new BackdoorsError('KERNEL_UNSUPPORTED', `The VMCOREINFO of Linux ${note.osRelease} does not lead to its page tables.`, { field: 'swapper_pg_dir' })
  return Number(root)
}
