/**
 * The kernel's maple tree: ranges of indexes, each with an entry. It holds the mappings of a process since Linux 6.1.
 *
 * Source: include/linux/maple_tree.h and lib/maple_tree.c of the Linux kernel. A node has 256 bytes and is aligned to them, so
 * that a pointer to it has room for its type. The pivot of a slot is the last index of that slot.
 */
import { BackdoorsError } from '../errors.js'
import type { Btf, BtfMember } from './btf.js'
import type { KernelImage } from './kernel-image.js'
import type { Faults } from './walks.js'

export interface MapleEntry {
  readonly first: bigint
  readonly last: bigint
  /** What is stored for these indexes: a pointer. */
  readonly entry: bigint
}

/** `enum maple_type`, by its number. */
const nodeTypes = ['dense', 'leaf', 'range', 'allocation range'] as const
/** Of those, the ones whose slots hold entries; those of the others hold nodes. */
const leafTypes: ReadonlySet<number> = new Set([0, 1])
const nodeBytes = 256
/** Nodes of one tree at most: of some millions of entries. */
const mostNodes = 1 << 18
/** Entries that are read at most: a process has 65,530 mappings unless its machine was told to allow more. */
const mostEntries = 1 << 20
/** Nodes that are read in one batch. */
const batchNodes = 1 << 14
const lastIndex = (1n << 64n) - 1n

interface NodeLayout {
  readonly pivots: BtfMember | undefined
  readonly slots: BtfMember
}

interface Node {
  readonly address: bigint
  readonly type: number
  readonly min: bigint
  readonly max: bigint
}

const nodeAt = (encoded: bigint, min: bigint, max: bigint): Node => ({ address: encoded & ~0xffn, type: Number((encoded >> 3n) & 15n), min, max })

/**
 * All entries of a tree, in the order of their indexes, by as many batches as it has levels.
 * @param root what `maple_tree.ma_root` holds
 * @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no maple trees, and what reading throws
 */
export async function walkMapleTree(image: KernelImage, root: bigint, faults: Faults): Promise<MapleEntry[]> {
  const layouts = layoutsOf(image.types)
  const found: MapleEntry[] = []
  const asked = new Set<bigint>()
  let level: Node[] = []
  const take = (entry: bigint, min: bigint, max: bigint): void => {
    // Internal entries are marks of the tree's own.
    if ((entry & 3n) !== 2n) found.push({ first: min, last: max, entry })
  }
  // Only the root tells by its lowest bits whether it is a node: below it, the type of a node tells what its slots hold.
  if ((root & 3n) === 2n && root > 4096n) level.push(nodeAt(root, 0n, lastIndex))
  else if (root !== 0n) take(root, 0n, 0n)
  while (level.length > 0) {
    const batch = level.slice(0, batchNodes)
    const below: Node[] = level.slice(batchNodes)
    const fresh = batch.filter(({ address }) => !asked.has(address) && asked.size < mostNodes && asked.add(address))
    if (fresh.length < batch.length) faults.push(corrupt(image, 'a maple tree has a node twice, or too many', batch.find((node) => !fresh.includes(node))?.address ?? 0n))
    const read = await image.memory.tryReadMany(fresh.map(({ address }) => ({ address, length: nodeBytes })))
    for (const [i, bytes] of read.entries()) {
      const node = fresh[i] as Node
      if (bytes instanceof BackdoorsError) faults.push(bytes)
      else readNode(image, node, layouts, bytes, faults, leafTypes.has(node.type) ? take : (entry, min, max) => void below.push(nodeAt(entry, min, max)))
    }
    if (found.length > mostEntries) {
      faults.push(corrupt(image, `a maple tree has more than ${mostEntries} entries`, root))
      break
    }
    level = below
  }
  return found.sort((a, b) => (a.first < b.first ? -1 : 1))
}

function readNode(image: KernelImage, node: Node, layouts: readonly NodeLayout[], bytes: Uint8Array, faults: Faults, take: (entry: bigint, min: bigint, max: bigint) => void): void {
  const { address, type, min, max } = node
  const layout = layouts[type]
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // A node that has left its tree is its own parent.
  const isDead = (view.getBigUint64(0, true) & ~0xffn) === address
  if (layout === undefined || isDead) return void faults.push(corrupt(image, isDead ? 'a node of a maple tree that was freed' : `a node of a maple tree of the unknown type ${type}`, address))
  const { pivots, slots } = layout
  const slotCount = slots.length / 8
  const pivotCount = pivots === undefined ? 0 : pivots.length / 8
  let from = min
  for (let i = 0; i < slotCount && from <= max; i++) {
    let to = pivots === undefined ? from : max
    if (i < pivotCount) {
      const pivot = view.getBigUint64((pivots as BtfMember).offset + i * 8, true)
      // A pivot of 0 behind the first ends the node.
      to = pivot === 0n && i > 0 ? max : pivot
    }
    if (to < from || to > max) return void faults.push(corrupt(image, 'a node of a maple tree has its pivots out of order', address))
    const entry = view.getBigUint64(slots.offset + i * 8, true)
    if (entry !== 0n) take(entry, from, to)
    from = to + 1n
  }
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function layoutsOf(types: Btf): NodeLayout[] {
  const member = (path: string): BtfMember => {
    const found = types.member('maple_node', path)
    if (found === undefined || found.offset + found.length > nodeBytes) throw new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's struct maple_node has no member ${path}, or is larger than ${nodeBytes} bytes.`, { field: `maple_node.${path}` })
    return found
  }
  const range = { pivots: member('mr64.pivot'), slots: member('mr64.slot') }
  const layouts: Record<(typeof nodeTypes)[number], NodeLayout> = {
    dense: { pivots: undefined, slots: member('slot') },
    leaf: range,
    range,
    'allocation range': { pivots: member('ma64.pivot'), slots: member('ma64.slot') },
  }
  return nodeTypes.map((type) => layouts[type])
}

const corrupt = (image: KernelImage, what: string, address: bigint): BackdoorsError =>
  new BackdoorsError('KERNEL_DATA_CORRUPT', `${what} of ${image.peer}, at 0x${address.toString(16)}`, { peer: image.peer, address })
