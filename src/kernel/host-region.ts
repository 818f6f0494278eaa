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
  readonly pages: Float64Array
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
  /** Number of the user whose file it has to be: the one that the host's daemon runs as. Anybody can map a file that looks like a region. */
  readonly owner: number
}

export interface FoundRegion {
  /** Undefined where no process maps such a region, or no process has all of its pages. */
  readonly region: HostRegion | undefined
  readonly faults: Faults
}

/** Shared writable mappings of files: what a region is to its daemon and to its servers. */
const sharedWritable = 0x8n | 0x2n
/** Mappings that may be a region, of one process; a daemon or a server has one. */
const mostMappings = 256

/** A mapping that begins as a region of the node does. */
interface Candidate {
  readonly header: RegionHeader
  readonly memory: VirtualMemory
  readonly mappedBy: HostRegion['mappedBy']
  /** Of its file: a file system in memory counts them up. */
  readonly inode: bigint
}

/**
 * Looks through the shared mappings of all processes for a region of the node. The daemon keeps every page of its region in
 * memory; a server may have touched few, so a mapping with holes is passed over. Of several regions (a server may still map
 * the one that its daemon has given up) the one of the newest file counts.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function findHostRegion(image: KernelImage, wanted: WantedRegion): Promise<FoundRegion> {
  const faults: Faults = []
  const candidates: Candidate[] = []
  for (const { mm, pgd } of await addressSpaces(image, faults)) {
    const mappings = await ownedMappings(image, mm, wanted.owner, faults)
    const memory = mappings.length === 0 ? undefined : await image.addressSpace(pgd).catch(unlessMissing(faults))
    if (memory) candidates.push(...(await regionsAmong(mappings, { mm, pgd, memory, node: wanted.node })))
  }
  candidates.sort((a, b) => (a.inode < b.inode ? 1 : a.inode > b.inode ? -1 : 0))
  for (const { header, memory, mappedBy } of candidates) {
    const pages = await pagesOf(memory, mappedBy.start, header)
    if (pages) return { region: { header, pages, mappedBy }, faults }
  }
  if (candidates.length > 0) faults.push(new BackdoorsError('NOT_MAPPED', `A region of ${wanted.node} is mapped on ${image.peer}, but no process has all of its pages.`, { peer: image.peer }))
  return { region: undefined, faults }
}

/**
 * The region as the process that mapped it has it now: far cheaper than to look for it again. Its pages may be others.
 * @returns undefined where that process is gone, or does not map it any more
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function revisitHostRegion(image: KernelImage, { header, mappedBy }: HostRegion): Promise<HostRegion | undefined> {
  const { mm, pgd, start } = mappedBy
  const [space] = await image.readObjects(new Selection(image.types, 'mm_struct', ['pgd']), [mm])
  if (!(space instanceof KernelObject) || space.pointer('pgd') !== pgd) return undefined
  const memory = await image.addressSpace(pgd).catch(unlessMissing([]))
  const pages = memory && (await pagesOf(memory, start, header))
  if (!memory || !pages || (await readHeader(memory, start))?.incarnation !== header.incarnation) return undefined
  return { header, pages, mappedBy }
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

interface OwnedMapping extends Vma {
  readonly inode: bigint
}

/** Those of files that only the owner may open, and that still have a name. */
async function ownedMappings(image: KernelImage, mm: bigint, owner: number, faults: Faults): Promise<OwnedMapping[]> {
  const { vmas, faults: missing } = await readVmas(image, mm)
  faults.push(...missing)
  const shared = vmas.filter(({ flags, file, pageOffset, start, end }) =>
    (flags & sharedWritable) === sharedWritable && file !== 0n && pageOffset === 0n && end - start >= BigInt(2 * pageBytes)).slice(0, mostMappings)
  const files = await image.readObjects(new Selection(image.types, 'file', ['f_inode']), shared.map(({ file }) => file))
  const inodes = await image.readObjects(new Selection(image.types, 'inode', ['i_uid.val', 'i_mode', 'i_ino']), files.map((file) => (file instanceof KernelObject ? file.pointer('f_inode') : 0n)))
  return shared.flatMap((vma, i) => {
    const inode = inodes[i]
    const isOwned = inode instanceof KernelObject && inode.number('i_uid.val') === owner && (inode.number('i_mode') & 0o77) === 0
    return isOwned ? [{ ...vma, inode: inode.unsigned('i_ino') }] : []
  })
}

interface MappingSpace {
  readonly mm: bigint
  readonly pgd: bigint
  readonly memory: VirtualMemory
  readonly node: string
}

async function regionsAmong(mappings: readonly OwnedMapping[], { mm, pgd, memory, node }: MappingSpace): Promise<Candidate[]> {
  const heads = await memory.tryReadMany(mappings.map(({ start }) => ({ address: start, length: pageBytes })))
  return mappings.flatMap(({ start, end, inode }, i): Candidate[] => {
    const header = headerOf(heads[i])
    if (header?.node !== node || end - start < BigInt(header.plan.regionBytes)) return []
    return [{ header, memory, inode, mappedBy: { mm, pgd, start } }]
  })
}

/** Where each page is; undefined where one is not in memory. */
async function pagesOf(memory: VirtualMemory, start: bigint, { plan }: RegionHeader): Promise<Float64Array | undefined> {
  const pages = await memory.translatePages(start, Math.ceil(plan.regionBytes / pageBytes))
  return pages.some((page) => Number.isNaN(page)) ? undefined : pages
}

/** Do both lie in the same frames? */
export const hasSamePages = (one: HostRegion, other: HostRegion): boolean => Buffer.compare(bytesOf(one.pages), bytesOf(other.pages)) === 0

const bytesOf = ({ buffer, byteOffset, byteLength }: Float64Array): Buffer => Buffer.from(buffer, byteOffset, byteLength)

async function readHeader(memory: VirtualMemory, start: bigint): Promise<RegionHeader | undefined> {
  return headerOf((await memory.tryReadMany([{ address: start, length: pageBytes }]))[0])
}

/** Other programs share memory too: what is no header is none. */
function headerOf(bytes: Uint8Array | BackdoorsError | undefined): RegionHeader | undefined {
  if (!(bytes instanceof Uint8Array)) return undefined
  try {
    return decodeHeader(bytes)
  } catch (error) {
    if (isBackdoorsError(error)) return undefined
    throw error
  }
}

const unlessMissing = (faults: Faults) => (error: unknown): undefined => {
  if (!isBackdoorsError(error) || error.code !== 'NOT_MAPPED') throw error
  faults.push(error)
}
