import { crc32c } from '../native/crc32c.js'

/**
 * The CRC that all checked bytes of a box continue from. It binds them to this region and this box, so that
 * what an earlier region or another box left behind is never taken for theirs.
 */
export function boxSeed(incarnation: bigint, box: number): number {
  const binding = new DataView(new ArrayBuffer(12))
  binding.setBigUint64(0, incarnation, true)
  binding.setUint32(8, box, true)
  return crc32c(new Uint8Array(binding.buffer), 0, 12, 0)
}
