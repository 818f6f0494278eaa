/** BTF made by hand. */
import { btfKinds, type BtfKind } from '../btf.js'

export interface BuiltMember {
  readonly name?: string
  readonly type: number
  /** From the start of the structure, in bits. */
  readonly bit: number
  /** Of a bit field. */
  readonly bits?: number
}

export class BtfBuilder {
  readonly #types: number[] = []
  #strings = '\0'
  #count = 0

  /** A type without anything behind it. @returns its number */
  add(kind: BtfKind, name: string, sizeOrType: number, words: readonly number[] = [], vlen = 0, flag = 0): number {
    this.#types.push(this.#name(name), (flag << 31) | (btfKinds.indexOf(kind) << 24) | vlen, sizeOrType, ...words)
    return ++this.#count
  }

  int(name: string, bytes: number, isSigned = false): number {
    return this.add('int', name, bytes, [(isSigned ? 1 << 24 : 0) | (bytes * 8)])
  }

  array(element: number, length: number): number {
    return this.add('array', '', 0, [element, element, length])
  }

  structure(kind: 'struct' | 'union', name: string, bytes: number, members: readonly BuiltMember[]): number {
    const hasBitFields = members.some(({ bits }) => bits !== undefined)
    const words = members.flatMap(({ name: member = '', type, bit, bits = 0 }) => [this.#name(member), type, hasBitFields ? ((bits << 24) | bit) >>> 0 : bit])
    return this.add(kind, name, bytes, words, members.length, hasBitFields ? 1 : 0)
  }

  enumeration(name: string, values: Readonly<Record<string, number>>): number {
    const entries = Object.entries(values)
    const isSigned = entries.some(([, value]) => value < 0)
    return this.add('enum', name, 4, entries.flatMap(([constant, value]) => [this.#name(constant), value]), entries.length, isSigned ? 1 : 0)
  }

  bytes(): Uint8Array {
    const types = Uint32Array.from(this.#types, (word) => word >>> 0)
    // As long as a multiple of 4, like the rest.
    const strings = Buffer.from(this.#strings.padEnd(Math.ceil(this.#strings.length / 4) * 4, '\0'), 'latin1')
    const header = Buffer.alloc(24)
    header.writeUInt16LE(0xeb9f, 0)
    header.writeUInt8(1, 2)
    for (const [i, word] of [24, 0, types.byteLength, types.byteLength, strings.length].entries()) header.writeUInt32LE(word, 4 + 4 * i)
    return new Uint8Array(Buffer.concat([header, Buffer.from(types.buffer), strings]))
  }

  #name(name: string): number {
    if (name === '') return 0
    this.#strings += `${name}\0`
    return this.#strings.length - name.length - 1
  }
}
