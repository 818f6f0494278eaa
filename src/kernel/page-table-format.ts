/**
 * How processors lay out their page tables, as data: one walker serves all formats.
 *
 * Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, chapter 4 (4-level and 5-level
 * paging); Arm Architecture Reference Manual for A-profile, chapter D8 (VMSAv8-64, 4 KiB granule, 48 bits).
 */

/** Which entries are of a kind: those of which `mask` leaves `value`. */
export interface EntryPattern {
  readonly mask: bigint
  readonly value: bigint
}

export interface PageTableLevel {
  /** The name that the processor's manual gives a table of this level. */
  readonly name: string
  /** The lowest bit of an address that selects an entry here; an entry covers 2^shift bytes. */
  readonly shift: number
  /** An entry that leads to a table of the next level. Left out at the last level. */
  readonly table?: EntryPattern
  /** An entry that is a page of 2^shift bytes. Left out where there are no pages so large. */
  readonly page?: EntryPattern
}

export interface PageTableFormat {
  readonly name: string
  /** Bits of an address that are translated; those above must all equal the highest of them (x86-64). */
  readonly virtualBits: number
  /** Bits of an address that select an entry at each level. */
  readonly indexBits: number
  /** From the root down. */
  readonly levels: readonly PageTableLevel[]
  /** The bits of an entry that hold a physical address. */
  readonly addressMask: bigint
  /**
   * Entries of a page that Linux has hidden from the processor (`PROT_NONE`, and for a while by NUMA balancing); their address
   * bits are inverted (arch/x86/include/asm/pgtable-invert.h, against the L1 terminal fault). Left out where none are known.
   */
  readonly hiddenPage?: EntryPattern
}

export const entryBytes = 8
export const pageBytes = 4096

const bit = (position: number): bigint => 1n << BigInt(position)
const bits = (from: number, to: number): bigint => bit(to + 1) - bit(from)

const present = bit(0)
const pageSize = bit(7)
const x86Table: EntryPattern = { mask: present | pageSize, value: present }
const x86LargePage: EntryPattern = { mask: present | pageSize, value: present | pageSize }

const x86Lower: readonly PageTableLevel[] = [
  { name: 'PML4', shift: 39, table: x86Table },
  { name: 'page-directory-pointer table', shift: 30, table: x86Table, page: x86LargePage },
  { name: 'page directory', shift: 21, table: x86Table, page: x86LargePage },
  { name: 'page table', shift: 12, page: { mask: present, value: present } },
]

const x86 = { indexBits: 9, addressMask: bits(12, 51), hiddenPage: { mask: present | bit(8), value: bit(8) } } as const

export const x86FourLevel: PageTableFormat = { name: 'x86-64, 4 levels', virtualBits: 48, levels: x86Lower, ...x86 }

export const x86FiveLevel: PageTableFormat = {
  name: 'x86-64, 5 levels', virtualBits: 57, levels: [{ name: 'PML5', shift: 48, table: x86Table }, ...x86Lower], ...x86,
}

const arm = (value: bigint): EntryPattern => ({ mask: 0b11n, value })
const armTable = arm(0b11n)
const armBlock = arm(0b01n)

/** Kernel addresses by TTBR1 and user addresses by TTBR0: the root to begin from is the caller's to choose. */
export const arm64FourKiB: PageTableFormat = {
  name: 'arm64, 4 KiB granule, 48 bits',
  virtualBits: 48,
  indexBits: 9,
  levels: [
    { name: 'level 0', shift: 39, table: armTable },
    { name: 'level 1', shift: 30, table: armTable, page: armBlock },
    { name: 'level 2', shift: 21, table: armTable, page: armBlock },
    { name: 'level 3', shift: 12, page: arm(0b11n) },
  ],
  addressMask: bits(12, 47),
}

export const pageTableFormats = [x86FourLevel, x86FiveLevel, arm64FourKiB] as const

export type DecodedEntry =
  | { readonly kind: 'table' | 'page'; readonly physical: number }
  | { readonly kind: 'none' }

const none: DecodedEntry = { kind: 'none' }

const matches = (entry: bigint, { mask, value }: EntryPattern): boolean => (entry & mask) === value

/** What an entry of this level leads to. An entry of no known kind leads nowhere: a dead machine may hold anything. */
export function decodeEntry(format: PageTableFormat, level: PageTableLevel, entry: bigint): DecodedEntry {
  const address = entry & format.addressMask
  if (level.page && matches(entry, level.page)) return { kind: 'page', physical: Number(address - (address & (bit(level.shift) - 1n))) }
  if (level.table && matches(entry, level.table)) return { kind: 'table', physical: Number(address) }
  return none
}

const upper = (word: bigint): number => Number(word >> 32n)
const lower = (word: bigint): number => Number(word & 0xffff_ffffn)

/**
 * For tables of the last level, of which many entries are decoded at once: as `decodeEntry`, but in halves of 32 bits.
 * @returns the physical address of the page that the entry at an offset of a table leads to; NaN where to none
 */
export function pageDecoder({ levels, addressMask }: PageTableFormat): (table: DataView, offset: number) => number {
  const { mask, value } = (levels.at(-1) as PageTableLevel).page as EntryPattern
  const [maskHigh, maskLow, valueHigh, valueLow, addressHigh, addressLow] = [upper(mask), lower(mask), upper(value), lower(value), upper(addressMask), lower(addressMask)]
  return (table, offset) => {
    const low = table.getUint32(offset, true)
    const high = table.getUint32(offset + 4, true)
    const isPage = (low & maskLow) >>> 0 === valueLow && (high & maskHigh) >>> 0 === valueHigh
    return isPage ? ((high & addressHigh) >>> 0) * 2 ** 32 + ((low & addressLow) >>> 0) : NaN
  }
}

/** The page that an entry of this level hides from the processor; undefined where it hides none. */
export function decodeHidden({ hiddenPage, addressMask }: PageTableFormat, level: PageTableLevel, entry: bigint): number | undefined {
  const isLarge = level.table !== undefined
  if (hiddenPage === undefined || level.page === undefined || !matches(entry, hiddenPage) || (isLarge && (entry & pageSize) === 0n)) return undefined
  const address = ~entry & addressMask
  return Number(address - (address & (bit(level.shift) - 1n)))
}

/** Can this be an address at all: are all bits above the translated ones equal to the highest of them? */
export function isCanonical({ virtualBits }: PageTableFormat, address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(virtualBits, address)) === address
}

/** Number of the entry for `address` in a table of this level. */
export const indexOf = ({ indexBits }: PageTableFormat, { shift }: PageTableLevel, address: bigint): number =>
  Number((address >> BigInt(shift)) & (bit(indexBits) - 1n))
