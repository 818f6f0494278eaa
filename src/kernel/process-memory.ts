/**
 * The memory of a process: what its page tables map, and what they do not map but the kernel has all the same, in the cache of
 * the file that is mapped.
 *
 * Sources: include/linux/mm_types.h and mm/memory.c of the Linux kernel.
 */
import { BackdoorsError } from '../errors.js'
import type { KernelImage } from './kernel-image.js'
import { KernelObject, Selection } from './kernel-object.js'
import { readPageFrames, type PageFrames } from './page-frames.js'
import { pageRuns, type PageRun } from './page-runs.js'
import { pageBytes } from './page-table-format.js'
import type { PhysicalRange } from './physical-memory.js'
import { readVmas, vmFlags, type Vma } from './views/maps.js'
import type { VirtualMemory } from './virtual-memory.js'
import type { Faults } from './walks.js'
import { isXarrayValue, walkXarray, type XarrayEntry } from './xarray.js'

/** Neighbouring pages of one kind. */
export interface MemoryRun {
  readonly address: bigint
  /** In bytes. */
  readonly length: number
  /** `zero`: never touched, reads as zeros. `missing`: swapped out, not in the cache, or not readable. */
  readonly kind: 'memory' | 'zero' | 'missing'
  /** Of `memory`: physical address of its first byte. Else 0. */
  readonly physical: number
}

/** Tables above a mapping, which are read anew for each. */
const tablesPerMapping = 16
/** Pages whose cache is looked up at once. */
const lookupPages = 1 << 14
/** Bytes of one `read` at most. */
const mostBytes = 64 << 20

/** Where the pages of a file are kept. */
interface Cache {
  /** `address_space.i_pages.xa_head`. */
  readonly head: bigint
  /** A page that is not there was never written: the file lives in memory only. */
  readonly isMemoryOnly: boolean
}

interface Parts {
  readonly image: KernelImage
  readonly memory: VirtualMemory
  readonly root: number
  readonly vmas: readonly Vma[]
  readonly caches: ReadonlyMap<bigint, Cache>
  readonly frames: PageFrames | undefined
  readonly vdso: { readonly address: bigint; readonly image: bigint; readonly length: number } | undefined
  readonly faults: Faults
}

export class ProcessMemory {
  readonly #parts: Parts
  readonly #budget: { tables: number }

  /** @internal `processMemory` makes it */
  constructor(parts: Parts) {
    this.#parts = parts
    // The tables of a process fit in the RAM, which may be gone through twice.
    const ramPages = parts.image.physical.spans.reduce((sum, { length }) => sum + length / pageBytes, 0)
    this.#budget = { tables: 2 * Math.ceil(ramPages) + tablesPerMapping * parts.vmas.length }
  }

  /** What the process's page tables map, and nothing else. */
  get memory(): VirtualMemory {
    return this.#parts.memory
  }

  /** By address. */
  get vmas(): readonly Vma[] {
    return this.#parts.vmas
  }

  /** What could not be read so far. */
  get faults(): Faults {
    return this.#parts.faults
  }

