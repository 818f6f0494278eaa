/**
 * The kernel's xarray: entries by index. It holds the cached pages of a file, and the processes by their numbers.
 *
 * Source: include/linux/xarray.h and lib/xarray.c of the Linux kernel. The two lowest bits of an entry tell what it is: 00 a
 * pointer, 01 a value, 10 something internal: a node, a sibling of an entry that fills several slots, or a mark.
 */
import { BackdoorsError } from '../errors.js'
import type { Btf } from './btf.js'
import type { KernelImage } from './kernel-image.js'
import type { Faults } from './walks.js'

export interface XarrayEntry {
  /** The first index that this slot stands for, and how many. */
  readonly index: number
  readonly count: number
  /** The first index of the whole entry: less than `index` where the entry fills several slots. */
  readonly start: number
  readonly entry: bigint
}

export interface XarrayWalk {
  /** What `xarray.xa_head` holds. */
  readonly head: bigint
  /** Indexes that are wanted, both included; below 2^52. */
  readonly first: number
  readonly last: number
  readonly faults: Faults
}

/** Nodes of one walk at most. */
const mostNodes = 1 << 16

interface Node {
  readonly address: bigint
  readonly base: number
  /** Shifts get smaller on the way down, or the tree goes in a circle. */
  readonly below: number
}

interface Layout {
  readonly slots: number
  readonly slotCount: number
  readonly shift: number
  readonly bytes: number
}

const isNode = (entry: bigint): boolean => (entry & 3n) === 2n && entry > 4096n

/** Is it an entry that someone stored, and a value rather than a pointer? */
export const isXarrayValue = (entry: bigint): boolean => (entry & 1n) === 1n

/**
 * The entries in a range of indexes, by as many batches as the array has levels.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws
 */
export async function walkXarray(image: KernelImage, { head, first, last, faults }: XarrayWalk): Promise<XarrayEntry[]> {
  if (!isNode(head)) return head === 0n || (head & 3n) === 2n || first > 0 ? [] : [{ index: 0, count: 1, start: 0, entry: head }]
  const layout = layoutOf(image.types)
  const found: XarrayEntry[] = []
  const asked = new Set<bigint>()
  let level: Node[] = [{ address: head - 2n, base: 0, below: 64 }]
  while (level.length > 0) {
    const fresh = level.filter(({ address }) => !asked.has(address) && asked.size < mostNodes && asked.add(address))
    if (fresh.length < level.length) faults.push(corrupt(image, 'an xarray has a node twice, or too many', head))
    const read = await image.memory.tryReadMany(fresh.map(({ address }) => ({ address, length: layout.bytes })))
    level = []
    for (const [i, bytes] of read.entries()) {
      const node = fresh[i] as Node
      if (bytes instanceof BackdoorsError) faults.push(bytes)
      else if (!readNode(node, layout, bytes, { first, last }, found, level)) faults.push(corrupt(image, 'a node of an xarray does not fit where it stands', node.address))
    }
  }
  return found.sort((a, b) => a.index - b.index)
}

/** @returns false where the node cannot be one of this array */
function readNode(node: Node, layout: Layout, bytes: Uint8Array, { first, last }: { first: number; last: number }, found: XarrayEntry[], below: Node[]): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const shift = view.getUint8(layout.shift)
  if (shift >= node.below || shift % Math.log2(layout.slotCount) !== 0) return false
  const count = 2 ** shift
  const entryAt = (slot: number): bigint => view.getBigUint64(layout.slots + slot * 8, true)
  const from = Math.max(0, Math.floor((first - node.base) / count))
  const to = Math.min(layout.slotCount - 1, Math.floor((last - node.base) / count))
  let isSound = true
  for (let slot = from; slot <= to; slot++) {
    const index = node.base + slot * count
    let [start, entry] = [index, entryAt(slot)]
    if (isNode(entry)) {
      if (shift === 0) isSound = false
      else below.push({ address: entry - 2n, base: index, below: shift })
      continue
    }
    if ((entry & 3n) === 2n) {
      const sibling = Number(entry >> 2n)
      if (sibling >= slot) continue
      entry = entryAt(sibling)
      start = node.base + sibling * count
    }
    if (entry !== 0n && (entry & 3n) !== 2n) found.push({ index, count, start, entry })
  }
  return isSound
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function layoutOf(types: Btf): Layout {
  const [slots, shift] = [types.member('xa_node', 'slots'), types.member('xa_node', 'shift')]
  const slotCount = (slots?.length ?? 0) / 8
  if (slots === undefined || shift === undefined || ![16, 64].includes(slotCount) || shift.offset > 64 || slots.offset > 256) {
    throw new BackdoorsError('KERNEL_UNSUPPORTED', 'This kernel\'s struct xa_node has no slots as known here.', { field: 'xa_node.slots' })
  }
  return { slots: slots.offset, slotCount, shift: shift.offset, bytes: Math.max(slots.offset + slots.length, shift.offset + 1) }
}

const corrupt = (image: KernelImage, what: string, address: bigint): BackdoorsError =>
  new BackdoorsError('KERNEL_DATA_CORRUPT', `${what} of ${image.peer}, at 0x${address.toString(16)}`, { peer: image.peer, address })
