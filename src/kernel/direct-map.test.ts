import { describe, expect, it } from 'vitest'
import { findDirectMap } from './direct-map.js'
import { Kallsyms } from './kallsyms.js'
import { pageBytes, x86FiveLevel } from './page-table-format.js'
import { packSymbols } from './testing/kallsyms-builder.js'
import { PageTables } from './testing/page-tables.js'
import { panickedHost } from './testing/panicked-host.js'

const variable = 0xffff_ffff_8100_0000n
const data = 40 * pageBytes
const start = 0xff11_0000_4000_0000n

const symbolsOf = (name: string): Kallsyms => new Kallsyms(packSymbols([{ name, type: 'D', address: variable }], 0xffff_ffff_8000_0000n))

/** A kernel that says where its direct mapping begins; its tables map one page of it, if that is told. */
function says(base: bigint, mapped?: { readonly address: bigint; readonly physical: number }): PageTables {
  const tables = new PageTables(x86FiveLevel)
  tables.map(variable, data)
  if (mapped) tables.map(mapped.address, mapped.physical)
  new DataView(tables.ram.buffer).setBigUint64(data, base, true)
  return tables
}

describe('the direct mapping', () => {
  it('is where the kernel says, if its page tables agree', async () => {
    const tables = says(start, { address: start + BigInt(data), physical: data })
    expect(await findDirectMap(tables.open(), symbolsOf('page_offset_base'), data)).toBe(start)
  })

  it.each<[string, PageTables, string]>([
    ['does not say', says(start, { address: start + BigInt(data), physical: data }), 'another'],
    ['says what its page tables do not know', says(start), 'page_offset_base'],
    ['says what its page tables have elsewhere', says(start, { address: start + BigInt(data), physical: data + pageBytes }), 'page_offset_base'],
    ['says what no kernel does', says(start + 4096n, { address: start + 4096n + BigInt(data), physical: data }), 'page_offset_base'],
    ['says an address of a process', says(1n << 40n, { address: (1n << 40n) + BigInt(data), physical: data }), 'page_offset_base'],
  ])('is not used where the kernel %s', async (_what, tables, name) => {
    expect(await findDirectMap(tables.open(), symbolsOf(name), data)).toBeUndefined()
  })

  it('is not used where the variable cannot be read', async () => {
    expect(await findDirectMap(new PageTables(x86FiveLevel).open(), symbolsOf('page_offset_base'), data)).toBeUndefined()
  })

  it('is found in a real kernel', async () => {
    const host = await panickedHost()
    expect(host.directMap).toBe(await host.variable('page_offset_base'))
  })
})

describe('what is mapped directly', () => {
  it('is read without a look at the tables, across pages too', async () => {
    const tables = new PageTables(x86FiveLevel)
    tables.fill(data)
    const memory = tables.open()
    memory.useDirectMap(start)
    const [few, many] = await memory.readMany([{ address: start + BigInt(data + 5), length: 3 }, { address: start + BigInt(data), length: 3 * pageBytes }])
    expect(few).toEqual(tables.ram.slice(data + 5, data + 8))
    expect(many).toEqual(tables.ram.slice(data, data + 3 * pageBytes))
    expect(await memory.translate([start + 77n])).toEqual([{ physical: 77, pageBytes }])
    expect(tables.memory.calls).toBe(1)
  })

  it('ends where the RAM does: of what lies behind it, the tables are asked', async () => {
    const tables = new PageTables(x86FiveLevel)
    tables.fill(data)
    const end = start + BigInt(tables.ram.length)
    tables.map(end, data)
    const memory = tables.open()
    memory.useDirectMap(start)
    const [behind, across, below, far] = await memory.tryReadMany([{ address: end, length: 8 }, { address: end - 4n, length: 8 }, { address: start - 8n, length: 8 }, { address: (1n << 64n) - 8n, length: 8 }])
    expect(behind).toEqual(tables.ram.slice(data, data + 8))
    for (const each of [below, far]) expect(each).toMatchObject({ code: 'NOT_MAPPED' })
    expect(across).toEqual(Uint8Array.of(...tables.ram.slice(-4), ...tables.ram.slice(data, data + 4)))
  })

  it('is of the kernel, not of a process whose memory is read in the same batch', async () => {
    const tables = new PageTables(x86FiveLevel)
    tables.fill(data)
    const memory = tables.open()
    memory.useDirectMap(start)
    const [kernel, process] = await memory.tryReadMany([{ address: start + BigInt(data), length: 8 }, { address: start + BigInt(data), length: 8, root: 30 * pageBytes }])
    expect(kernel).toEqual(tables.ram.slice(data, data + 8))
    expect(process).toMatchObject({ code: 'NOT_MAPPED' })
  })
})
