/** Structures of a kernel, read by the names of their members: the offsets come from the kernel's own BTF. */
import { BackdoorsError } from '../errors.js'
import type { Btf, BtfMember } from './btf.js'
import { mergeGap } from './merged-reads.js'
import { bytesOf, sliceOf, type Slice } from './slice.js'
import type { VirtualMemory, VirtualRange } from './virtual-memory.js'

interface Piece {
  readonly offset: number
  readonly length: number
}

/** Where a selected member is. */
export interface Field {
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
  readonly types: Btf
  readonly structure: string
  readonly pieces: readonly Piece[]
  readonly #fields = new Map<string, Field>()
  /** The pieces' offsets: there are many addresses that they are added to. */
  readonly #starts: readonly bigint[]

  /**
   * @param members paths, as `Btf.member` takes them
   * @param optional members that not every kernel has; `has` tells
   * @throws BackdoorsError KERNEL_UNSUPPORTED with the member that is missing
   */
  constructor(types: Btf, structure: string, members: readonly string[], optional: readonly string[] = []) {
    this.types = types
    this.structure = structure
    const found = new Map<string, BtfMember>()
    for (const path of [...members, ...optional]) {
      const member = types.member(structure, path)
      if (member) found.set(path, member)
      else if (members.includes(path)) throw missing(types, structure, path)
    }
    const pieces: { offset: number; length: number }[] = []
    for (const [path, member] of [...found].sort(([, a], [, b]) => a.offset - b.offset)) {
      const length = Math.max(bytesIn(member), 1)
      const last = pieces.at(-1)
      if (last && member.offset <= last.offset + last.length + mergeGap) last.length = Math.max(last.length, member.offset + length - last.offset)
      else pieces.push({ offset: member.offset, length })
      const piece = pieces.length - 1
      this.#fields.set(path, { member, piece, at: member.offset - (pieces[piece] as Piece).offset, length: bytesIn(member) })
    }
    this.pieces = pieces
    this.#starts = pieces.map(({ offset }) => BigInt(offset))
  }

  has(path: string): boolean {
    return this.#fields.has(path)
  }

  /** From the start of the structure, in bytes. @throws BackdoorsError INVALID_ARGUMENT where it was not selected */
  offsetOf(path: string): number {
    return this.field(path).member.offset
  }

