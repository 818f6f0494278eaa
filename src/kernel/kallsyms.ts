/**
 * The kernel's own table of its symbols, which is packed: each name is a row of tokens, each token a byte that stands for some
 * characters. The first character of a name is the symbol's type, as `nm` prints it.
 *
 * Source: kernel/kallsyms.c and scripts/kallsyms.c of the Linux kernel, in the form that addresses have had since 4.6
 * (32-bit offsets against a base) and lengths since 6.1 (two bytes from 128 on).
 */
import { BackdoorsError } from '../errors.js'

/** A kernel has 100,000 to 400,000. */
export const mostSymbols = 4_000_000
const tokens = 256
/** `KSYM_NAME_LEN`: with the type and its end. */
const mostNameBytes = 512

export interface KallsymsTables {
  /** `kallsyms_num_syms`. */
  readonly count: number
  /** From `kallsyms_names` on; may be longer than the table. */
  readonly names: Uint8Array
  /** From `kallsyms_token_table` on; may be longer than the table. */
  readonly tokenTable: Uint8Array
  /** `kallsyms_token_index`: 256 numbers of 16 bits. */
  readonly tokenIndex: Uint8Array
  /** `kallsyms_offsets`: `count` numbers of 32 bits with a sign. */
  readonly offsets: Uint8Array
  /** `kallsyms_relative_base`. */
  readonly relativeBase: bigint
}

export interface KernelSymbol {
  readonly name: string
  /** As `nm` prints it: `T`, `t`, `D`, `B`, `A`, … */
  readonly type: string
  readonly address: bigint
}

export interface NearestSymbol {
  readonly symbol: KernelSymbol
  /** In bytes. */
  readonly offset: bigint
  readonly bytes: bigint | undefined
}

/** The first of some places at which something is true that stays true. */
function firstPlace(count: number, isTrue: (place: number) => boolean): number {
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >> 1
    if (isTrue(middle)) high = middle
    else low = middle + 1
  }
  return low
}

export class Kallsyms {
  readonly #names: readonly string[]
  readonly #addresses: BigUint64Array
  readonly #byName: ReadonlyMap<string, number>
  /** Numbers of the symbols by their addresses, made when first needed. */
  #byAddress: Uint32Array | undefined

  /** @throws BackdoorsError KERNEL_DATA_CORRUPT where the tables do not fit each other */
  constructor(tables: KallsymsTables) {
    const { count, offsets, relativeBase } = tables
    if (!Number.isSafeInteger(count) || count < 1 || count > mostSymbols) throw corrupt(`there are ${count} symbols`)
    if (offsets.length < count * 4) throw corrupt('there are fewer addresses than names')
    this.#names = unpackNames(tables)
    this.#addresses = new BigUint64Array(count)
    const view = new DataView(offsets.buffer, offsets.byteOffset, offsets.byteLength)
    for (let i = 0; i < count; i++) {
      const offset = view.getInt32(i * 4, true)
      // What is not below zero is an address by itself: of a variable that each CPU has, in its own area.
      this.#addresses[i] = BigInt.asUintN(64, offset >= 0 ? BigInt(offset) : relativeBase - 1n - BigInt(offset))
    }
    const byName = new Map<string, number>()
    for (const [i, name] of this.#names.entries()) if (!byName.has(name.slice(1))) byName.set(name.slice(1), i)
    this.#byName = byName
  }

  get size(): number {
    return this.#names.length
  }

  /** The first symbol of this name: static functions of one name stand in many files. */
  find(name: string): KernelSymbol | undefined {
    const i = this.#byName.get(name)
    return i === undefined ? undefined : this.#at(i)
  }

  /**
   * The last symbol at or below an address, how far the address is behind it, and how long it is (to the next symbol; undefined
   * of the last one): what a stack trace prints. Of several at one address, the first.
   */
  nearest(address: bigint): NearestSymbol | undefined {
    this.#byAddress ??= this.#sort()
    const sorted = this.#byAddress
    const addressAt = (place: number): bigint => this.#addresses[sorted[place] as number] as bigint
    const above = firstPlace(sorted.length, (place) => addressAt(place) > address)
    if (above === 0) return undefined
    const start = addressAt(above - 1)
    const symbol = this.#at(sorted[firstPlace(above, (place) => addressAt(place) >= start)] as number)
    return { symbol, offset: address - start, bytes: above < sorted.length ? addressAt(above) - start : undefined }
  }

  *[Symbol.iterator](): Generator<KernelSymbol> {
    for (let i = 0; i < this.#names.length; i++) yield this.#at(i)
  }

  #sort(): Uint32Array {
    const addresses = this.#addresses
    return Uint32Array.from(addresses, (_, i) => i).sort((a, b) => {
      const [first, second] = [addresses[a] as bigint, addresses[b] as bigint]
      return first < second ? -1 : first > second ? 1 : a - b
    })
  }

  #at(i: number): KernelSymbol {
    const name = this.#names[i] as string
    return { name: name.slice(1), type: name.charAt(0), address: this.#addresses[i] as bigint }
  }
}

function unpackNames({ count, names, tokenTable, tokenIndex }: KallsymsTables): string[] {
  const token = unpackTokens(tokenTable, tokenIndex)
  const unpacked: string[] = []
  let at = 0
  for (let i = 0; i < count; i++) {
    let length = names[at++]
    if (length !== undefined && length >= 0x80) length = (length & 0x7f) | ((names[at++] ?? 0) << 7)
    if (length === undefined || length === 0 || at + length > names.length) throw corrupt(`symbol ${i} of ${count} has no name`)
    let name = ''
    for (const end = at + length; at < end; at++) name += token[names[at] as number] as string
    if (name.length < 2 || name.length > mostNameBytes) throw corrupt(`symbol ${i} has a name of ${name.length} characters`)
    unpacked.push(name)
  }
  return unpacked
}

function unpackTokens(table: Uint8Array, index: Uint8Array): string[] {
  if (index.length < tokens * 2) throw corrupt('the index of tokens is cut off')
  const view = new DataView(index.buffer, index.byteOffset, index.byteLength)
  return Array.from({ length: tokens }, (_, i) => {
    const start = view.getUint16(i * 2, true)
    const end = table.indexOf(0, start)
    if (start >= table.length || end < 0 || end - start > mostNameBytes) throw corrupt(`token ${i} has no end`)
    return Buffer.from(table.subarray(start, end)).toString('latin1')
  })
}

const corrupt = (why: string): BackdoorsError => new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel's symbols cannot be read: ${why}.`, { field: 'kallsyms' })
