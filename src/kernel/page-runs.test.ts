import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pageRuns, type PageRun } from './page-runs.js'
import { pageBytes, pageTableFormats, x86FourLevel, type PageTableFormat } from './page-table-format.js'
import { collect } from './testing/collect.js'
import { PageTables } from './testing/page-tables.js'
import type { Faults } from './walks.js'

async function runs(tables: PageTables, page: number, count: number, budget = 1000): Promise<{ found: PageRun[]; faults: Faults }> {
  const faults: Faults = []
  const { physical, format, root } = tables
  return { found: await collect(pageRuns({ physical, format, root, budget: { tables: budget }, faults }, page, count)), faults }
}
const brief = ({ found }: { found: PageRun[] }): [number, number, string, number][] => found.map(({ page, count, kind, physical }) => [page, count, kind, physical])

describe('runs of pages', () => {
  it('are put together where frames are neighbours, over ends of tables too', async () => {
    const tables = new PageTables(x86FourLevel)
    for (let i = 0; i < 4; i++) tables.map(BigInt((510 + i) * pageBytes), (20 + i) * pageBytes)
    tables.map(BigInt(514 * pageBytes), 40 * pageBytes)
    expect(brief(await runs(tables, 500, 100))).toEqual([[500, 10, 'none', 0], [510, 4, 'frame', 20 * pageBytes], [514, 1, 'frame', 40 * pageBytes], [515, 85, 'none', 0]])
  })

  it('of a whole address space without a page are one', async () => {
    expect(brief(await runs(new PageTables(x86FourLevel), 0, 2 ** 35))).toEqual([[0, 2 ** 35, 'none', 0]])
  })

  it('begin and end within large pages', async () => {
    const tables = new PageTables(x86FourLevel)
    tables.map(1n << 30n, 2 << 20, 21)
    expect(brief(await runs(tables, (1 << 18) + 5, 3))).toEqual([[(1 << 18) + 5, 3, 'frame', (2 << 20) + 5 * pageBytes]])
  })

  it('tell pages that are hidden from the processor, and what is no page', async () => {
    const tables = new PageTables(x86FourLevel)
    const hidden = tables.map(0n, 5 * pageBytes)
    const swapped = tables.map(BigInt(pageBytes), pageBytes)
    // PROT_NONE: not present, bit 8, and the address's bits inverted.
    tables.setEntry(hidden, (~BigInt(5 * pageBytes) & x86FourLevel.addressMask) | 0x100n)
    tables.setEntry(swapped, 0xdead_0000_0000_0002n)
    expect(brief(await runs(tables, 0, 3))).toEqual([[0, 1, 'frame', 5 * pageBytes], [1, 1, 'other', 0], [2, 1, 'none', 0]])
  })

  it('end at tables that lead to each other, or out of the RAM', async () => {
    const tables = new PageTables(x86FourLevel)
    tables.setEntry(tables.root, BigInt(tables.root) | 0x23n)
    tables.setEntry(tables.root + 8, 0x7f_ffff_f000n | 0x23n)
    const { found } = await runs(tables, 0, 3 * 2 ** 27)
    expect(found.map(({ page, count, kind }) => [page, count, kind])).toEqual([[0, 2 ** 28, 'other'], [2 ** 28, 2 ** 27, 'none']])
  })

  it('stop where more tables are read than can be, and say so once', async () => {
    const tables = new PageTables(x86FourLevel)
    for (let i = 0; i < 3; i++) tables.map(BigInt(i) << 30n, (40 + i) * pageBytes)
    const { found, faults } = await runs(tables, 0, 3 * 2 ** 18, 3)
    expect(found.filter(({ kind }) => kind === 'frame').length).toBe(0)
    expect(faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT' }])
  })

  it('say the same as a translation of each page, of any tables', async () => {
    const formats = fc.constantFrom<PageTableFormat>(...pageTableFormats)
    await fc.assert(fc.asyncProperty(formats, fc.array(fc.tuple(fc.nat(1100), fc.integer({ min: 30, max: 63 })), { maxLength: 40 }), fc.nat(600), fc.integer({ min: 1, max: 600 }), async (format, mapped, page, count) => {
      const tables = new PageTables(format)
      for (const [at, frame] of mapped) tables.map(BigInt(at * pageBytes), frame * pageBytes)
      const { found } = await runs(tables, page, count)
      const translated = await tables.open().translate(Array.from({ length: count }, (_, i) => BigInt((page + i) * pageBytes)))
      const each = found.flatMap((run) => Array.from({ length: run.count }, (_, i) => ({ page: run.page + i, physical: run.kind === 'frame' ? run.physical + i * pageBytes : undefined })))
      expect(each).toEqual(translated.map((one, i) => ({ page: page + i, physical: 'missing' in one ? undefined : one.physical })))
    }), { numRuns: 60 })
  })
})
