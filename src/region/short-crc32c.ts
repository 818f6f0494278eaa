/**
 * CRC32C of few bytes, in JavaScript: below some tens of bytes a call into the addon costs more than the CRC, and
 * half of its results are numbers that the garbage collector has to take away.
 */

const polynomial = 0x82f63b78

/** Four tables of 256 ("slicing by 4"): what a byte does to the CRC when 0 to 3 bytes follow it. */
const tables = makeTables()

function makeTables(): Int32Array {
  const made = new Int32Array(4 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1
    made[byte] = crc
  }
  for (let at = 256; at < made.length; at++) {
    const before = made[at - 256] as number
    made[at] = (made[before & 0xff] as number) ^ (before >>> 8)
  }
  return made
}

/**
 * The same 32 bits as `crc32c` of src/native, but signed: such a number is never an object on the heap.
 * @param length a multiple of 4
 */
export function shortCrc32c(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  let crc = ~seed
  for (let at = offset; at < offset + length; at += 4) {
    crc ^= (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)
    crc = (tables[768 + (crc & 0xff)] as number) ^ (tables[512 + ((crc >>> 8) & 0xff)] as number) ^ (tables[256 + ((crc >>> 16) & 0xff)] as number) ^ (tables[crc >>> 24] as number)
  }
  return ~crc
}
