import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Random } from '../fabric/mock/random.js'
import { x86FourLevel } from './page-table-format.js'
import { BtfBuilder } from './testing/btf-builder.js'
import { imageOver } from './testing/built-image.js'
import { PageTables } from './testing/page-tables.js'
import { walkXarray, type XarrayEntry } from './xarray.js'
import type { Faults } from './walks.js'

const types = new BtfBuilder()
const byte = types.int('unsigned char', 1)
types.structure('struct', 'xa_node', 576, [{ name: 'shift', type: byte, bit: 0 }, { name: 'slots', type: types.array(types.add('pointer', '', 0), 64), bit: 320 }])

class Array64 {
  readonly tables = new PageTables(x86FourLevel)
  readonly #view = new DataView(this.tables.ram.buffer)
  #next = 0x10000

  constructor() {
    for (let page = 16; page < 64; page++) this.tables.map(BigInt(page * 4096), page * 4096)
  }

  /** @returns the node as what is above it holds it */
  node(shift: number, slots: Readonly<Record<number, bigint>>): bigint {
    const at = this.#next
    this.#next += 640
    this.#view.setUint8(at, shift)
    for (const [slot, entry] of Object.entries(slots)) this.#view.setBigUint64(at + 40 + Number(slot) * 8, entry, true)
    return BigInt(at) | 2n
  }

  async walk(head: bigint, first = 0, last = 1 << 20): Promise<{ found: XarrayEntry[]; faults: Faults }> {
    const faults: Faults = []
    return { found: await walkXarray(imageOver(this.tables, types.bytes()), { head, first, last, faults }), faults }
  }
}
const one = (index: number, entry: bigint): XarrayEntry => ({ index, count: 1, start: index, entry })

describe('an xarray', () => {
  it('of one entry at the first index has no node', async () => {
    expect((await new Array64().walk(0x1000n)).found).toEqual([one(0, 0x1000n)])
    expect((await new Array64().walk(0x1000n, 1, 5)).found).toEqual([])
    expect((await new Array64().walk(0n)).found).toEqual([])
  })

  it('has its entries in order, on all levels, and only those that are asked for', async () => {
    const array = new Array64()
    const [low, high] = [array.node(0, { 0: 0x1000n, 63: 0x2000n }), array.node(0, { 1: 0x3000n })]
    const head = array.node(6, { 0: low, 5: high })
    expect(await array.walk(head)).toEqual({ found: [one(0, 0x1000n), one(63, 0x2000n), one(321, 0x3000n)], faults: [] })
    expect((await array.walk(head, 63, 320)).found).toEqual([one(63, 0x2000n)])
    expect((await array.walk(head, 321, 321)).found).toEqual([one(321, 0x3000n)])
  })

  it('tells where an entry of several slots begins, and leaves marks out', async () => {
    const array = new Array64()
    const sibling = (4n << 2n) | 2n
    const leaf = array.node(0, { 4: 0x1000n, 5: sibling, 6: sibling, 7: sibling, 9: (256n << 2n) | 2n, 10: 5n })
    const head = array.node(6, { 0: leaf, 8: 0x2000n, 9: (8n << 2n) | 2n })
    expect(await array.walk(head, 6, 700)).toEqual({ faults: [], found: [
      { index: 6, count: 1, start: 4, entry: 0x1000n }, { index: 7, count: 1, start: 4, entry: 0x1000n }, one(10, 5n),
      { index: 512, count: 64, start: 512, entry: 0x2000n }, { index: 576, count: 64, start: 512, entry: 0x2000n },
    ] })
  })

  it.each<[string, (array: Array64) => bigint, string]>([
    ['a node whose level is not below', (array) => array.node(6, {}), 'KERNEL_DATA_CORRUPT'],
    ['a node between two levels', (array) => array.node(3, {}), 'KERNEL_DATA_CORRUPT'],
    ['a node below the last level', (array) => array.node(0, { 0: 0x20002n }), 'KERNEL_DATA_CORRUPT'],
    ['a node that is nowhere', () => 0x7fff_0000_0002n, 'NOT_MAPPED'],
  ])('with %s says so, and has the rest', async (_, damage, code) => {
    const array = new Array64()
    const head = array.node(6, { 0: array.node(0, { 3: 0x1000n }), 1: damage(array) })
    const { found, faults } = await array.walk(head)
    expect(found).toEqual([one(3, 0x1000n)])
    expect(faults).toMatchObject([{ code }])
  })

  it('with a node twice has it once', async () => {
    const array = new Array64()
    const leaf = array.node(0, { 3: 0x1000n })
    const { found, faults } = await array.walk(array.node(6, { 0: leaf, 1: leaf }))
    expect(found).toEqual([one(3, 0x1000n)])
    expect(faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT' }])
  })

  it('of any bytes ends, and has nothing outside what was asked for', async () => {
    await fc.assert(fc.asyncProperty(fc.nat(), fc.nat(2 ** 40), fc.nat(5000), async (seed, first, count) => {
      const array = new Array64()
      const random = new Random(seed)
      const view = new DataView(array.tables.ram.buffer)
      for (let at = 0x10000; at < 0x40000; at += 8) view.setBigUint64(at, BigInt(random.pick([random.pick([0, 6, 12, 18, 24, 60]), 0x10002 + random.integer(0, 0x4b) * 640, random.uint32(), 18])), true)
      for (const { index, count: covered, start } of (await array.walk(0x10002n, first, first + count)).found) expect(start <= index && index + covered > first && index <= first + count).toBe(true)
    }), { numRuns: 30 })
  })
})

it('is not known to a kernel without it', async () => {
  const none = new BtfBuilder()
  none.int('int', 4)
  await expect(walkXarray(imageOver(new Array64().tables, none.bytes()), { head: 0x10002n, first: 0, last: 1, faults: [] })).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: 'xa_node.slots' } })
})
