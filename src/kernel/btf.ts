/**
 * BTF, the description that a Linux kernel carries of its own types: where each member of each structure is.
 *
 * Source: Documentation/bpf/btf.rst of the Linux kernel. All numbers are little-endian; types are numbered from 1, in the
 * order they stand in, and 0 is void.
 */
import { BackdoorsError } from '../errors.js'
import { packIndex, unpackIndex, type BtfIndex } from './btf-index.js'
import { hashByte, hashOfName, hashStart } from './name-hash.js'

const magic = 0xeb9f
const headerBytes = 24
const typeBytes = 12
/** `BTF_INT_SIGNED`, in the word behind an integer type. */
const signedInt = 1 << 24
/** Modifiers, typedefs and arrays in arrays lead on at most so far: what leads further goes in a circle. */
const mostSteps = 64
/** Structures in structures, anonymous ones among them. */
const mostNesting = 32
/** Names of one hash that are looked at: more are no accident. */
const mostTries = 4096

export const btfKinds = [
  'void', 'int', 'pointer', 'array', 'struct', 'union', 'enum', 'forward', 'typedef', 'volatile', 'const', 'restrict', 'function',
  'prototype', 'variable', 'section', 'float', 'declaration tag', 'type tag', 'enum64',
] as const
export type BtfKind = (typeof btfKinds)[number]

/** Bytes that stand behind a type of this kind: so many at least, and so many for each of its `vlen` parts. */
const trailing: Partial<Record<BtfKind, { readonly fixed?: number; readonly each?: number }>> = {
  int: { fixed: 4 }, array: { fixed: 12 }, struct: { each: 12 }, union: { each: 12 }, enum: { each: 8 }, prototype: { each: 8 },
  variable: { fixed: 4 }, section: { each: 12 }, 'declaration tag': { fixed: 4 }, enum64: { each: 12 },
}

/** The kinds that are found by their names. */
const named: ReadonlySet<BtfKind> = new Set(['struct', 'union', 'enum', 'enum64', 'typedef'])

/** By the kind's number: there are many types, and each is gone through once. Nothing may stand as void. */
const shapes = btfKinds.map((kind) => (kind === 'void' ? undefined : { fixed: trailing[kind]?.fixed ?? 0, each: trailing[kind]?.each ?? 0, isNamed: named.has(kind) }))

/** Kinds that are only another type by another name, or with a promise. */
const transparent: ReadonlySet<BtfKind> = new Set(['typedef', 'volatile', 'const', 'restrict', 'type tag'])

export interface BtfType {
  readonly id: number
  readonly kind: BtfKind
  /** Empty where it has none. */
  readonly name: string
}

/** Where a member is. */
export interface BtfMember {
  /** From the start of the structure that was asked for, in bytes; of a bit field: of the byte that its first bit is in. */
  readonly offset: number
  /** Of the member's type, in bytes. */
  readonly length: number
  /** The member's type, without typedefs and modifiers. */
  readonly type: number
  /** Of a bit field: where it begins in its byte, and how many bits it has. */
  readonly bitField?: { readonly shift: number; readonly bits: number }
}

export class Btf {
  readonly #view: DataView
  readonly #strings: Uint8Array
  /** Where each type stands, by its number. */
  readonly #offsets: Uint32Array
  /** The numbers of structures, unions, enums and typedefs that are more than declared, and the hashes of their names. */
  readonly #named: Uint32Array
  readonly #hashes: Int32Array
  #enums: readonly number[] | undefined
  /** The few that are asked for. */
  readonly #found = new Map<string, BtfType | undefined>()
  readonly #constants = new Map<string, number | undefined>()

