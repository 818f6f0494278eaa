/** Members of structures, written where the kernel's own types say that they are. */
import type { Btf } from '../btf.js'

export interface MemberPlace {
  readonly structure: string
  /** Where the structure begins in the view. */
  readonly start: number
  readonly path: string
}

/** Integers of any length, pointers, and bit fields. @throws Error where there is no such member */
export function writeMember(view: DataView, types: Btf, { structure, start, path }: MemberPlace, value: bigint): void {
  const member = types.member(structure, path)
  if (member === undefined) throw new Error(`no ${structure}.${path}`)
  const { offset, length, bitField } = member
  const count = bitField === undefined ? length : Math.ceil((bitField.shift + bitField.bits) / 8)
  let word = value
  if (bitField !== undefined) {
    const mask = ((1n << BigInt(bitField.bits)) - 1n) << BigInt(bitField.shift)
    let before = 0n
    for (let i = 0; i < count; i++) before |= BigInt(view.getUint8(start + offset + i)) << BigInt(8 * i)
    word = (before & ~mask) | ((value << BigInt(bitField.shift)) & mask)
  }
  for (let i = 0; i < count; i++) view.setUint8(start + offset + i, Number((word >> BigInt(8 * i)) & 0xffn))
}
