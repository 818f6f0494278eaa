/** A machine's RAM with page tables in it, made by hand; and a second translator, to hold the first against. */
import { Random } from '../../fabric/mock/random.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { pageBytes, type PageTableFormat } from '../page-table-format.js'
import { PhysicalMemory } from '../physical-memory.js'
import { VirtualMemory } from '../virtual-memory.js'

/** What an entry of each kind has beside its address: present, writable, accessed, dirty (and the page size bit, or arm64's type and flag). */
const flags = {
  x86: { table: 0x23n, page: 0x63n, largePage: 0xe3n },
  arm64: { table: 0x3n, page: 0x403n, largePage: 0x401n },
} as const

export class PageTables {
  readonly ram: Uint8Array
  readonly memory: BytesMemory
  readonly physical: PhysicalMemory
  readonly root = 0
  readonly #view: DataView
  readonly #flags: (typeof flags)['x86' | 'arm64']
  #nextTable = pageBytes

  constructor(readonly format: PageTableFormat, pages = 64) {
    this.ram = new Uint8Array(pages * pageBytes)
    this.#view = new DataView(this.ram.buffer)
    this.memory = new BytesMemory(this.ram)
    this.physical = new PhysicalMemory(this.memory, [{ physical: 0, length: this.ram.length, offset: 0 }])
    this.#flags = format.name.startsWith('arm64') ? flags.arm64 : flags.x86
  }

  open(): VirtualMemory {
    return new VirtualMemory({ physical: this.physical, format: this.format, root: this.root })
  }

  /** Another address space in the same RAM. @returns where its root table is */
  addSpace(): number {
    const root = this.#nextTable
    this.#nextTable += pageBytes
    return root
  }

  /** Maps the page of 2^shift bytes at `address` to `physical`, with all tables that are missing. @returns where its entry is */
  map(address: bigint, physical: number, shift = 12, root: number = this.root): number {
    let table = root
    for (const level of this.format.levels) {
      const at = table + Number((address >> BigInt(level.shift)) & 0x1ffn) * 8
      if (level.shift === shift) {
        const kind = shift === 12 ? this.#flags.page : this.#flags.largePage
        this.#view.setBigUint64(at, BigInt(physical) | kind, true)
        return at
      }
      const entry = this.#view.getBigUint64(at, true)
      table = Number(entry & 0xf_ffff_ffff_f000n)
      if (entry !== 0n) continue
      table = this.#nextTable
      this.#nextTable += pageBytes
      this.#view.setBigUint64(at, BigInt(table) | this.#flags.table, true)
    }
    throw new Error(`${this.format.name} has no pages of 2^${shift} bytes`)
  }

  setEntry(at: number, entry: bigint): void {
    this.#view.setBigUint64(at, entry, true)
  }

  getEntry(at: number): bigint {
    return this.#view.getBigUint64(at, true)
  }

  /** Fills the RAM from `from` on with bytes that differ from page to page. */
  fill(from: number, random = new Random(1)): void {
    random.fill(this.ram.subarray(from))
  }
}

/**
 * x86-64 after the tables of the processor's manual, entry by entry, without a table of formats.
 * @returns the physical address, or undefined
 */
export function translateX86(ram: Uint8Array, root: number, levels: 4 | 5, address: bigint): number | undefined {
  const sign = levels === 5 ? 56n : 47n
  const above = address >> sign
  if (above !== 0n && above !== (1n << (64n - sign)) - 1n) return undefined
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength)
  let table = BigInt(root)
  for (let depth: number = levels; depth >= 1; depth--) {
    const shift = 12n + 9n * BigInt(depth - 1)
    if (table + 4096n > BigInt(ram.length)) return undefined
    const entry = view.getBigUint64(Number(table + ((address >> shift) % 512n) * 8n), true)
    if (entry % 2n === 0n) return undefined
    const base = ((entry / 4096n) % (1n << 40n)) * 4096n
    const isLarge = (entry / 128n) % 2n === 1n
    if (depth === 1) return Number(base + (address % 4096n))
    if (isLarge && depth > 3) return undefined
    if (isLarge) return Number((base / (1n << shift)) * (1n << shift) + (address % (1n << shift)))
    table = base
  }
  return undefined
}
