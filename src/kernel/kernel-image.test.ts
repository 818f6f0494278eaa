import { describe, expect, it } from 'vitest'
import { KernelImage } from './kernel-image.js'
import { decodeTables, readRelativeBase, readTables, type KernelTables, type SymbolCache } from './kernel-symbols.js'
import { PhysicalMemory } from './physical-memory.js'
import { offsetOf, withChanges, withPatches } from './testing/hostile-memory.js'
import { panickedHost } from './testing/panicked-host.js'
import { readUptime } from './views/uptime.js'

const host = await panickedHost()
const tables = await readTables(host.memory, host.note)
const relativeBase = await readRelativeBase(host.memory, host.note)

/** The recorded host with another text wherever this one stands: there are copies of the note. */
function withText(from: string, to: string): KernelImage {
  if (from.length !== to.length || !host.note.text.includes(from)) throw new Error(`${from} cannot be replaced by ${to}`)
  return withChanges(host, (bytes) => {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = buffer.indexOf(from); at >= 0; at = buffer.indexOf(from, at + 1)) buffer.write(to, at, 'latin1')
  })
}

/** There are megabytes of them. */
const isAlike = (one: Uint8Array | undefined, other: Uint8Array): boolean => one !== undefined && Buffer.compare(one, other) === 0

const learn = ({ physical }: KernelImage, cache?: SymbolCache): Promise<KernelImage> => KernelImage.learn({ physical, hints: [host.notePhysical], ...(cache === undefined ? {} : { cache }) })

describe('a kernel', () => {
  it('is learned by a hint as by a search, and a wrong hint costs nothing', async () => {
    for (const hints of [[], [host.notePhysical], [host.notePhysical + 1, 0x1000, host.notePhysical], [host.notePhysical + 1, 0x1000, 2 ** 50]]) {
      const image = await KernelImage.learn({ physical: host.physical, hints })
      expect([image.notePhysical, image.note.text, isAlike(image.symbols.index, host.symbols.index), image.types.size]).toEqual([host.notePhysical, host.note.text, true, host.types.size])
    }
  })

  it('is not found where there is none', async () => {
    const { memory } = host.physical
    await expect(KernelImage.learn({ physical: new PhysicalMemory(memory, []) })).rejects.toMatchObject({ code: 'KERNEL_NOT_FOUND', details: { peer: memory.peer } })
    await expect(KernelImage.learn({ physical: withChanges(host, (bytes) => bytes.fill(0)).physical })).rejects.toMatchObject({ code: 'KERNEL_NOT_FOUND' })
  })

  it.each([['in other memory', 0x1000], ['in none that is lent', 2 ** 50]])('is not found where there is none, whatever a stale hint leads to: %s', async (_, hint) => {
    const { physical } = withChanges(host, (bytes) => bytes.fill(0))
    await expect(KernelImage.learn({ physical, hints: [hint] })).rejects.toMatchObject({ code: 'KERNEL_NOT_FOUND', details: { peer: physical.memory.peer } })
  })

  it.each<[string, string, string, string]>([
    ['pages of another size', 'PAGESIZE=4096', 'PAGESIZE=8192', 'PAGESIZE'], ['pages of no known size', 'PAGESIZE=4096', 'PAGESIZE=4k  ', 'PAGESIZE'],
    ['another processor', 'NUMBER(phys_base)', 'NUMBER(phys_bass)', 'phys_base'], ['page tables that are nowhere', 'SYMBOL(swapper_pg_dir)', 'SYMBOL(swapper_pg_dis)', 'swapper_pg_dir'],
  ])('with %s is refused', async (_, from, to, field) => {
    await expect(learn(withText(from, to))).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field } })
  })

  it.each(['kallsyms_names', 'kallsyms_num_syms', 'kallsyms_token_table', 'kallsyms_token_index', 'kallsyms_offsets', 'kallsyms_relative_base'])('whose note does not say where %s is, is refused', async (name) => {
    await expect(learn(withText(`SYMBOL(${name})`, `SYMBOL(${name.replace('kallsyms', 'kallsymz')})`))).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: name } })
  })

  it.each<[string, Uint8Array, string]>([['no', Uint8Array.of(0, 0, 0, 0), 'kallsyms_num_syms'], ['too many', Uint8Array.of(255, 255, 255, 255), 'kallsyms_num_syms']])('that claims %s symbols is refused', async (_, count, field) => {
    const place = await offsetOf(host, host.note.symbol('kallsyms_num_syms') as bigint)
    await expect(learn(withPatches(host, new Map([[place, count]])))).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT', details: { field } })
  })
})

