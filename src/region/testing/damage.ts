/** What a dying machine, or a hostile one, may have written. Everything is drawn from a seed. */
import type { Random } from '../../fabric/mock/random.js'
import { crc32c } from '../../native/crc32c.js'
import { indexEntry } from '../layout.js'

const pick = (random: Random, below: number): number => random.integer(0, below - 1)

export function flipBits(bytes: Uint8Array, random: Random, count: number): void {
  for (let i = 0; i < count; i++) {
    const at = pick(random, bytes.length)
    bytes[at] = (bytes[at] as number) ^ (1 << pick(random, 8))
  }
}

/** Writes one of the kinds of damage somewhere into `bytes`, which are four at least. */
export function damage(bytes: Uint8Array, random: Random): void {
  const start = pick(random, bytes.length)
  const length = Math.min(bytes.length - start, 1 + pick(random, 300))
  const target = bytes.subarray(start, start + length)
  const kind = pick(random, 5)
  if (kind === 0) flipBits(bytes, random, 1 + pick(random, 8))
  else if (kind === 1) random.fill(target)
  else if (kind === 2) target.fill(pick(random, 2) === 0 ? 0 : 0xff)
  // Lost writes and stale pages: what stood elsewhere stands here, too.
  else if (kind === 3) bytes.copyWithin(start, pick(random, bytes.length), pick(random, bytes.length))
  else writeNumber(bytes, Math.min(start & ~3, bytes.length - 4), random)
}

/** A number of the kind that lengths and offsets go wrong with. */
function writeNumber(bytes: Uint8Array, offset: number, random: Random): void {
  const number = random.pick([0, 1, 2, 63, 64, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, random.uint32(), pick(random, bytes.length)])
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, number, true)
}

/** An entry whose CRC is right and whose numbers are anything, as only a hostile owner can write it. */
export function forgeIndexEntry(index: Uint8Array, heapBytes: number, seed: number, random: Random): void {
  const position = pick(random, index.length / indexEntry.bytes)
  const entry = index.subarray(position * indexEntry.bytes, (position + 1) * indexEntry.bytes)
  const view = new DataView(entry.buffer, entry.byteOffset)
  const units = heapBytes / 64
  for (const slot of [indexEntry.slotA, indexEntry.slotB]) {
    view.setUint32(slot, random.pick([0, pick(random, units), units - 1, units, random.uint32()]), true)
    view.setUint32(slot + 4, random.pick([0, 1, 1 + pick(random, units), units, random.uint32()]), true)
  }
  view.setUint32(indexEntry.flags, pick(random, 8), true)
  view.setUint32(indexEntry.recordBytes, random.pick([0, 48, pick(random, heapBytes), heapBytes, random.uint32()]), true)
  view.setUint32(indexEntry.sequence, random.pick([0, pick(random, 30), random.uint32()]), true)
  view.setUint32(indexEntry.crc, crc32c(entry, 0, indexEntry.crc, seed), true)
}
