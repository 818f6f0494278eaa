/**
 * Memory by virtual addresses: of a kernel, or of a process. The processor's page tables are read from physical memory,
 * level by level, all addresses of a batch at once, so that a batch costs as many reads as there are levels, and one.
 */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { decodeEntry, entryBytes, indexOf, isCanonical, pageBytes, pageDecoder, type PageTableFormat, type PageTableLevel } from './page-table-format.js'
import type { PhysicalMemory, PhysicalRange } from './physical-memory.js'

/** `address` has 64 bits: a kernel's are in the upper half. */
export interface VirtualRange {
  readonly address: bigint
  /** In bytes. */
  readonly length: number
  /** Physical address of another root table than the memory's own: one batch may read many processes. */
  readonly root?: number | undefined
}

/** A physical address, and how large the page is that it lies in. */
interface Page {
  readonly physical: number
  readonly pageBytes: number
}

/** Where an address leads. */
export type Translation =
  | Page
  /** `level` names the table whose entry leads nowhere, or lies outside the machine's RAM. */
  | { readonly missing: string; readonly level: string }

export interface VirtualMemoryOptions {
  readonly physical: PhysicalMemory
  readonly format: PageTableFormat
  /** Physical address of the root table. */
  readonly root: number
}

/** Tables that are kept: 4 KiB each. A kernel's own mappings take a few hundred. */
const mostTables = 4096
/** Pages whose place is remembered: a structure is seldom read alone. */
const mostFound = 1 << 16
const [smallShift, largeShift] = [12n, 21n]
const largeBytes = 2 ** 21
/** Bytes of one call of `readMany`: more is read in several. */
const mostBytes = 256 << 20

/** An address on its way down the tables. */
interface Walk {
  readonly address: bigint
  table: number
  result: Translation | undefined
}

export class VirtualMemory {
  readonly #physical: PhysicalMemory
  readonly #format: PageTableFormat
  readonly #root: number
  /** By physical address; the one longest unused is the first. */
  readonly #tables = new Map<number, DataView>()
  /** Pages of this root, by their numbers. */
  readonly #found = new Map<bigint, Page>()

  constructor({ physical, format, root }: VirtualMemoryOptions) {
    this.#physical = physical
    this.#format = format
    this.#root = root
  }

  /** Forgets the tables read so far: those of a living kernel change. */
  forget(): void {
    this.#tables.clear()
    this.#found.clear()
  }

  /** Translates all addresses, by as many reads as there are levels at most. @throws what reading throws */
  async translate(addresses: readonly bigint[]): Promise<Translation[]> {
    return await this.#translate(addresses.map((address) => ({ address })))
  }

