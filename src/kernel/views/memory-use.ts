/**
 * What a machine's memory was used for, as `free` and /proc/meminfo say it.
 *
 * Source: fs/proc/meminfo.c, mm/show_mem.c (`si_mem_available`) and include/linux/mmzone.h of the Linux kernel.
 */
import { isBackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { pageBytes } from '../page-table-format.js'
import { walkList, type Faults } from '../walks.js'

/** Counters of the whole machine: the name in /proc/meminfo, which of the kernel's tables, and names of the item, newest first. */
const counters = [
  ['MemFree', 'vm_zone_stat', 'NR_FREE_PAGES'],
  ['Active(anon)', 'vm_node_stat', 'NR_ACTIVE_ANON'],
  ['Inactive(anon)', 'vm_node_stat', 'NR_INACTIVE_ANON'],
  ['Active(file)', 'vm_node_stat', 'NR_ACTIVE_FILE'],
  ['Inactive(file)', 'vm_node_stat', 'NR_INACTIVE_FILE'],
  ['Unevictable', 'vm_node_stat', 'NR_UNEVICTABLE'],
  ['Mlocked', 'vm_zone_stat', 'NR_MLOCK'],
  ['Dirty', 'vm_node_stat', 'NR_FILE_DIRTY'],
  ['Writeback', 'vm_node_stat', 'NR_WRITEBACK'],
  ['AnonPages', 'vm_node_stat', 'NR_ANON_MAPPED'],
  ['Mapped', 'vm_node_stat', 'NR_FILE_MAPPED'],
  ['Shmem', 'vm_node_stat', 'NR_SHMEM'],
  ['SReclaimable', 'vm_node_stat', 'NR_SLAB_RECLAIMABLE_B', 'NR_SLAB_RECLAIMABLE'],
  ['SUnreclaim', 'vm_node_stat', 'NR_SLAB_UNRECLAIMABLE_B', 'NR_SLAB_UNRECLAIMABLE'],
  ['PageTables', 'vm_node_stat', 'NR_PAGETABLE'],
  ['SwapCached', 'vm_node_stat', 'NR_SWAPCACHE'],
  ['KernelMisc', 'vm_node_stat', 'NR_KERNEL_MISC_RECLAIMABLE'],
  ['FilePages', 'vm_node_stat', 'NR_FILE_PAGES'],
] as const

type Counter = (typeof counters)[number][0]
export type MemoryItem =
  | Exclude<Counter, 'KernelMisc' | 'FilePages'> | 'MemTotal' | 'MemAvailable' | 'Buffers' | 'Cached' | 'KReclaimable' | 'Slab' | 'KernelStack' | 'SwapTotal' | 'SwapFree'

export interface MemoryUse {
  /**
   * In bytes, by the names of /proc/meminfo. What this kernel does not count, or cannot be read, is undefined. As exact as
   * /proc/meminfo itself: each CPU keeps its last changes of each number to itself, up to 125 pages for each zone or node.
   */
  readonly bytes: Readonly<Record<MemoryItem, number | undefined>>
  readonly faults: Faults
}

const mostItems = 256
const mostNodes = 1024
const zonesPerNode = 8

/** Some batches. @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED where the tables of counters are, and what reading throws */
export async function readMemoryUse(image: KernelImage): Promise<MemoryUse> {
  const faults: Faults = []
  const tables = await readTables(image)
  const pages = Object.fromEntries(counters.map(([name, table, ...items]) => [name, tables.count(table, items)])) as Record<Counter, number | undefined>
  const words = await readWords(image, ['_totalram_pages', 'totalreserve_pages', 'total_swap_pages', 'nr_swap_pages'])
  const buffers = await optional(faults, () => readBuffers(image, faults))
  const low = await optional(faults, () => readLowWatermark(image, faults))
  const reclaimable = sum(pages.SReclaimable, pages.KernelMisc)
  const inPages: Record<Exclude<MemoryItem, 'KernelStack'>, number | undefined> = {
    ...pages,
    MemTotal: words[0], SwapTotal: words[2], SwapFree: words[3],
    MemAvailable: available({ free: pages.MemFree, reserved: words[1], files: sum(pages['Active(file)'], pages['Inactive(file)']), reclaimable, low }),
    Buffers: buffers,
    Cached: sum(pages.FilePages, negative(pages.SwapCached), negative(buffers)),
    KReclaimable: reclaimable,
    Slab: sum(pages.SReclaimable, pages.SUnreclaim),
  }
  const stackKiB = tables.count('vm_node_stat', ['NR_KERNEL_STACK_KB']) ?? tables.count('vm_zone_stat', ['NR_KERNEL_STACK_KB'])
  const { KernelMisc: _, FilePages: __, ...shown } = inPages as Record<string, number | undefined>
  const bytes = Object.fromEntries(Object.entries(shown).map(([name, count]) => [name, count === undefined ? undefined : Math.max(0, count) * pageBytes]))
  return { bytes: { ...bytes, KernelStack: stackKiB === undefined ? undefined : stackKiB * 1024 } as MemoryUse['bytes'], faults }
}

const sum = (...parts: readonly (number | undefined)[]): number | undefined => (parts.includes(undefined) ? undefined : (parts as number[]).reduce((total, part) => total + part, 0))
const negative = (value: number | undefined): number | undefined => (value === undefined ? undefined : -value)

interface Tables {
  /** @returns undefined where this kernel has none of the items in this table */
  count(table: string, items: readonly string[]): number | undefined
}

/** `vm_zone_stat` and `vm_node_stat`: a 64-bit number for each item of an enum, whose order differs from kernel to kernel. */
async function readTables(image: KernelImage): Promise<Tables> {
  const sizes = [['vm_zone_stat', 'NR_VM_ZONE_STAT_ITEMS'], ['vm_node_stat', 'NR_VM_NODE_STAT_ITEMS']] as const
  const lengths = sizes.map(([, last]) => 8 * Math.min(mostItems, Math.max(1, image.types.constant(last) ?? 1)))
  const read = await image.memory.readMany(sizes.map(([table], i) => ({ address: image.addressOf(table), length: lengths[i] as number })))
  const views = new Map(sizes.map(([table], i) => [table as string, read[i] as Uint8Array]))
  return {
    count(table, items) {
      const item = items.map((name) => image.types.constant(name)).find((value) => value !== undefined)
      const bytes = views.get(table)
      if (item === undefined || bytes === undefined || item < 0 || item * 8 + 8 > bytes.length) return undefined
      // Numbers that CPUs keep in parts may go below 0 for a while: the kernel shows that as 0.
      return Math.max(0, Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigInt64(item * 8, true)))
    },
  }
}

