/** Ranges of virtual addresses. */
import { BackdoorsError } from '../errors.js'
import { pageBytes } from './page-table-format.js'

/** `address` has 64 bits: a kernel's are in the upper half. */
export interface VirtualRange {
  readonly address: bigint
  /** In bytes. */
  readonly length: number
  /** Physical address of another root table than the memory's own: one batch may read many processes. */
  readonly root?: number | undefined
}

/** Bytes of one call of `readMany`: more is read in several. */
const mostBytes = 256 << 20

/** How far into its page of 4 KiB an address lies, in bytes. */
export const intoPage = (address: bigint): number => Number(address & BigInt(pageBytes - 1))

const endOfAddresses = 1n << 64n

/** @throws BackdoorsError INVALID_ARGUMENT */
export function checkRanges(ranges: readonly VirtualRange[]): void {
  let bytes = 0
  for (const { address, length } of ranges) {
    // A pointer found in memory may be so near to the end that what it should point to lies beyond: that is not mapped.
    const isAddress = address >= 0n && address < endOfAddresses && Number.isSafeInteger(length) && length > 0
    if (!isAddress) throw new BackdoorsError('INVALID_ARGUMENT', `${length} bytes at address 0x${address.toString(16)}: give at least 1 byte, and an address of 64 bits`, { address, length })
    bytes += length
  }
  if (bytes > mostBytes) throw new BackdoorsError('INVALID_ARGUMENT', `${bytes} bytes in one call: at most ${mostBytes}`, { length: bytes })
}

/** The range, cut where pages end. */
export function pagesOf(range: VirtualRange): VirtualRange[] {
  const { address, length, root } = range
  if (intoPage(address) + length <= pageBytes) return [range]
  const parts: VirtualRange[] = []
  let [from, left] = [address, length]
  while (left > 0) {
    const part = Math.min(left, pageBytes - intoPage(from))
    parts.push({ address: from, length: part, root })
    from += BigInt(part)
    left -= part
  }
  return parts
}
