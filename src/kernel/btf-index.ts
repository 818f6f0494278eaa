/** Where a kernel's types stand and what they are called by hash: made of its BTF once, and kept beside it. */

export interface BtfIndex {
  /** Where each type stands, by its number. */
  readonly offsets: Uint32Array
  /** The numbers of types that are found by their names, and the names' hashes. */
  readonly named: Uint32Array
  readonly hashes: Int32Array
}

/** How many types and names there are, then the rest in their order: all of them words of 32 bits. */
export function packIndex({ offsets, named, hashes }: BtfIndex): Uint8Array {
  const words = new Uint32Array(2 + offsets.length + 2 * named.length)
  words.set([offsets.length, named.length])
  words.set(offsets, 2)
  words.set(named, 2 + offsets.length)
  words.set(hashes, 2 + offsets.length + named.length)
  return new Uint8Array(words.buffer)
}

/** @returns undefined where it is none */
export function unpackIndex(index: Uint8Array): BtfIndex | undefined {
  // A copy: numbers have to stand at multiples of their size.
  const { buffer, byteLength } = new Uint8Array(index)
  const [types = 0, names = 0] = byteLength % 4 === 0 && byteLength >= 8 ? new Uint32Array(buffer, 0, 2) : []
  if (types < 1 || byteLength !== 4 * (2 + types + 2 * names)) return undefined
  return { offsets: new Uint32Array(buffer, 8, types), named: new Uint32Array(buffer, 8 + 4 * types, names), hashes: new Int32Array(buffer, 8 + 4 * (types + names), names) }
}
