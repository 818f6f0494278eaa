import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { KernelImage } from './kernel-image.js'
import { walkMapleTree, type MapleEntry } from './maple-tree.js'
import { x86FourLevel } from './page-table-format.js'
import { Random } from '../fabric/mock/random.js'
import { BtfBuilder } from './testing/btf-builder.js'
import { imageOver } from './testing/built-image.js'
import { PageTables } from './testing/page-tables.js'
import type { Faults } from './walks.js'

const last = (1n << 64n) - 1n
const types = new BtfBuilder()
const pointer = types.add('pointer', '', 0)
const range = types.structure('struct', 'maple_range_64', 256, [{ name: 'parent', type: pointer, bit: 0 }, { name: 'pivot', type: types.array(pointer, 15), bit: 64 }, { name: 'slot', type: types.array(pointer, 16), bit: 1024 }])
const allocation = types.structure('struct', 'maple_arange_64', 256, [{ name: 'parent', type: pointer, bit: 0 }, { name: 'pivot', type: types.array(pointer, 9), bit: 64 }, { name: 'slot', type: types.array(pointer, 10), bit: 640 }])
const dense = types.structure('struct', '', 256, [{ name: 'parent', type: pointer, bit: 0 }, { name: 'slot', type: types.array(pointer, 31), bit: 64 }])
types.structure('union', 'maple_node', 256, [{ type: dense, bit: 0 }, { name: 'mr64', type: range, bit: 0 }, { name: 'ma64', type: allocation, bit: 0 }])

/** Trees made by hand, in memory that is mapped as it lies. */
class Tree {
  readonly tables = new PageTables(x86FourLevel)
  readonly #view = new DataView(this.tables.ram.buffer)
  #next = 0x10000

  constructor() {
    for (let page = 16; page < 64; page++) this.tables.map(BigInt(page * 4096), page * 4096)
  }

  /** @returns the node as a parent's slot holds it; the root is given one bit more */
  node(type: 0 | 1 | 2 | 3, slots: readonly bigint[], pivots: readonly bigint[]): bigint {
    const at = this.#next
    this.#next += 256
    const first = type === 0 ? 8 : type === 3 ? 80 : 128
    for (const [i, slot] of slots.entries()) this.#view.setBigUint64(at + first + i * 8, slot, true)
    for (const [i, pivot] of pivots.entries()) this.#view.setBigUint64(at + 8 + i * 8, pivot, true)
    return BigInt(at) | BigInt(type << 3) | 4n
  }

  set(node: bigint, at: number, word: bigint): void {
    this.#view.setBigUint64(Number(node & ~0xffn) + at, word, true)
  }

  async walk(root: bigint): Promise<{ entries: MapleEntry[]; faults: Faults }> {
    const faults: Faults = []
    return { entries: await walkMapleTree(this.image(), root, faults), faults }
  }

  image(): KernelImage {
    return imageOver(this.tables, types.bytes())
  }
}
const asRoot = (node: bigint): bigint => node | 2n

describe('a maple tree', () => {
  it('that is empty has nothing', async () => {
    expect(await new Tree().walk(0n)).toEqual({ entries: [], faults: [] })
  })

  it('of one entry has no node', async () => {
    expect(await new Tree().walk(0x1000n)).toEqual({ entries: [{ first: 0n, last: 0n, entry: 0x1000n }], faults: [] })
  })

  it('has its entries in order, without those of gaps and marks', async () => {
    const tree = new Tree()
    const low = tree.node(1, [0n, 0x100n, 0n, 0x200n, 0x406n], [0xfffn, 0x1fffn, 0x2fffn, 0x3fffn])
    const high = tree.node(1, [0x300n, 0n, 0x400n], [0x7fffn, 0x8fffn, last])
    const root = asRoot(tree.node(3, [low, high], [0x4fffn]))
    expect(await tree.walk(root)).toEqual({ faults: [], entries: [
      { first: 0x1000n, last: 0x1fffn, entry: 0x100n }, { first: 0x3000n, last: 0x3fffn, entry: 0x200n },
      { first: 0x5000n, last: 0x7fffn, entry: 0x300n }, { first: 0x9000n, last, entry: 0x400n },
    ] })
  })

  it('has entries in its last slot, which has no pivot', async () => {
    const tree = new Tree()
    const slots = Array.from({ length: 16 }, (_, i) => BigInt(0x1000 + i * 8))
    const { entries } = await tree.walk(asRoot(tree.node(1, slots, slots.slice(1).map((_, i) => BigInt(i)))))
    expect(entries.map(({ first, entry }) => [first, entry])).toEqual(slots.map((slot, i) => [BigInt(i), slot]))
    expect(entries.at(-1)?.last).toBe(last)
  })

  it('has dense nodes, where each slot is one index', async () => {
    const tree = new Tree()
    const leaf = tree.node(0, [0x100n, 0n, 0x200n], [])
    const { entries, faults } = await tree.walk(asRoot(tree.node(2, [leaf], [0x1en])))
    expect([entries, faults]).toEqual([[{ first: 0n, last: 0n, entry: 0x100n }, { first: 2n, last: 2n, entry: 0x200n }], []])
  })

  it.each<[string, (tree: Tree) => bigint, string]>([
    ['a node within itself', (tree) => {
      const node = tree.node(2, [], [0xfffn])
      tree.set(node, 128, node)
      return node
    }, 'KERNEL_DATA_CORRUPT'],
    ['pivots out of order', (tree) => tree.node(1, [0n, 0n], [0x2000n, 0x1000n]), 'KERNEL_DATA_CORRUPT'],
    ['a node of an unknown type', (tree) => tree.node(1, [], []) | 0x70n, 'KERNEL_DATA_CORRUPT'],
    ['a node that was freed', (tree) => {
      const node = tree.node(1, [], [])
      tree.set(node, 0, node)
      return node
    }, 'KERNEL_DATA_CORRUPT'],
    ['a node that is nowhere', () => 0x7fff_0000_000cn, 'NOT_MAPPED'],
  ])('with %s says so, and has the rest', async (_, damage, code) => {
    const tree = new Tree()
    const sound = tree.node(1, [0x100n], [0x4fffn])
    const { entries, faults } = await tree.walk(asRoot(tree.node(2, [sound, damage(tree)], [0x4fffn])))
    expect(entries).toEqual([{ first: 0n, last: 0x4fffn, entry: 0x100n }])
    expect(faults).toMatchObject([{ code }])
  })

  it('of any bytes ends', async () => {
    await fc.assert(fc.asyncProperty(fc.nat(), fc.nat(3), async (seed, type) => {
      const tree = new Tree()
      const random = new Random(seed)
      const view = new DataView(tree.tables.ram.buffer)
      // Words that often are nodes of this very memory.
      for (let at = 0x10000; at < 0x40000; at += 8) view.setBigUint64(at, BigInt(random.pick([0, 0x10000 + random.integer(0, 0x2ff) * 256 + random.integer(0, 31) * 8 + 4, random.uint32(), 0xffff_ffff])), true)
      const { entries } = await tree.walk(0x10000n | BigInt(type << 3) | 6n)
      for (const { first, last: end } of entries) expect(first <= end).toBe(true)
    }), { numRuns: 30 })
  })
})

it('are not known to a kernel before 6.1', async () => {
  const none = new BtfBuilder()
  none.int('int', 4)
  await expect(walkMapleTree(imageOver(new Tree().tables, none.bytes()), 0x1006n, [])).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: 'maple_node.mr64.pivot' } })
})
