/** Pages whose place is known without another look at the page tables: a structure is seldom read alone. */
import { pageBytes } from './page-table-format.js'
import type { PhysicalMemory } from './physical-memory.js'
import { intoPage } from './virtual-range.js'

/** A physical address, and how large the page is that it lies in. */
export interface Page {
  readonly physical: number
  readonly pageBytes: number
}

/** Where an address leads. */
export type Translation =
  | Page
  /** `level` names the table whose entry leads nowhere, or lies outside the machine's RAM. */
  | { readonly missing: string; readonly level: string }

const mostFound = 1 << 16
const pageShift = 12n
const largeBytes = 2 ** 21
const pagesPerLarge = largeBytes / pageBytes

/** Number of the 4 KiB, and of the 2 MiB, that an address lies in: both fit into a number, which is looked up sooner than a bigint. */
const pageOf = (address: bigint): number => Number(address >> pageShift)
const areaOf = (page: number): number => Math.floor(page / pagesPerLarge)
export const largePageOf = (address: bigint): number => areaOf(pageOf(address))

export class KnownPages {
  /** See `VirtualMemory.useDirectMap`. */
  directMap: bigint | undefined
  readonly #physical: PhysicalMemory
  /** By their numbers; of the pages of 2 MiB and more they are negative. */
  readonly #found = new Map<number, Page>()

  constructor(physical: PhysicalMemory) {
    this.#physical = physical
  }

  forget(): void {
    this.#found.clear()
  }

  /** What is not mapped may be by the next time, so only pages are remembered. */
  remember(address: bigint, result: Translation | undefined): void {
    if (result === undefined || 'missing' in result) return
    if (this.#found.size >= mostFound) this.#found.clear()
    const { physical, pageBytes: size } = result
    const page = pageOf(address)
    const isLarge = size >= largeBytes
    // Of a page that is larger still, the 2 MiB around the address.
    const into = intoPage(address) + (isLarge ? (page % pagesPerLarge) * pageBytes : 0)
    this.#found.set(isLarge ? -1 - areaOf(page) : page, { physical: physical - into, pageBytes: size })
  }

  find(address: bigint): Page | undefined {
    const direct = this.directlyMapped(address)
    if (!Number.isNaN(this.#physical.offsetOf(direct, 1))) return { physical: direct, pageBytes }
    const page = pageOf(address)
    const large = this.#found.get(-1 - areaOf(page))
    if (large) return { physical: large.physical + (page % pagesPerLarge) * pageBytes + intoPage(address), pageBytes: large.pageBytes }
    const small = this.#found.get(page)
    return small && { physical: small.physical + intoPage(address), pageBytes: small.pageBytes }
  }

  /** The physical address; NaN where it does not lie there. An address far above may give a number, but one at which there is no RAM. */
  directlyMapped(address: bigint): number {
    return this.directMap === undefined || address < this.directMap ? NaN : Number(address - this.directMap)
  }
}