  /**
   * Where pages of 4 KiB that follow each other are: each table is read, and gone through, once.
   * @param start a multiple of 4 KiB
   * @returns physical addresses, one for each page; NaN for one that is not mapped
   * @throws what reading throws
   */
  async translatePages(start: bigint, count: number): Promise<Float64Array> {
    const pages = new Float64Array(count).fill(NaN)
    const last = this.#format.levels.at(-1) as PageTableLevel
    const perTable = 2 ** this.#format.indexBits
    const walks: Walk[] = []
    for (let i = 0; i < count; i += perTable - indexOf(this.#format, last, (walks.at(-1) as Walk).address)) walks.push(this.#walkTo(start + BigInt(i * pageBytes), this.#root))
    const decode = pageDecoder(this.#format)
    for (const level of this.#format.levels.slice(0, -1)) await this.#step(walks, level)
    const under = walks.filter(({ result }) => result === undefined)
    const tables = await this.#tablesAt(new Set(under.map(({ table }) => table)))
    let at = 0
    for (const { address, table, result } of walks) {
      const first = indexOf(this.#format, last, address)
      const end = Math.min(count, at + perTable - first)
      const entries = tables.get(table)
      if (result === undefined && entries) for (let i = first; at < end; i++) pages[at++] = decode(entries, i * entryBytes)
      else if (result && 'physical' in result) for (let physical = result.physical; at < end; physical += pageBytes) pages[at++] = physical
      at = end
    }
    return pages
  }

  #walkTo(address: bigint, root: number): Walk {
    return { address, table: root, result: isCanonical(this.#format, address) ? undefined : { missing: 'no address of this format', level: 'address' } }
  }

  /** All that are still on their way go down one level. */
  async #step(walks: readonly Walk[], level: PageTableLevel): Promise<void> {
    const under = walks.filter(({ result }) => result === undefined)
    if (under.length === 0) return
    const tables = await this.#tablesAt(new Set(under.map(({ table }) => table)))
    for (const walk of under) this.#descend(walk, level, tables.get(walk.table))
  }

  async #translate(wanted: readonly Pick<VirtualRange, 'address' | 'root'>[]): Promise<Translation[]> {
    const walks = wanted.map(({ address, root = this.#root }): Walk => {
      const walk = this.#walkTo(address, root)
      if (root === this.#root) walk.result ??= this.#remembered(address)
      return walk
    })
    const [own, others] = [[] as Walk[], [] as Walk[]]
    for (const [i, walk] of walks.entries()) if (walk.result === undefined) ((wanted[i]?.root ?? this.#root) === this.#root ? own : others).push(walk)
    // One address of each 2 MiB goes first: where they are one page, all others of it are known then.
    const areas = new Set<bigint>()
    const first = own.filter(({ address }) => areas.size < areas.add(address >> largeShift).size)
    await this.#walk([...first, ...others])
    for (const { address, result } of first) this.#remember(address, result)
    const rest = own.filter((walk) => (walk.result ??= this.#remembered(walk.address)) === undefined)
    await this.#walk(rest)
    for (const { address, result } of rest) this.#remember(address, result)
    return walks.map(({ result }) => result ?? { missing: 'no page at the last level', level: 'address' })
  }

  /** All go down to where they lead. */
  async #walk(walks: readonly Walk[]): Promise<void> {
    for (const level of this.#format.levels) await this.#step(walks, level)
  }

  /** What is not mapped may be by the next time, so only pages are remembered. */
  #remember(address: bigint, result: Translation | undefined): void {
    if (result === undefined || 'missing' in result) return
    if (this.#found.size >= mostFound) this.#found.clear()
    const { physical, pageBytes: size } = result
    const shift = size >= largeBytes ? largeShift : smallShift
    // Keys of large pages are negative: they share the map with those of small ones.
    const key = address >> shift
    this.#found.set(shift === largeShift ? ~key : key, { physical: physical - Number(address & ((1n << shift) - 1n)), pageBytes: size })
  }

  #remembered(address: bigint): Page | undefined {
    const large = this.#found.get(~(address >> largeShift))
    if (large) return { physical: large.physical + Number(address & (BigInt(largeBytes) - 1n)), pageBytes: large.pageBytes }
    const small = this.#found.get(address >> smallShift)
    return small && { physical: small.physical + Number(address & (BigInt(pageBytes) - 1n)), pageBytes: small.pageBytes }
  }

  /**
   * Reads ranges that may be scattered over physical memory, in one batch.
   * @throws BackdoorsError NOT_MAPPED with the address, INVALID_ARGUMENT, and what reading throws
   */
  async readMany(ranges: readonly VirtualRange[]): Promise<Uint8Array[]> {
    const found = await this.tryReadMany(ranges)
    return found.map((bytes) => {
      if (bytes instanceof BackdoorsError) throw bytes
      return bytes
    })
  }

  /** @throws BackdoorsError as `readMany` */
  async read(address: bigint, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ address, length }]))[0] as Uint8Array
  }

  /** As `readMany`, but what cannot be read is answered by its error and costs its neighbours nothing. */
  async tryReadMany(ranges: readonly VirtualRange[]): Promise<(Uint8Array | BackdoorsError)[]> {
    checkRanges(ranges)
    const pages = ranges.map(pagesOf)
    const translations = await this.#translate(pages.flat())
    let next = 0
    const located = pages.map((parts) => this.#locate(parts, translations.slice(next, (next += parts.length))))
    const read = await this.#physical.readMany(located.flatMap((range) => (isBackdoorsError(range) ? [] : range)))
    let at = 0
    return located.map((range, i) => {
      if (isBackdoorsError(range)) return range
      if (range.length === 1) return read[at++] as Uint8Array
      const whole = new Uint8Array((ranges[i] as VirtualRange).length)
      let filled = 0
      for (const part of read.slice(at, (at += range.length))) {
        whole.set(part, filled)
        filled += part.length
      }
      return whole
    })
  }

  #descend(walk: Walk, level: PageTableLevel, table: DataView | undefined): void {
    if (table === undefined) {
      walk.result = { missing: 'the table lies outside the machine\'s RAM', level: level.name }
      return
    }
    const entry = decodeEntry(this.#format, level, table.getBigUint64(indexOf(this.#format, level, walk.address) * entryBytes, true))
    if (entry.kind === 'none') walk.result = { missing: 'the entry is not present', level: level.name }
    else if (entry.kind === 'table') walk.table = entry.physical
    else walk.result = { physical: entry.physical + Number(walk.address & ((1n << BigInt(level.shift)) - 1n)), pageBytes: 2 ** level.shift }
  }

  /** The tables at these addresses; those outside the RAM are left out. */
  async #tablesAt(addresses: ReadonlySet<number>): Promise<Map<number, DataView>> {
    const found = new Map<number, DataView>()
    const unknown: PhysicalRange[] = []
    for (const physical of addresses) {
      const known = this.#tables.get(physical)
      const range = { physical, length: pageBytes }
      if (known) found.set(physical, known)
      else if (this.#physical.has(range)) unknown.push(range)
    }
    const read = unknown.length === 0 ? [] : await this.#physical.readMany(unknown)
    for (const [i, { physical }] of unknown.entries()) {
      const bytes = read[i] as Uint8Array
      found.set(physical, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    }
    for (const [physical, table] of found) this.#keep(physical, table)
    return found
  }

  #keep(physical: number, table: DataView): void {
    this.#tables.delete(physical)
    this.#tables.set(physical, table)
    if (this.#tables.size <= mostTables) return
    for (const oldest of this.#tables.keys()) {
      this.#tables.delete(oldest)
      return
    }
  }

  /** Where the parts of one range are; neighbours in physical memory are read as one. */
  #locate(parts: readonly VirtualRange[], translations: readonly Translation[]): PhysicalRange[] | BackdoorsError {
    const located: { physical: number; length: number }[] = []
    for (const [i, { address, length }] of parts.entries()) {
      const translation = translations[i] as Translation
      if ('missing' in translation) return this.#notMapped(address, length, `${translation.missing} (${translation.level})`)
      const { physical } = translation
      if (!this.#physical.has({ physical, length })) return this.#notMapped(address, length, `its page, at physical address 0x${physical.toString(16)}, lies outside the machine's RAM`)
      const last = located.at(-1)
      if (last && last.physical + last.length === physical) last.length += length
      else located.push({ physical, length })
    }
    return located
  }

  #notMapped(address: bigint, length: number, why: string): BackdoorsError {
    const { peer } = this.#physical.memory
    return new BackdoorsError('NOT_MAPPED', `${length} bytes at address 0x${address.toString(16)} of ${peer}: ${why}`, { peer, address, length })
  }
}

const endOfAddresses = 1n << 64n

function checkRanges(ranges: readonly VirtualRange[]): void {
  let bytes = 0
  for (const { address, length } of ranges) {
    // A pointer found in memory may be so near to the end that what it should point to lies beyond: that is not mapped.
    const isAddress = address >= 0n && address < endOfAddresses && Number.isSafeInteger(length) && length > 0
    if (!isAddress) throw new BackdoorsError('INVALID_ARGUMENT', `${length} bytes at address 0x${address.toString(16)}: give at least 1 byte, and an address of 64 bits`, { address, length })
    bytes += length
  }
  if (bytes > mostBytes) throw new BackdoorsError('INVALID_ARGUMENT', `${bytes} bytes in one call: at most ${mostBytes}`, { length: bytes })
}

/** The range, cut where pages end. */
function pagesOf(range: VirtualRange): VirtualRange[] {
  const { address, length, root } = range
  if (Number(address & BigInt(pageBytes - 1)) + length <= pageBytes) return [range]
  const parts: VirtualRange[] = []
  let [from, left] = [address, length]
  while (left > 0) {
    const part = Math.min(left, pageBytes - Number(from & BigInt(pageBytes - 1)))
    parts.push({ address: from, length: part, root })
    from += BigInt(part)
    left -= part
  }
  return parts
}