  /** Where all pages of a mapping are, in order, without a gap. @throws what reading throws */
  async *runs(vma: Vma): AsyncGenerator<MemoryRun> {
    const { image, root, faults } = this.#parts
    const options = { physical: image.physical, format: image.format, root, budget: this.#budget, faults }
    const first = Number(vma.start / BigInt(pageBytes))
    for await (const run of pageRuns(options, first, Number(vma.end / BigInt(pageBytes)) - first)) {
      if (run.kind === 'frame') yield* this.#inRam(run)
      else if (run.kind === 'other') yield runOf('missing', run.page, run.count)
      else yield* this.#untouched(vma, run)
    }
  }

  /**
   * Reads what is there; the rest is zeros, and listed.
   * @throws BackdoorsError INVALID_ARGUMENT, and what reading throws
   */
  async read(address: bigint, length: number): Promise<{ readonly bytes: Uint8Array; readonly missing: readonly { readonly address: bigint; readonly length: number }[] }> {
    if (address < 0n || !Number.isSafeInteger(length) || length < 1 || length > mostBytes) throw new BackdoorsError('INVALID_ARGUMENT', `${length} bytes at address 0x${address.toString(16)} of a process: give 1 to ${mostBytes} bytes`, { address, length })
    const end = address + BigInt(length)
    const bytes = new Uint8Array(length)
    const missing: { address: bigint; length: number }[] = []
    const ranges: (PhysicalRange & { at: number })[] = []
    let covered = address
    for (const vma of this.vmas.filter((candidate) => candidate.start < end && candidate.end > address)) {
      const part = partOfVma(vma, address, end)
      if (part.start > covered) missing.push({ address: covered, length: Number(part.start - covered) })
      for await (const run of this.runs(part)) {
        const from = run.address > address ? run.address : address
        const to = run.address + BigInt(run.length) < end ? run.address + BigInt(run.length) : end
        if (run.kind === 'missing') missing.push({ address: from, length: Number(to - from) })
        else if (run.kind === 'memory') ranges.push({ physical: run.physical + Number(from - run.address), length: Number(to - from), at: Number(from - address) })
      }
      covered = part.end
    }
    if (covered < end) missing.push({ address: covered, length: Number(end - covered) })
    const read = await this.#parts.image.physical.readMany(ranges)
    for (const [i, found] of read.entries()) bytes.set(found, (ranges[i] as (typeof ranges)[number]).at)
    return { bytes, missing }
  }

  /** A frame may lie outside the RAM that is lent: of a device, or in a damaged table. */
  *#inRam(run: PageRun): Generator<MemoryRun> {
    const { physical } = this.#parts.image
    if (physical.has({ physical: run.physical, length: run.count * pageBytes })) {
      yield runOf('memory', run.page, run.count, run.physical)
      return
    }
    for (let i = 0; i < run.count; i++) {
      const at = run.physical + i * pageBytes
      const isThere = physical.has({ physical: at, length: pageBytes })
      yield runOf(isThere ? 'memory' : 'missing', run.page + i, 1, isThere ? at : 0)
    }
  }

  /** Pages that no table maps: a process gets them when it touches them. */
  async *#untouched(vma: Vma, run: PageRun): AsyncGenerator<MemoryRun> {
    const { caches, frames, vdso } = this.#parts
    const cache = caches.get(vma.file)
    if (vma.file === 0n && vma.operations === 0n) yield runOf('zero', run.page, run.count)
    else if (vdso !== undefined && vma.start === vdso.address) yield* this.#vdsoPages(vdso, run)
    else if (cache === undefined || frames === undefined || (vma.flags & (vmFlags.hugeTlb | vmFlags.io | vmFlags.pfnMap)) !== 0n) yield runOf('missing', run.page, run.count)
    else {
      const shift = Number(BigInt.asIntN(52, vma.pageOffset)) - Number(vma.start / BigInt(pageBytes))
      for (let at = 0; at < run.count; at += lookupPages) yield* this.#cachedPages(cache, frames, run.page + at, Math.min(lookupPages, run.count - at), shift)
    }
  }

  /** @param shift from numbers of pages in the process to those in the file */
  async *#cachedPages({ head, isMemoryOnly }: Cache, frames: PageFrames, page: number, count: number, shift: number): AsyncGenerator<MemoryRun> {
    const { image, faults } = this.#parts
    const first = page + shift
    if (first < 0 || first + count > 2 ** 51) {
      yield runOf('missing', page, count)
      return
    }
    const before = faults.length
    const found = await walkXarray(image, { head, first, last: first + count - 1, faults })
    const absent = isMemoryOnly && faults.length === before ? 'zero' : 'missing'
    let next = first
    for (const entry of found) {
      const from = Math.max(entry.index, next)
      const to = Math.min(entry.index + entry.count, first + count)
      if (to <= from) continue
      if (from > next) yield runOf(absent, next - shift, from - next)
      const frame = placeOf(frames, entry, from)
      const run: PageRun = { page: from - shift, count: to - from, kind: 'frame', physical: frame ?? 0 }
      if (frame === undefined) yield runOf('missing', run.page, run.count)
      else yield* this.#inRam(run)
      next = to
    }
    if (next < first + count) yield runOf(absent, next - shift, first + count - next)
  }

  /** The kernel's own code for processes: a part of the kernel's image. */
  async *#vdsoPages(vdso: NonNullable<Parts['vdso']>, run: PageRun): AsyncGenerator<MemoryRun> {
    const { image } = this.#parts
    const pages = Array.from({ length: Math.min(run.count, vdso.length / pageBytes) }, (_, i) => run.page + i)
    const offsets = pages.map((page) => BigInt(page * pageBytes) - vdso.address)
    const translated = await image.memory.translate(offsets.map((offset) => BigInt.asUintN(64, vdso.image + offset)))
    for (const [i, page] of pages.entries()) {
      const translation = translated[i]
      const isThere = translation !== undefined && !('missing' in translation) && (offsets[i] as bigint) < BigInt(vdso.length)
      if (isThere) yield* this.#inRam({ page, count: 1, kind: 'frame', physical: translation.physical })
      else yield runOf('missing', page, 1)
    }
    if (pages.length < run.count) yield runOf('missing', run.page + pages.length, run.count - pages.length)
  }
}