  /**
   * @param index what `index` was of the same bytes: it spares going through all types
   * @throws BackdoorsError KERNEL_DATA_CORRUPT where the bytes are no BTF, or are damaged
   */
  constructor(bytes: Uint8Array, index?: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (bytes.length < headerBytes || view.getUint16(0, true) !== magic || view.getUint8(2) !== 1) throw corrupt('it does not begin as BTF of version 1 does')
    const start = view.getUint32(4, true)
    const section = (at: number): Uint8Array => {
      const from = start + view.getUint32(at, true)
      const length = view.getUint32(at + 4, true)
      if (start < headerBytes || from > bytes.length || length > bytes.length - from) throw corrupt('a section ends beyond it')
      return bytes.subarray(from, from + length)
    }
    const types = section(8)
    this.#view = new DataView(types.buffer, types.byteOffset, types.byteLength)
    this.#strings = section(16)
    const found = index === undefined ? this.#findTypes() : unpackIndex(index)
    if (found === undefined) throw corrupt('its index is not of it')
    this.#offsets = found.offsets
    this.#named = found.named
    this.#hashes = found.hashes ?? Int32Array.from(found.named, (id) => this.#hashOf(id))
  }

  /** Where types stand, and the hashes of their names: to be kept with the bytes. */
  get index(): Uint8Array {
    return packIndex({ offsets: this.#offsets, named: this.#named, hashes: this.#hashes })
  }

  /** How many types there are. */
  get size(): number {
    return this.#offsets.length - 1
  }

  /** The structure, union, enum or typedef of this name; undefined where this kernel has none. */
  find(name: string): BtfType | undefined {
    if (!this.#found.has(name)) this.#found.set(name, this.#search(name))
    return this.#found.get(name)
  }

  #search(name: string): BtfType | undefined {
    const hash = hashOfName(name)
    let found: BtfType | undefined
    for (let i = this.#hashes.indexOf(hash), tries = 0; i >= 0 && tries < mostTries; i = this.#hashes.indexOf(hash, i + 1), tries++) {
      const type = this.type(this.#named[i] as number)
      // A structure goes before a typedef of its name.
      if (type.name === name && name !== '') found = type
      if (found !== undefined && found.kind !== 'typedef') return found
    }
    return found
  }

  /** @throws BackdoorsError KERNEL_DATA_CORRUPT where there is no type of this number */
  type(id: number): BtfType {
    if (id === 0) return { id, kind: 'void', name: '' }
    return { id, kind: this.#kindOf(id), name: this.#text(this.#view.getUint32(this.#offsetOf(id), true)) }
  }

  /** The type behind typedefs and modifiers. @throws BackdoorsError KERNEL_DATA_CORRUPT */
  resolve(id: number): number {
    let at = id
    for (let step = 0; step < mostSteps; step++) {
      if (at === 0 || !transparent.has(this.#kindOf(at))) return at
      at = this.#sizeOrType(at)
    }
    throw corrupt(`type ${id} leads on to others without an end`)
  }

  /** Bytes that a value of this type takes; 0 for void and functions. @throws BackdoorsError KERNEL_DATA_CORRUPT */
  sizeOf(id: number): number {
    let count = 1
    let at = this.resolve(id)
    for (let step = 0; step < mostSteps; step++) {
      if (at === 0) return 0
      const kind = this.#kindOf(at)
      if (kind === 'pointer') return count * 8
      if (kind !== 'array') return ['int', 'struct', 'union', 'enum', 'float', 'enum64'].includes(kind) ? count * this.#sizeOrType(at) : 0
      const { element, length } = this.#array(at)
      count *= length
      if (!Number.isSafeInteger(count)) break
      at = this.resolve(element)
    }
    throw corrupt(`type ${id} is an array without a bound`)
  }

  /**
   * Finds a member by its path from a structure on; anonymous structures and unions are looked through, and elements of arrays
   * are numbered: `thread.sp`, `__state`, `comm[3]`.
   * @returns undefined where this kernel's structure has no such member: that is how its capabilities are told
   * @throws BackdoorsError KERNEL_DATA_CORRUPT
   */
  member(structure: string, path: string): BtfMember | undefined {
    const steps = this.steps(structure, path)
    return steps?.length === 1 ? steps[0] : undefined
  }

  /**
   * As `member`, for a path that may lead through pointers as well: `signal.oom_score_adj`.
   * @returns the pointers on the way, each in what the one before it points to, and then the member
   * @throws BackdoorsError KERNEL_DATA_CORRUPT
   */
  steps(structure: string, path: string): BtfMember[] | undefined {
    const found = this.find(structure)
    if (found === undefined) return undefined
    const steps: BtfMember[] = []
    let at = { type: this.resolve(found.id), bit: 0, bits: 0 }
    for (const part of path.split('.')) {
      const target = at.type === 0 || this.#kindOf(at.type) !== 'pointer' ? undefined : this.targetOf(at.type)
      if (target !== undefined) {
        steps.push(this.#memberAt(at))
        at = { type: target, bit: 0, bits: 0 }
      }
      const [name, ...indexes] = part.split('[')
      const next = this.#memberOf(at.type, Buffer.from(name as string, 'latin1'), mostNesting)
      if (next === undefined) return undefined
      at = { ...next, bit: at.bit + next.bit }
      for (const index of indexes) {
        const element = this.#elementOf(at.type, index)
        if (element === undefined) return undefined
        at = { ...element, bit: at.bit + element.bit }
      }
    }
    return [...steps, this.#memberAt(at)]
  }

  /** Does an integer of this type, or an enum, have a sign? @throws BackdoorsError KERNEL_DATA_CORRUPT */
  isSigned(id: number): boolean {
    const at = this.resolve(id)
    const kind = at === 0 ? 'void' : this.#kindOf(at)
    if (kind === 'enum' || kind === 'enum64') return this.#view.getUint32(this.#offsetOf(at) + 4, true) >>> 31 === 1
    return kind === 'int' && (this.#view.getUint32(this.#offsetOf(at) + typeBytes, true) & signedInt) !== 0
  }

  #memberAt({ type, bit, bits }: { readonly type: number; readonly bit: number; readonly bits: number }): BtfMember {
    const bitField = bits > 0 ? { bitField: { shift: bit % 8, bits } } : {}
    return { offset: Math.floor(bit / 8), length: this.sizeOf(type), type, ...bitField }
  }

  /**
   * The value of an enumerator, of whichever enum: many of a kernel's enums have no name.
   * @returns undefined where this kernel has no such enumerator, or one of more than 32 bits
   * @throws BackdoorsError KERNEL_DATA_CORRUPT
   */
  constant(name: string): number | undefined {
    if (!this.#constants.has(name)) this.#constants.set(name, this.#findConstant(name))
    return this.#constants.get(name)
  }

  /** What a pointer points to, or an array is made of, without typedefs and modifiers. @throws BackdoorsError KERNEL_DATA_CORRUPT */
  targetOf(id: number): number | undefined {
    const at = this.resolve(id)
    const kind = at === 0 ? 'void' : this.#kindOf(at)
    if (kind === 'pointer') return this.resolve(this.#sizeOrType(at))
    return kind === 'array' ? this.resolve(this.#array(at).element) : undefined
  }

  /** @param searched anonymous structures without it: many may hold the same ones */
  #memberOf(structure: number, wanted: Uint8Array, depth: number, searched?: Set<number>): { type: number; bit: number; bits: number } | undefined {
    if (structure === 0 || searched?.has(structure)) return undefined
    const kind = this.#kindOf(structure)
    if (kind !== 'struct' && kind !== 'union') return undefined
    if (depth === 0) throw corrupt(`structure ${structure} lies within itself`)
    const offset = this.#offsetOf(structure)
    const info = this.#view.getUint32(offset + 4, true)
    const hasBitFields = info >>> 31 === 1
    for (let i = 0; i < (info & 0xffff); i++) {
      const at = offset + typeBytes + i * 12
      const name = this.#view.getUint32(at, true)
      const isNamed = this.#strings[name] !== 0
      if (isNamed && !this.#isText(name, wanted)) continue
      const position = this.#view.getUint32(at + 8, true)
      const bit = hasBitFields ? position & 0xff_ffff : position
      const type = this.resolve(this.#view.getUint32(at + 4, true))
      if (isNamed) return { type, bit, bits: hasBitFields ? position >>> 24 : 0 }
      const within = this.#memberOf(type, wanted, depth - 1, (searched ??= new Set()))
      if (within) return { ...within, bit: bit + within.bit }
    }
    searched?.add(structure)
    return undefined
  }

  #elementOf(array: number, text: string): { type: number; bit: number; bits: number } | undefined {
    const index = /^(\d{1,9})\]$/.exec(text)?.[1]
    if (index === undefined || array === 0 || this.#kindOf(array) !== 'array') return undefined
    const { element, length } = this.#array(array)
    // An array without a length, at the end of a structure, has as many elements as there is room for.
    if (length > 0 && Number(index) >= length) return undefined
    return { type: this.resolve(element), bit: Number(index) * this.sizeOf(element) * 8, bits: 0 }
  }

  #findTypes(): Omit<BtfIndex, 'hashes'> & { readonly hashes?: undefined } {
    const view = this.#view
    const bytes = view.byteLength
    const offsets = [0]
    const ids: number[] = []
    let at = 0
    while (at < bytes) {
      if (bytes - at < typeBytes) throw corrupt('it ends within a type')
      const info = view.getUint32(at + 4, true)
      const number = (info >>> 24) & 0x1f
      const shape = shapes[number]
      if (shape === undefined) throw corrupt(`type ${offsets.length} is of an unknown kind`)
      if (shape.isNamed) ids.push(offsets.length)
      offsets.push(at)
      at += typeBytes + shape.fixed + shape.each * (info & 0xffff)
    }
    if (at !== bytes) throw corrupt('it ends within a type')
    return { offsets: Uint32Array.from(offsets), named: Uint32Array.from(ids) }
  }

  #hashOf(id: number): number {
    const strings = this.#strings
    let hash = hashStart
    for (let at = this.#view.getUint32(this.#offsetOf(id), true); ; at++) {
      const byte = strings[at]
      if (byte === undefined) throw corrupt('a name lies outside its strings')
      if (byte === 0) return hash
      hash = hashByte(hash, byte)
    }
  }

  /** There are tens of thousands, of which few are asked for: so their names are compared as numbers, by where they may stand. */
  #findConstant(name: string): number | undefined {
    const places = new Set<number>()
    const wanted = Buffer.from(`${name}\0`, 'latin1')
    const strings = Buffer.from(this.#strings.buffer, this.#strings.byteOffset, this.#strings.byteLength)
    for (let at = strings.indexOf(wanted); at >= 0; at = strings.indexOf(wanted, at + 1)) places.add(at)
    if (name === '' || places.size === 0) return undefined
    const view = this.#view
    this.#enums ??= [...this.#named].filter((candidate) => this.#kindOf(candidate) === 'enum')
    for (const id of this.#enums) {
      const offset = this.#offsetOf(id) + typeBytes
      const end = offset + (view.getUint32(offset - typeBytes + 4, true) & 0xffff) * 8
      for (let at = offset; at < end; at += 8) if (places.has(view.getUint32(at, true))) return view.getInt32(at + 4, true)
    }
    return undefined
  }

  #offsetOf(id: number): number {
    const offset = id > 0 ? this.#offsets[id] : undefined
    if (offset === undefined || offset > this.#view.byteLength - typeBytes) throw corrupt(`there is no type ${id}`)
    return offset
  }

  #kindOf(id: number): BtfKind {
    return btfKinds[(this.#view.getUint32(this.#offsetOf(id) + 4, true) >>> 24) & 0x1f] as BtfKind
  }

  /** The third word of a type: its size, or the type that it is of. */
  #sizeOrType(id: number): number {
    return this.#view.getUint32(this.#offsetOf(id) + 8, true)
  }

  #array(id: number): { element: number; length: number } {
    const at = this.#offsetOf(id) + typeBytes
    return { element: this.#view.getUint32(at, true), length: this.#view.getUint32(at + 8, true) }
  }

  /** Structures have hundreds of members, of which few are asked for: so their names are compared where they stand. */
  #isText(at: number, wanted: Uint8Array): boolean {
    const strings = this.#strings
    if (at >= strings.length) throw corrupt('a name lies outside its strings')
    for (let i = 0; i < wanted.length; i++) if (strings[at + i] !== wanted[i]) return false
    return strings[at + wanted.length] === 0
  }

  #text(at: number): string {
    const end = this.#strings.indexOf(0, at)
    if (at >= this.#strings.length || end < 0) throw corrupt('a name lies outside its strings')
    return Buffer.from(this.#strings.buffer, this.#strings.byteOffset + at, end - at).toString('latin1')
  }
}

const corrupt = (why: string): BackdoorsError => new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel's BTF cannot be read: ${why}.`, { field: 'BTF' })
