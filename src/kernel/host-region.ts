/** The region of a host that lends nothing itself: found in its kernel's memory, by the processes that map it. */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { decodeHeader, type RegionHeader } from '../region/header.js'
import type { KernelImage } from './kernel-image.js'
import { KernelObject, Selection } from './kernel-object.js'
import { pageBytes } from './page-table-format.js'
import { ownMemory } from './views/find-task.js'
import { readProcesses } from './views/processes.js'
import { readVmas, type Vma } from './views/maps.js'
import type { VirtualMemory } from './virtual-memory.js'
import type { Faults } from './walks.js'

export interface HostRegion {
  readonly header: RegionHeader
  /** Physical address of each of its pages, in order. */
  readonly pages: readonly number[]
  /** By whose mapping it was found. */
  readonly mappedBy: {
    /** Of its `mm_struct`, and what that has as `pgd`. */
    readonly mm: bigint
    readonly pgd: bigint
    /** Where the mapping begins. */
    readonly start: bigint
  }
}

export interface WantedRegion {
  /** The node whose region it is. */
  readonly node: string
}

export interface FoundRegion {
  /** Undefined where no process maps such a region, or no process has all of its pages. */
  readonly region: HostRegion | undefined
  readonly faults: Faults
}

/** Shared writable mappings of files: what a region is to its daemon and to its servers. */
const sharedWritable = 0x8n | 0x2n

/**
 * Looks through the shared mappings of all processes for a region of the node. The daemon keeps every page of its region in
 * memory; a server may have touched few, so a mapping with holes is passed over.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function findHostRegion(image: KernelImage, wanted: WantedRegion): Promise<FoundRegion> {
  const faults: Faults = []
  let hasHoles = false
  for (const { mm, pgd } of await addressSpaces(image, faults)) {
    const mappings = await sharedMappings(image, mm, faults)
    if (mappings.length === 0) continue
    const memory = await image.addressSpace(pgd).catch(unlessMissing(faults))
    for (const mapping of memory ? mappings : []) {
      const found = await regionAt(memory as VirtualMemory, mapping, wanted)
      if (found && found.pages.length > 0) return { region: { ...found, mappedBy: { mm, pgd, start: mapping.start } }, faults }
      if (found) hasHoles = true
    }
  }
  if (hasHoles) faults.push(new BackdoorsError('NOT_MAPPED', `A region of ${wanted.node} is mapped on ${image.peer}, but no process has all of its pages.`, { peer: image.peer }))
  return { region: undefined, faults }
}

/**
 * Is the region still mapped as it was, its first pages where they were? Far cheaper than to look for it again: for who asks often.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function isStillMapped(image: KernelImage, { header, pages, mappedBy: { mm, pgd, start } }: HostRegion): Promise<boolean> {
  const [space] = await image.readObjects(new Selection(image.types, 'mm_struct', ['pgd']), [mm])
  if (!(space instanceof KernelObject) || space.pointer('pgd') !== pgd) return false
  const memory = await image.addressSpace(pgd).catch(unlessMissing([]))
  if (memory === undefined) return false
  const checked = Math.min(pages.length, 2)
  const translations = await memory.translate(Array.from({ length: checked }, (_, i) => start + BigInt(i * pageBytes)))
  if (!translations.every((translation, i) => 'physical' in translation && translation.physical === pages[i])) return false
  return (await readHeader(memory, start))?.incarnation === header.incarnation
}

async function addressSpaces(image: KernelImage, faults: Faults): Promise<{ mm: bigint; pgd: bigint }[]> {
  const processes = await readProcesses(image, new Selection(image.types, 'task_struct', ['tasks.next', 'mm', 'flags']), faults)
  const mms = new Set(processes.map(ownMemory).filter((mm) => mm !== 0n))
  const spaces = await image.readObjects(new Selection(image.types, 'mm_struct', ['pgd']), [...mms])
  return spaces.flatMap((mm) => {
    if (mm instanceof KernelObject) return [{ mm: mm.address, pgd: mm.pointer('pgd') }]
    faults.push(mm)
    return []
  })
}

async function sharedMappings(image: KernelImage, mm: bigint, faults: Faults): Promise<Vma[]> {
  const { vmas, faults: missing } = await readVmas(image, mm)
  faults.push(...missing)
  return vmas.filter(({ flags, file, pageOffset, start, end }) =>
    (flags & sharedWritable) === sharedWritable && file !== 0n && pageOffset === 0n && end - start >= BigInt(2 * pageBytes))
}

/** @returns undefined where the mapping is no region of this node; without pages where some of them are not there */
async function regionAt(memory: VirtualMemory, { start, end }: Vma, { node }: WantedRegion): Promise<Omit<HostRegion, 'mappedBy'> | undefined> {
  const header = await readHeader(memory, start)
  if (header?.node !== node) return undefined
  const count = Math.ceil(header.plan.regionBytes / pageBytes)
  if (end - start < BigInt(header.plan.regionBytes)) return { header, pages: [] }
  const translations = await memory.translate(Array.from({ length: count }, (_, i) => start + BigInt(i * pageBytes)))
  const pages: number[] = []
  for (const translation of translations) {
    if ('missing' in translation) return { header, pages: [] }
    pages.push(translation.physical)
  }
  return { header, pages }
}

async function readHeader(memory: VirtualMemory, start: bigint): Promise<RegionHeader | undefined> {
  try {
    return decodeHeader(await memory.read(start, pageBytes))
  } catch (error) {
    // Other programs share memory too.
    if (isBackdoorsError(error)) return undefined
    throw error
  }
}

const unlessMissing = (faults: Faults) => (error: unknown): undefined => {
  if (!isBackdoorsError(error) || error.code !== 'NOT_MAPPED') throw error
  faults.push(error)
}