/** Words of 8 bytes with a sign; undefined where there is no such symbol. */
async function readWords(image: KernelImage, symbols: readonly string[]): Promise<(number | undefined)[]> {
  const known = symbols.filter((symbol) => image.has(symbol))
  const read = await image.memory.readMany(known.map((symbol) => ({ address: image.addressOf(symbol), length: 8 })))
  const values = new Map(known.map((symbol, i) => [symbol, new DataView((read[i] as Uint8Array).buffer, (read[i] as Uint8Array).byteOffset, 8)]))
  return symbols.map((symbol) => (values.has(symbol) ? Number(values.get(symbol)?.getBigInt64(0, true)) : undefined))
}

/** Pages that hold block devices' own contents: `nr_blockdev_pages`. */
async function readBuffers(image: KernelImage, faults: Faults): Promise<number | undefined> {
  const superblock = await image.variable('blockdev_superblock')
  const head = BigInt.asUintN(64, superblock + BigInt(new Selection(image.types, 'super_block', ['s_inodes.next']).offsetOf('s_inodes.next')))
  const selection = new Selection(image.types, 'inode', ['i_sb_list.next', 'i_data.nrpages'])
  const before = faults.length
  let pages = 0
  for await (const inode of walkList(image, { head, selection, link: 'i_sb_list', faults })) pages += inode.number('i_data.nrpages')
  return faults.length > before || !Number.isSafeInteger(pages) ? undefined : pages
}

/** The sum of all zones' low watermarks, in pages. */
async function readLowWatermark(image: KernelImage, faults: Faults): Promise<number | undefined> {
  const index = image.types.constant('WMARK_LOW') ?? 1
  const zoneBytes = image.types.sizeOf(image.types.find('zone')?.id ?? 0)
  const zones = new Selection(image.types, 'zone', [`_watermark[${index}]`], ['watermark_boost'])
  const node = new Selection(image.types, 'pglist_data', ['nr_zones'])
  const nodes = image.has('node_data') ? await nodeAddresses(image) : [image.addressOf('contig_page_data')]
  const read = await image.readObjects(node, nodes)
  const before = faults.length
  const first = image.types.member('pglist_data', 'node_zones')?.offset ?? 0
  const addresses = read.flatMap((one) => {
    if (one instanceof KernelObject) return Array.from({ length: Math.min(zonesPerNode, one.number('nr_zones')) }, (_, i) => BigInt.asUintN(64, one.address + BigInt(first + i * zoneBytes)))
    faults.push(one)
    return []
  })
  let pages = 0
  for (const zone of await image.readObjects(zones, addresses)) {
    if (zone instanceof KernelObject) pages += zone.number(`_watermark[${index}]`) + (zones.has('watermark_boost') ? zone.number('watermark_boost') : 0)
    else faults.push(zone)
  }
  return faults.length > before ? undefined : pages
}

async function nodeAddresses(image: KernelImage): Promise<bigint[]> {
  const count = image.has('nr_node_ids') ? Math.min(mostNodes, Math.max(1, Number(await image.variable('nr_node_ids', 4)))) : 1
  const bytes = await image.memory.read(image.addressOf('node_data'), count * 8)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: count }, (_, i) => view.getBigUint64(i * 8, true)).filter((address) => address !== 0n)
}

interface Shares {
  readonly free: number | undefined
  readonly reserved: number | undefined
  readonly files: number | undefined
  readonly reclaimable: number | undefined
  readonly low: number | undefined
}

/** What programs could still get without swapping: some of the caches have to stay. */
function available({ free, reserved, files, reclaimable, low }: Shares): number | undefined {
  if (free === undefined || reserved === undefined || files === undefined || reclaimable === undefined || low === undefined) return undefined
  const half = (pages: number): number => Math.min(Math.floor(pages / 2), low)
  return Math.max(0, free - reserved + files - half(files) + reclaimable - half(reclaimable))
}

/** What this kernel has not is left out. */
async function optional<T>(faults: Faults, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (!isBackdoorsError(error, 'KERNEL_UNSUPPORTED', 'NOT_MAPPED')) throw error
    if (error.code !== 'KERNEL_UNSUPPORTED') faults.push(error)
    return undefined
  }
}
