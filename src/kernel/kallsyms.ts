/**
 * The kernel's own table of its symbols, which is packed: each name is a row of tokens, each token a byte that stands for some
 * characters. The first character of a name is the symbol's type, as `nm` prints it.
 *
 * Source: kernel/kallsyms.c and scripts/kallsyms.c of the Linux kernel, in the form that addresses have had since 4.6
 * (32-bit offsets against a base) and lengths since 6.1 (two bytes from 128 on).
 */
import { BackdoorsError } from '../errors.js'
import { hashByte, hashOfName, hashStart } from './name-hash.js'

/** A kernel has 100,000 to 400,000. */
export const mostSymbols = 4_000_000
const tokens = 256
/** Names of one hash that are looked at: more are no accident. */
const mostTries = 4096
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
  /** What `Kallsyms.index` was of the same tables: it spares going through all names. */
  readonly index?: Uint8Array | undefined
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

/**
 * A kernel has some 100,000 symbols, of which a few dozen are asked for: so their names stay as they are packed, and are
 * found by their hashes, in a row; each is made a string when it is asked for.
 */
export class Kallsyms {
  readonly #names: PackedNames
  readonly #offsets: DataView
  readonly #relativeBase: bigint
  readonly #absolutePerCpu: boolean
  /** The few that are asked for, and again and again by who watches. */
  readonly #found = new Map<string, KernelSymbol | undefined>()
  /** Numbers of the symbols by their addresses, made when first needed. */
  #byAddress: Uint32Array | undefined
  #addresses: BigUint64Array | undefined

  /**
   * @param absolutePerCpu how the kernel counts: with it, addresses that are not negative are absolute (before Linux 6.15)
   * @throws BackdoorsError KERNEL_DATA_CORRUPT where the tables do not fit each other
   */
  constructor(tables: KallsymsTables, { absolutePerCpu = true }: { readonly absolutePerCpu?: boolean } = {}) {
    const { count, offsets, relativeBase } = tables
    this.#absolutePerCpu = absolutePerCpu
    if (!Number.isSafeInteger(count) || count < 1 || count > mostSymbols) throw corrupt(`there are ${count} symbols`)
    if (offsets.length < count * 4) throw corrupt('there are fewer addresses than names')
    this.#names = new PackedNames(tables)
    this.#offsets = new DataView(offsets.buffer, offsets.byteOffset, offsets.byteLength)
    this.#relativeBase = relativeBase
  }

  get size(): number {
    return this.#names.count
  }

  /** Where names begin, and their hashes: to be kept with the tables. */
  get index(): Uint8Array {
    return this.#names.index
  }

