/** Bytes that say where they lie, so that a read of the wrong place, or of nothing, does not pass for a good one. */

/** Differs between neighbours, between pages, and from 0 nearly everywhere. */
const patternAt = (offset: number): number => (offset * 31 + (offset >> 8) * 17 + (offset >> 16) * 7 + 1) & 0xff

export function fillPattern(bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; offset += 1) bytes[offset] = patternAt(offset)
}

/** @throws Error where `bytes` are not those that lie at `offset` */
export function checkPattern(bytes: Uint8Array, offset: number, by: string): void {
  const wrong = bytes.findIndex((byte, index) => byte !== patternAt(offset + index))
  if (wrong >= 0) throw new Error(`${by} read other bytes than lie there: at offset ${offset + wrong}. No figure of it can be trusted.`)
}