  ranges(address: bigint): VirtualRange[] {
    return this.pieces.map(({ length }, i) => ({ address: BigInt.asUintN(64, address + (this.#starts[i] as bigint)), length }))
  }

  /** The selected member that stands there, by whatever path; undefined where there is none. */
  fieldAt({ offset, type, bitField }: BtfMember): Field | undefined {
    return [...this.#fields.values()].find(({ member }) => member.offset === offset && member.type === type && member.bitField?.shift === bitField?.shift && member.length <= 8)
  }

  field(path: string): Field {
    const field = this.#fields.get(path)
    if (field) return field
    throw new BackdoorsError('INVALID_ARGUMENT', `The member ${path} of struct ${this.structure} was not selected.`, { field: path })
  }
}

const bytesIn = ({ length, bitField }: BtfMember): number => (bitField === undefined ? length : Math.ceil((bitField.shift + bitField.bits) / 8))

function missing(types: Btf, structure: string, path: string): BackdoorsError {
  const why = types.steps(structure, path) === undefined ? `has no member ${path}` : `leads to ${path} through a pointer, which only KernelObject.field follows`
  return new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's struct ${structure} ${why}.`, { field: `${structure}.${path}` })
}

/** The selected members of one structure, as they were at one read. Nothing in them is to be trusted. */
export class KernelObject {
  readonly selection: Selection
  readonly address: bigint
  readonly #pieces: readonly Slice[]
  readonly #memory: VirtualMemory | undefined

  /** @param memory that it was read of, for `field` */
  constructor(selection: Selection, address: bigint, pieces: readonly Slice[], memory?: VirtualMemory) {
    this.selection = selection
    this.address = address
    this.#pieces = pieces
    this.#memory = memory
  }

  /** Of a structure that was read whole. @throws BackdoorsError KERNEL_UNSUPPORTED where its members lie beyond it */
  static of(selection: Selection, address: bigint, bytes: Uint8Array): KernelObject {
    const { view } = sliceOf(bytes)
    return new KernelObject(selection, address, selection.pieces.map(({ offset, length }) => {
      if (offset + length <= bytes.length) return { view, at: offset, length }
      throw new BackdoorsError('KERNEL_UNSUPPORTED', `Members of this kernel's struct ${selection.structure} lie behind its ${bytes.length} bytes.`, { field: selection.structure })
    }))
  }

  /**
   * An integer or a pointer, with the sign that its type has, by a path that may lead through pointers. What was selected is as it
   * was read; each step beyond that takes a read, so many objects are better read by `KernelImage.readGroups`.
   *
   * @example
   * const adjustment = await task.field('signal.oom_score_adj')
   * @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no such member; NOT_MAPPED where a pointer on the way is NULL or
   *   leads nowhere; INVALID_ARGUMENT where the member has more than 8 bytes, or this object is not one that `KernelImage` has read; and
   *   what reading throws
   */
  async field(path: string): Promise<bigint> {
    const { types, structure } = this.selection
    const steps = types.steps(structure, path)
    if (steps === undefined) throw missing(types, structure, path)
    let start = this.address
    let value = 0n
    for (const [i, member] of steps.entries()) {
      if (i > 0 && value === 0n) throw new BackdoorsError('NOT_MAPPED', `A pointer on the way to ${path} of the struct ${structure} at 0x${this.address.toString(16)} is NULL.`, { address: 0n, length: bytesIn(member), field: `${structure}.${path}` })
      if (i > 0) start = value
      const selected = i === 0 ? this.selection.fieldAt(member) : undefined
      value = selected ? this.#bits(selected) : await this.#readBits(path, start, member)
    }
    const { type, length, bitField } = steps.at(-1) as BtfMember
    return types.isSigned(type) ? BigInt.asIntN(bitField?.bits ?? length * 8, value) : value
  }

  async #readBits(path: string, start: bigint, member: BtfMember): Promise<bigint> {
    const length = bytesIn(member)
    const { selection } = this
    const why = this.#memory === undefined ? 'was not read by itself, so that nothing more of it can be read' : length < 1 || length > 8 ? `has ${length} bytes there, which are no number` : undefined
    if (this.#memory === undefined || why !== undefined) throw new BackdoorsError('INVALID_ARGUMENT', `${path} cannot be read as a field: the struct ${selection.structure} ${why}.`, { field: `${selection.structure}.${path}` })
    const bytes = await this.#memory.read(BigInt.asUintN(64, start + BigInt(member.offset)), length)
    return new KernelObject(selection, start, [sliceOf(bytes)]).#bits({ member, piece: 0, at: 0, length })
  }

  /** Where a member is. */
  addressOf(path: string): bigint {
    return BigInt.asUintN(64, this.address + BigInt(this.selection.offsetOf(path)))
  }

  /** An integer of up to 8 bytes, or a bit field, without a sign. */
  unsigned(path: string): bigint {
    return this.#bits(this.selection.field(path))
  }

  signed(path: string): bigint {
    const { member } = this.selection.field(path)
    return BigInt.asIntN(member.bitField?.bits ?? Math.min(member.length, 8) * 8, this.unsigned(path))
  }

  /** An integer that is known to fit: of 4 bytes, or a count. Beyond 2^53 it is rounded. */
  number(path: string): number {
    return this.numberAt(this.selection.field(path))
  }

  /** As `number`, where many objects' members are read: they are looked up once. @param field of this object's selection */
  numberAt(field: Field): number {
    const { bitField } = field.member
    const low = this.#half(field, 0)
    if (bitField !== undefined) return field.length <= 4 ? Math.floor(low / 2 ** bitField.shift) % 2 ** bitField.bits : Number(this.#bits(field))
    return field.length <= 4 ? low : this.#half(field, 4) * 2 ** 32 + low
  }

  /** Like `number`, for integers with a sign. */
  signedNumber(path: string): number {
    const field = this.selection.field(path)
    if (field.member.bitField !== undefined || field.length > 4) return Number(this.signed(path))
    const above = 32 - 8 * field.length
    return (this.#half(field, 0) << above) >> above
  }

  /** Where a pointer points to; 0 is NULL. */
  pointer(path: string): bigint {
    return this.unsigned(path)
  }

  /** A string of at most the member's size, up to its NUL. Bytes that are no UTF-8 are shown as such. */
  text(path: string): string {
    const bytes = this.bytes(path)
    const end = bytes.indexOf(0)
    if (end === 0) return ''
    return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end))
  }

  bytes(path: string): Uint8Array {
    const { piece, at, length } = this.selection.field(path)
    const { view, at: start } = this.#pieces[piece] as Slice
    return bytesOf({ view, at: start + at, length })
  }

  #bits(field: Field): bigint {
    const { bitField } = field.member
    const value = field.length >= 8 ? this.#word(field) : this.#short(field)
    return bitField === undefined ? value : (value >> BigInt(bitField.shift)) & ((1n << BigInt(bitField.bits)) - 1n)
  }

  #word({ piece, at }: Field): bigint {
    const { view, at: start } = this.#pieces[piece] as Slice
    return view.getBigUint64(start + at, true)
  }

  #short(field: Field): bigint {
    const low = BigInt(this.#half(field, 0))
    return field.length <= 4 ? low : (BigInt(this.#half(field, 4)) << 32n) | low
  }

  /** Four bytes of a member, as a number; those beyond its end, and beyond the eighth, are 0. */
  #half({ piece, at: inPiece, length }: Field, from: number): number {
    const { view, at: start } = this.#pieces[piece] as Slice
    const at = start + inPiece + from
    const left = length - from
    if (left >= 4) return view.getUint32(at, true)
    if (left === 3) return view.getUint16(at, true) + view.getUint8(at + 2) * 2 ** 16
    if (left === 2) return view.getUint16(at, true)
    return left === 1 ? view.getUint8(at) : 0
  }
}

const decoder = new TextDecoder()