const runOf = (kind: MemoryRun['kind'], page: number, count: number, physical = 0): MemoryRun =>
  ({ address: BigInt(page) * BigInt(pageBytes), length: count * pageBytes, kind, physical })

/** The pages of a mapping between two addresses, as a mapping of their own. */
function partOfVma(vma: Vma, address: bigint, end: bigint): Vma {
  const page = BigInt(pageBytes)
  const start = address > vma.start ? address - (address % page) : vma.start
  const upTo = end < vma.end ? ((end + page - 1n) / page) * page : vma.end
  return { ...vma, start, end: upTo, pageOffset: vma.pageOffset + (start - vma.start) / page }
}

/** Physical address of the page at this index of its file; undefined where the entry is no page. */
function placeOf(frames: PageFrames, { entry, start }: XarrayEntry, index: number): number | undefined {
  const first = isXarrayValue(entry) ? undefined : frames.placeOf(entry)
  // A large page is one entry; its parts stand in a row.
  const place = first === undefined ? NaN : first + (index - start) * pageBytes
  return Number.isSafeInteger(place) ? place : undefined
}

/**
 * Opens the memory of a process.
 * @param mm what `task_struct.mm` holds
 * @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED where there is no `mm_struct`, and what reading throws
 */
export async function processMemory(image: KernelImage, mm: bigint): Promise<ProcessMemory> {
  const { vmas, faults } = await readVmas(image, mm)
  const selection = new Selection(image.types, 'mm_struct', ['pgd'], ['context.vdso', 'context.vdso_image'])
  const found = await image.readObject(selection, mm)
  const [root] = await image.memory.translate([found.pointer('pgd')])
  if (root === undefined || 'missing' in root) throw new BackdoorsError('NOT_MAPPED', `The root of a process's page tables, at 0x${found.pointer('pgd').toString(16)} of ${image.peer}, is not mapped.`, { peer: image.peer, address: found.pointer('pgd'), length: pageBytes })
  return new ProcessMemory({
    image, vmas, faults, root: root.physical,
    memory: await image.addressSpace(found.pointer('pgd')),
    caches: await readCaches(image, [...new Set(vmas.map(({ file }) => file))].filter((file) => file !== 0n), faults),
    frames: await readPageFrames(image),
    vdso: await readVdso(image, found),
  })
}

async function readCaches(image: KernelImage, files: readonly bigint[], faults: Faults): Promise<Map<bigint, Cache>> {
  const readable = (objects: readonly (KernelObject | BackdoorsError)[]): KernelObject[] => objects.filter((object) => {
    if (object instanceof BackdoorsError) faults.push(object)
    return object instanceof KernelObject
  })
  const opened = readable(await image.readObjects(new Selection(image.types, 'file', ['f_mapping']), files))
  const mappings = [...new Set(opened.map((file) => file.pointer('f_mapping')))]
  const spaces = new Map(readable(await image.readObjects(new Selection(image.types, 'address_space', ['i_pages.xa_head', 'a_ops']), mappings)).map((space) => [space.address, space]))
  const memoryOnly = image.symbols.find('shmem_aops')?.address
  return new Map(opened.flatMap((file) => {
    const space = spaces.get(file.pointer('f_mapping'))
    return space === undefined ? [] : [[file.address, { head: space.pointer('i_pages.xa_head'), isMemoryOnly: space.pointer('a_ops') === memoryOnly }] as const]
  }))
}

async function readVdso(image: KernelImage, mm: KernelObject): Promise<Parts['vdso']> {
  if (!mm.selection.has('context.vdso') || !mm.selection.has('context.vdso_image') || mm.pointer('context.vdso_image') === 0n) return undefined
  const [vdso] = await image.readObjects(new Selection(image.types, 'vdso_image', ['data', 'size']), [mm.pointer('context.vdso_image')])
  if (!(vdso instanceof KernelObject)) return undefined
  const length = vdso.number('size')
  return length % pageBytes === 0 && length < 1 << 20 ? { address: mm.pointer('context.vdso'), image: vdso.pointer('data'), length } : undefined
}
