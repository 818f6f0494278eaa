/** Structures of a kernel, read by the names of their members: the offsets come from the kernel's own BTF. */
import { BackdoorsError } from '../errors.js'
import type { Btf, BtfMember } from './btf.js'
import { mergeGap } from './merged-reads.js'
import type { VirtualRange } from './virtual-memory.js'

interface Piece {
  readonly offset: number
  readonly length: number
}

interface Field {
  readonly member: BtfMember
  readonly piece: number
  /** In its piece. */
  readonly at: number
  /** In bytes; of a bit field, those that its bits lie in. */
  readonly length: number
}

/**
 * Which members of a structure are wanted: worked out once, used for every object of its type.
 *
 * @example
 * const wanted = new Selection(kernel.types, 'task_struct', ['pid', 'comm'], ['__state', 'state'])
 */
export class Selection {
  readonly structure: string
  readonly pieces: readonly Piece[]
  readonly #fields = new Map<string, Field>()

  /**
   * @param members paths, as `Btf.member` takes them
   * @param optional members that not every kernel has; `has` tells
   * @throws BackdoorsError KERNEL_UNSUPPORTED with the member that is missing
   */
  constructor(types: Btf, structure: string, members: readonly string[], optional: readonly string[] = []) {
    this.structure = structure
    const found = new Map<string, BtfMember>()
    for (const path of [...members, ...optional]) {
      const member = types.member(structure, path)
      if (member) found.set(path, member)
      else if (members.includes(path)) throw new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's struct ${structure} has no member ${path}.`, { field: `${structure}.${path}` })
    }
    const pieces: { offset: number; length: number }[] = []
    for (const [path, member] of [...found].sort(([, a], [, b]) => a.offset - b.offset)) {
      const length = Math.max(bytesOf(member), 1)
      const last = pieces.at(-1)
      if (last && member.offset <= last.offset + last.length + mergeGap) last.length = Math.max(last.length, member.offset + length - last.offset)
      else pieces.push({ offset: member.offset, length })
      const piece = pieces.length - 1
      this.#fields.set(path, { member, piece, at: member.offset - (pieces[piece] as Piece).offset, length: bytesOf(member) })
    }
    this.pieces = pieces
  }

  has(path: string): boolean {
    return this.#fields.has(path)
  }

  /** From the start of the structure, in bytes. @throws BackdoorsError INVALID_ARGUMENT where it was not selected */
  offsetOf(path: string): number {
    return this.field(path).member.offset
  }

  ranges(address: bigint): VirtualRange[] {
    return this.pieces.map(({ offset, length }) => ({ address: BigInt.asUintN(64, address + BigInt(offset)), length }))
  }

  field(path: string): Field {
    const field = this.#fields.get(path)
    if (field) return field
    throw new BackdoorsError('INVALID_ARGUMENT', `The member ${path} of struct ${this.structure} was not selected.`, { field: path })
  }
}

const bytesOf = ({ length, bitField }: BtfMember): number => (bitField === undefined ? length : Math.ceil((bitField.shift + bitField.bits) / 8))

/** The selected members of one structure, as they were at one read. Nothing in them is to be trusted. */
export class KernelObject {
  readonly selection: Selection
  readonly address: bigint
  readonly #pieces: readonly Uint8Array[]

  constructor(selection: Selection, address: bigint, pieces: readonly Uint8Array[]) {
    this.selection = selection
    this.address = address
    this.#pieces = pieces
  }

  /** Where a member is. */
  addressOf(path: string): bigint {
    return BigInt.asUintN(64, this.address + BigInt(this.selection.offsetOf(path)))
  }

  /** An integer of up to 8 bytes, or a bit field, without a sign. */
  unsigned(path: string): bigint {
    const field = this.selection.field(path)
    const { bitField } = field.member
    const value = (BigInt(this.#half(field, 4)) << 32n) | BigInt(this.#half(field, 0))
    return bitField === undefined ? value : (value >> BigInt(bitField.shift)) & ((1n << BigInt(bitField.bits)) - 1n)
  }

  signed(path: string): bigint {
    const { member } = this.selection.field(path)
    return BigInt.asIntN(member.bitField?.bits ?? Math.min(member.length, 8) * 8, this.unsigned(path))
  }

  /** An integer that is known to fit: of 4 bytes, or a count. Beyond 2^53 it is rounded. */
  number(path: string): number {
    const field = this.selection.field(path)
    return field.member.bitField === undefined ? this.#half(field, 4) * 2 ** 32 + this.#half(field, 0) : Number(this.unsigned(path))
  }

  /** Like `number`, for integers with a sign. */
  signedNumber(path: string): number {
    return Number(this.signed(path))
  }

  /** Where a pointer points to; 0 is NULL. */
  pointer(path: string): bigint {
    return this.unsigned(path)
  }

  /** A string of at most the member's size, up to its NUL. Bytes that are no UTF-8 are shown as such. */
  text(path: string): string {
    const bytes = this.bytes(path)
    const end = bytes.indexOf(0)
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
  }

  bytes(path: string): Uint8Array {
    const { piece, at, length } = this.selection.field(path)
    return (this.#pieces[piece] as Uint8Array).subarray(at, at + length)
  }

  /** Four bytes of a member, as a number; those beyond its end, and beyond the eighth, are 0. */
  #half({ piece, at, length }: Field, from: number): number {
    const bytes = this.#pieces[piece] as Uint8Array
    let value = 0
    for (let i = Math.min(length, from + 4) - 1; i >= from; i--) value = value * 256 + (bytes[at + i] as number)
    return value
  }
}
