/**
 * Memory by virtual addresses: of a kernel, or of a process. The processor's page tables are read from physical memory,
 * level by level, all addresses of a batch at once, so that a batch costs as many reads as there are levels, and one.
 */
import { BackdoorsError } from '../errors.js'
import type { MemoryRange } from '../fabric/remote-memory.js'
import { KnownPages, largePageOf, type Translation } from './known-pages.js'
import { readMerged } from './merged-reads.js'
import { decodeEntry, entryBytes, indexOf, isCanonical, pageBytes, pageDecoder, type PageTableFormat, type PageTableLevel } from './page-table-format.js'
import type { PhysicalMemory, PhysicalRange } from './physical-memory.js'
import { bytesOf, joined, type Slice } from './slice.js'
import { checkRanges, intoPage, pagesOf, type VirtualRange } from './virtual-range.js'

export type { Translation } from './known-pages.js'
export type { VirtualRange } from './virtual-range.js'

/** Where a range lies in the lent memory: in one piece, or in several; or why nowhere. */
type Place = MemoryRange | readonly MemoryRange[] | BackdoorsError

export interface VirtualMemoryOptions {
  readonly physical: PhysicalMemory
  readonly format: PageTableFormat
  /** Physical address of the root table. */
  readonly root: number
}

/** Tables that are kept: 4 KiB each. A kernel's own mappings take a few hundred. */
const mostTables = 4096

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
  /** Of this root. */
  readonly #known: KnownPages

  constructor({ physical, format, root }: VirtualMemoryOptions) {
    this.#physical = physical
    this.#format = format
    this.#root = root
    this.#known = new KnownPages(physical)
  }

  /** All RAM is mapped from here on, one byte behind another (`PAGE_OFFSET`): what lies there is found without the tables. */
  useDirectMap(start: bigint): void {
    this.#known.directMap = start
  }

  /** Forgets the tables read so far: those of a living kernel change. */
  forget(): void {
    this.#tables.clear()
    this.#known.forget()
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
      if (root === this.#root) walk.result ??= this.#known.find(address)
      return walk
    })
    const [own, others] = [[] as Walk[], [] as Walk[]]
    for (const [i, walk] of walks.entries()) if (walk.result === undefined) ((wanted[i]?.root ?? this.#root) === this.#root ? own : others).push(walk)
    // One address of each 2 MiB goes first: where they are one page, all others of it are known then.
    const areas = new Set<number>()
    const first = own.filter(({ address }) => areas.size < areas.add(largePageOf(address)).size)
    await this.#walk([...first, ...others])
    for (const { address, result } of first) this.#known.remember(address, result)
    const rest = own.filter((walk) => (walk.result ??= this.#known.find(walk.address)) === undefined)
    await this.#walk(rest)
    for (const { address, result } of rest) this.#known.remember(address, result)
    return walks.map(({ result }) => result ?? { missing: 'no page at the last level', level: 'address' })
  }

  /** All go down to where they lead. */
  async #walk(walks: readonly Walk[]): Promise<void> {
    for (const level of this.#format.levels) await this.#step(walks, level)
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
    return (await this.tryReadSlices(ranges)).map((slice) => (slice instanceof BackdoorsError ? slice : bytesOf(slice)))
  }

  /** As `tryReadMany`, for many small ranges: those that were read together share a view. */
  async tryReadSlices(ranges: readonly VirtualRange[]): Promise<(Slice | BackdoorsError)[]> {
    checkRanges(ranges)
    const places = await this.#placesOf(ranges)
    const wanted: MemoryRange[] = []
    for (const place of places) {
      if (place instanceof BackdoorsError) continue
      if ('offset' in place) wanted.push(place)
      else for (const part of place) wanted.push(part)
    }
    const read = wanted.length === 0 ? [] : await readMerged(this.#physical.memory, wanted, this.#physical.cost)
    let next = 0
    return places.map((place) => {
      if (place instanceof BackdoorsError) return place
      return 'offset' in place ? (read[next++] as Slice) : joined(read.slice(next, (next += place.length)))
    })
  }

  /** Where ranges are in the lent memory; most are found without a look at the tables. */
  async #placesOf(ranges: readonly VirtualRange[]): Promise<Place[]> {
    const places = ranges.map((range) => this.#placeAtOnce(range))
    if (!places.includes(undefined)) return places as Place[]
    const unknown = ranges.filter((_, i) => places[i] === undefined)
    const pages = unknown.map(pagesOf)
    const translations = await this.#translate(pages.flat())
    let [next, at] = [0, 0]
    return places.map((place) => {
      if (place) return place
      const parts = pages[at++] as VirtualRange[]
      return this.#locate(parts, translations.slice(next, (next += parts.length)))
    })
  }

  #placeAtOnce({ address, length, root = this.#root }: VirtualRange): MemoryRange | undefined {
    if (root !== this.#root) return undefined
    let offset = this.#physical.offsetOf(this.#known.directlyMapped(address), length)
    if (Number.isNaN(offset) && intoPage(address) + length <= pageBytes) offset = this.#physical.offsetOf(this.#known.find(address)?.physical ?? NaN, length)
    return Number.isNaN(offset) ? undefined : { offset, length }
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
  #locate(parts: readonly VirtualRange[], translations: readonly Translation[]): Place {
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
    const places = located.flatMap((range) => this.#physical.locate(range) as MemoryRange[])
    return places.length === 1 ? (places[0] as MemoryRange) : places
  }

  #notMapped(address: bigint, length: number, why: string): BackdoorsError {
    const { peer } = this.#physical.memory
    return new BackdoorsError('NOT_MAPPED', `${length} bytes at address 0x${address.toString(16)} of ${peer}: ${why}`, { peer, address, length })
  }
}
