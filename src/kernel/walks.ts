/**
 * Ways through a kernel's linked data. What they follow may be damaged: every walk is bounded, sees when it comes back to
 * where it was, and hands on what it found before that.
 */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import type { KernelImage } from './kernel-image.js'
import { KernelObject, type Selection } from './kernel-object.js'
import { wordOf } from './slice.js'

/** What a view could not read, beside what it could. */
export type Faults = BackdoorsError[]

/** What is missing where one part of an answer cannot be read: the rest of it is given all the same. */
export async function attempt<T>(faults: Faults, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (!isBackdoorsError(error, 'NOT_MAPPED', 'KERNEL_UNSUPPORTED', 'KERNEL_DATA_CORRUPT', 'OUT_OF_RANGE')) throw error
    faults.push(error)
    return undefined
  }
}

/** Entries of one walk at most. */
const mostEntries = 1 << 20

interface ListOptions {
  /** Address of the `list_head` that is no entry itself. */
  readonly head: bigint
  /** Of the entries; includes `${link}.next`. */
  readonly selection: Selection
  /** The member by which entries are linked. */
  readonly link: string
  /** Where the list ends early, the reason is added here. */
  readonly faults: Faults
}

const corrupt = (image: KernelImage, what: string, address: bigint): BackdoorsError =>
  new BackdoorsError('KERNEL_DATA_CORRUPT', `${what} of ${image.peer}, at 0x${address.toString(16)}`, { peer: image.peer, address })

/** The entries of a `list_head` list, one read each. */
export async function* walkList(image: KernelImage, { head, selection, link, faults }: ListOptions): AsyncGenerator<KernelObject> {
  const linkOffset = BigInt(selection.offsetOf(`${link}.next`))
  const seen = new Set<bigint>()
  try {
    let at = wordOf(await image.memory.read(head, 8))
    while (at !== head) {
      if (seen.has(at) || seen.size >= mostEntries) return void faults.push(corrupt(image, `a list of struct ${selection.structure} does not come back to its head`, at))
      seen.add(at)
      const entry = await image.readObject(selection, BigInt.asUintN(64, at - linkOffset))
      yield entry
      at = entry.pointer(`${link}.next`)
    }
  } catch (error) {
    if (!isBackdoorsError(error) || error.code !== 'NOT_MAPPED') throw error
    faults.push(error)
  }
}

interface ChainsOptions {
  /** Address of the first entry of each chain; 0, or what `isEnd` knows, is an empty one. */
  readonly firsts: readonly bigint[]
  /** Reads the structures that hold the nodes. */
  readonly read: (addresses: readonly bigint[]) => Promise<(KernelObject | BackdoorsError)[]>
  /** Where the node lies in its structure. */
  readonly nodeOffset: bigint
  /** The member that leads on. */
  readonly next: string
  readonly isEnd: (node: bigint) => boolean
  readonly faults: Faults
}

/**
 * The entries of many chains at once (hash tables: `hlist`, `hlist_nulls`): as many batches as the longest chain has
 * entries. In order of their depth.
 */
export async function walkChains(image: KernelImage, { firsts, read, nodeOffset, next, isEnd, faults }: ChainsOptions): Promise<KernelObject[]> {
  const seen = new Set<bigint>()
  const found: KernelObject[] = []
  let level = firsts.filter((node) => !isEnd(node))
  while (level.length > 0) {
    const fresh = level.filter((node) => !seen.has(node))
    if (fresh.length < level.length) faults.push(corrupt(image, 'a chain of a hash table comes back to an entry before', level.find((node) => seen.has(node)) ?? 0n))
    for (const node of fresh) seen.add(node)
    if (seen.size > mostEntries) {
      faults.push(corrupt(image, `a hash table has more than ${mostEntries} entries`, fresh[0] ?? 0n))
      break
    }
    const entries = await read(fresh.map((node) => BigInt.asUintN(64, node - nodeOffset)))
    level = []
    for (const entry of entries) {
      if (!(entry instanceof KernelObject)) {
        faults.push(entry)
        continue
      }
      found.push(entry)
      const following = entry.pointer(next)
      if (!isEnd(following)) level.push(following)
    }
  }
  return found
}

interface TreeOptions {
  /** Address of the root node; 0 is an empty tree. */
  readonly root: bigint
  /** Of the structures that hold the nodes; includes `${node}.rb_left` and `${node}.rb_right`. */
  readonly selection: Selection
  /** The member that is the node. */
  readonly node: string
  readonly faults: Faults
}

/** The entries of an `rb_root` tree, in its order; as many batches as it is deep. */
export async function walkTree(image: KernelImage, { root, selection, node, faults }: TreeOptions): Promise<KernelObject[]> {
  const nodeOffset = BigInt(selection.offsetOf(`${node}.rb_left`)) - BigInt(image.types.member('rb_node', 'rb_left')?.offset ?? 0)
  const entries = new Map<bigint, KernelObject>()
  const asked = new Set<bigint>()
  let level = root === 0n ? [] : [root]
  while (level.length > 0) {
    for (const at of level) asked.add(at)
    const read = await image.readObjects(selection, level.map((at) => BigInt.asUintN(64, at - nodeOffset)))
    const below: bigint[] = []
    for (const [i, entry] of read.entries()) {
      if (!(entry instanceof KernelObject)) {
        faults.push(entry)
        continue
      }
      entries.set(level[i] as bigint, entry)
      for (const child of [entry.pointer(`${node}.rb_left`), entry.pointer(`${node}.rb_right`)]) {
        if (child === 0n) continue
        if (asked.has(child) || asked.size >= mostEntries) faults.push(corrupt(image, `a tree of struct ${selection.structure} has a node twice, or too many`, child))
        else {
          asked.add(child)
          below.push(child)
        }
      }
    }
    level = below
  }
  return inOrder(root, entries, node)
}

function inOrder(root: bigint, entries: ReadonlyMap<bigint, KernelObject>, node: string): KernelObject[] {
  const sorted: KernelObject[] = []
  const above: KernelObject[] = []
  const taken = new Set<bigint>()
  let at = entries.get(root)
  while (at !== undefined || above.length > 0) {
    while (at !== undefined && !taken.has(at.address)) {
      taken.add(at.address)
      above.push(at)
      at = entries.get(at.pointer(`${node}.rb_left`))
    }
    const least = above.pop()
    if (least === undefined) break
    sorted.push(least)
    at = entries.get(least.pointer(`${node}.rb_right`))
  }
  return sorted
}