describe('a kernel without BTF', () => {
  /** Where the last token of the name of the symbol at this address stands in the table of names. */
  function lastTokenOf(address: bigint): number {
    const offsets = new DataView(tables.offsets.buffer, tables.offsets.byteOffset, tables.offsets.byteLength)
    const wanted = Number(relativeBase - 1n - address)
    let at = 0
    for (let i = 0; i < tables.count; i++) {
      const first = tables.names[at] as number
      const [head, length] = first < 0x80 ? [1, first] : [2, (first & 0x7f) | ((tables.names[at + 1] as number) << 7)]
      at += head + length
      if (offsets.getInt32(i * 4, true) === wanted) return at - 1
    }
    throw new Error(`no symbol at 0x${address.toString(16)}`)
  }

  it.each(['__start_BTF', '__stop_BTF'])('has no %s, and is refused', async (symbol) => {
    const last = lastTokenOf(host.addressOf(symbol))
    const place = await offsetOf(host, (host.note.symbol('kallsyms_names') as bigint) + BigInt(last))
    await expect(learn(withPatches(host, new Map([[place, Uint8Array.of((tables.names[last] as number) ^ 1)]])))).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: 'BTF' } })
  })

  it('is refused by tables that were kept as well', () => {
    expect(() => decodeTables({ ...tables, btf: new Uint8Array(0) }, relativeBase, host.note)).toThrow(expect.objectContaining({ code: 'KERNEL_UNSUPPORTED', details: { field: 'BTF' } }))
  })

  it('whose BTF is garbage is refused', async () => {
    const place = await offsetOf(host, host.addressOf('__start_BTF'))
    await expect(learn(withPatches(host, new Map([[place, new Uint8Array(24).fill(0x55)]])))).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT', details: { field: 'BTF' } })
  })
})

describe('symbols that were kept', () => {
  class Kept implements SymbolCache {
    stored: KernelTables | undefined
    readonly asked: string[] = []

    constructor(readonly kept: KernelTables | undefined) {}

    load(buildId: string): Promise<KernelTables | undefined> {
      this.asked.push(buildId)
      return Promise.resolve(this.kept)
    }

    store(_: string, stored: KernelTables): Promise<void> {
      this.stored = stored
      return Promise.resolve()
    }
  }

  const flipped = (bytes: Uint8Array, at = 0): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 0xff : byte))

  it('are used, and nothing but data is read then', async () => {
    const cache = new Kept(tables)
    const before = host.physical.cost.bytes
    const image = await learn(host, cache)
    expect([cache.asked, cache.stored, image.addressOf('init_task')]).toEqual([[host.note.buildId], undefined, host.addressOf('init_task')])
    expect(host.physical.cost.bytes - before).toBeLessThan(256 << 10)
  })

  it.each<[string, Partial<KernelTables>]>([
    ['another kernel\'s, of more symbols', { count: tables.count + 1 }], ['another kernel\'s, at other addresses', { offsets: flipped(tables.offsets, 8) }],
    ['another kernel\'s, in other tokens', { tokenTable: flipped(tables.tokenTable) }], ['another kernel\'s, with other tokens', { tokenIndex: flipped(tables.tokenIndex, 4) }],
    ['another kernel\'s, by other names', { names: new Uint8Array(tables.names.length).fill(1) }], ['of a kernel without types', { btf: new Uint8Array(0) }],
    ['with types that are none', { btf: tables.btf.subarray(0, 1000) }], ['with an index that is none', { symbolIndex: Uint8Array.of(1, 2, 3) }], ['with an index of types that is none', { typeIndex: Uint8Array.of(1, 2, 3) }],
  ])('under the same build id, but %s, are as good as none, and are replaced', async (_, part) => {
    const cache = new Kept({ ...tables, ...part })
    const image = await learn(host, cache)
    expect([isAlike(image.symbols.index, host.symbols.index), image.types.size]).toEqual([true, host.types.size])
    const { symbolIndex, typeIndex, ...stored } = cache.stored as KernelTables
    expect(stored.count).toBe(tables.count)
    for (const name of ['names', 'tokenTable', 'tokenIndex', 'offsets', 'btf'] as const) expect(isAlike(stored[name], tables[name]), name).toBe(true)
    expect([isAlike(symbolIndex, host.symbols.index), isAlike(typeIndex, host.types.index)]).toEqual([true, true])
    expect((await readUptime(image)).uptimeSeconds).toBe((await readUptime(host)).uptimeSeconds)
  })

  it('that cannot be stored cost nothing', async () => {
    const cache = new Kept(undefined)
    cache.store = () => Promise.reject(new Error('the disk is full'))
    expect((await learn(host, cache)).addressOf('init_task')).toBe(host.addressOf('init_task'))
  })
})