  /** The first symbol of this name: static functions of one name stand in many files. */
  find(name: string): KernelSymbol | undefined {
    if (!this.#found.has(name)) this.#found.set(name, this.#search(name))
    return this.#found.get(name)
  }

  #search(name: string): KernelSymbol | undefined {
    const hash = hashOfName(name)
    for (let i = this.#names.next(hash, 0), tries = 0; i >= 0 && tries < mostTries; i = this.#names.next(hash, i + 1), tries++) if (this.#names.text(i).slice(1) === name) return this.#at(i)
    return undefined
  }

  /**
   * The last symbol at or below an address, how far the address is behind it, and how long it is (to the next symbol; undefined
   * of the last one): what a stack trace prints. Of several at one address, the first.
   */
  nearest(address: bigint): NearestSymbol | undefined {
    this.#addresses ??= BigUint64Array.from({ length: this.size }, (_, i) => this.#addressOf(i))
    this.#byAddress ??= sorted(this.#addresses)
    const [numbers, addresses] = [this.#byAddress, this.#addresses]
    const addressAt = (place: number): bigint => addresses[numbers[place] as number] as bigint
    const above = firstPlace(numbers.length, (place) => addressAt(place) > address)
    if (above === 0) return undefined
    const start = addressAt(above - 1)
    const symbol = this.#at(numbers[firstPlace(above, (place) => addressAt(place) >= start)] as number)
    return { symbol, offset: address - start, bytes: above < numbers.length ? addressAt(above) - start : undefined }
  }

  *[Symbol.iterator](): Generator<KernelSymbol> {
    for (let i = 0; i < this.size; i++) yield this.#at(i)
  }

  #addressOf(i: number): bigint {
    if (!this.#absolutePerCpu) return BigInt.asUintN(64, this.#relativeBase + BigInt(this.#offsets.getUint32(i * 4, true)))
    const offset = this.#offsets.getInt32(i * 4, true)
    // What is not below zero is an address by itself: of a variable that each CPU has, in its own area.
    return BigInt.asUintN(64, offset >= 0 ? BigInt(offset) : this.#relativeBase - 1n - BigInt(offset))
  }

  #at(i: number): KernelSymbol {
    const name = this.#names.text(i)
    return { name: name.slice(1), type: name.charAt(0), address: this.#addressOf(i) }
  }
}

function sorted(addresses: BigUint64Array): Uint32Array {
  return Uint32Array.from(addresses, (_, i) => i).sort((a, b) => {
    const [first, second] = [addresses[a] as bigint, addresses[b] as bigint]
    return first < second ? -1 : first > second ? 1 : a - b
  })
}

/** Names as they stand in the tables: a length, and so many numbers of tokens. The first character is the symbol's type. */
class PackedNames {
  readonly count: number
  readonly #names: Uint8Array
  readonly #tokens: readonly Uint8Array[]
  readonly #texts: readonly string[]
  /** Where each name begins, with its length. */
  readonly #starts: Uint32Array
  /** Of each name without its type. */
  readonly #hashes: Int32Array

  /** @throws BackdoorsError KERNEL_DATA_CORRUPT */
  constructor({ count, names, tokenTable, tokenIndex, index }: KallsymsTables) {
    this.count = count
    this.#names = names
    this.#tokens = unpackTokens(tokenTable, tokenIndex)
    this.#texts = this.#tokens.map((token) => Buffer.from(token).toString('latin1'))
    if (index !== undefined && index.length !== 8 * count) throw corrupt('their index is not of them')
    // A copy: numbers have to stand at multiples of their size.
    const { buffer } = index === undefined ? new Uint8Array(8 * count) : new Uint8Array(index)
    this.#starts = new Uint32Array(buffer, 0, count)
    this.#hashes = new Int32Array(buffer, 4 * count, count)
    if (index === undefined) this.#makeIndex()
  }

  get index(): Uint8Array {
    return new Uint8Array(this.#starts.buffer)
  }

  /** The next symbol from `from` on whose name has this hash; -1 where there is none. */
  next(hash: number, from: number): number {
    return this.#hashes.indexOf(hash, from)
  }

  /** With its type. */
  text(i: number): string {
    const { at: start, end } = this.#nameAt(this.#starts[i] as number, i)
    let text = ''
    for (let at = start; at < end; at++) text += this.#texts[this.#names[at] as number] as string
    return text
  }

  #makeIndex(): void {
    for (let i = 0, next = 0; i < this.count; i++) {
      const { at, end } = this.#nameAt(next, i)
      this.#starts[i] = next
      this.#hashes[i] = this.#hash(i, at, end)
      next = end
    }
  }

  /** @returns where the tokens of a name begin, and end */
  #nameAt(start: number, i: number): { at: number; end: number } {
    const names = this.#names
    let at = start
    let length = names[at++]
    if (length !== undefined && length >= 0x80) length = (length & 0x7f) | ((names[at++] ?? 0) << 7)
    if (length === undefined || length === 0 || at + length > names.length) throw corrupt(`symbol ${i} of ${this.count} has no name`)
    return { at, end: at + length }
  }

  #hash(i: number, start: number, end: number): number {
    let hash = hashStart
    let characters = 0
    const [names, tokens] = [this.#names, this.#tokens]
    for (let at = start; at < end; at++) {
      const token = tokens[names[at] as number] as Uint8Array
      for (let k = 0; k < token.length; k++) if (characters++ > 0) hash = hashByte(hash, token[k] as number)
    }
    if (characters < 2 || characters > mostNameBytes) throw corrupt(`symbol ${i} has a name of ${characters} characters`)
    return hash
  }
}

function unpackTokens(table: Uint8Array, index: Uint8Array): Uint8Array[] {
  if (index.length < tokens * 2) throw corrupt('the index of tokens is cut off')
  const view = new DataView(index.buffer, index.byteOffset, index.byteLength)
  return Array.from({ length: tokens }, (_, i) => {
    const start = view.getUint16(i * 2, true)
    const end = table.indexOf(0, start)
    if (start >= table.length || end < 0 || end - start > mostNameBytes) throw corrupt(`token ${i} has no end`)
    return table.slice(start, end)
  })
}

const corrupt = (why: string): BackdoorsError => new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel's symbols cannot be read: ${why}.`, { field: 'kallsyms' })
