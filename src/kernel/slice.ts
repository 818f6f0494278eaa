/** Bytes that were read together with others: thousands of structures share one buffer and one view of it, and none is copied. */
export interface Slice {
  readonly view: DataView
  /** Where it begins in the view, in bytes. */
  readonly at: number
  readonly length: number
}

export const sliceOf = (bytes: Uint8Array): Slice => ({ view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at: 0, length: bytes.length })

/** The first eight bytes, as the kernel's machine has them. */
export const wordOf = (bytes: Uint8Array): bigint => sliceOf(bytes).view.getBigUint64(0, true)

/** The same bytes, not a copy. */
export const bytesOf = ({ view, at, length }: Slice): Uint8Array => new Uint8Array(view.buffer, view.byteOffset + at, length)

export function joined(parts: readonly Slice[]): Slice {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let end = 0
  for (const part of parts) whole.set(bytesOf(part), (end += part.length) - part.length)
  return sliceOf(whole)
}
