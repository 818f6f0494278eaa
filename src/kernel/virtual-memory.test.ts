import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { Random } from '../fabric/mock/random.js'
import { BytesMemory } from '../region/testing/bytes-memory.js'
import { arm64FourKiB, pageBytes, pageTableFormats, x86FiveLevel, x86FourLevel } from './page-table-format.js'
import { PhysicalMemory } from './physical-memory.js'
import { PageTables, translateX86 } from './testing/page-tables.js'
import { VirtualMemory } from './virtual-memory.js'
import { fuzz, fuzzTimeoutMs } from './testing/fuzz.js'

const kernelText = 0xffff_ffff_8100_0000n
const data = 40 * pageBytes

describe.each(pageTableFormats)('virtual memory: $name', (format) => {
  const mib = 1 << 20

  it.each(format.levels.filter(({ page }) => page).map(({ shift }) => shift))('translates pages of 2^%i bytes to the byte', async (shift) => {
    const tables = new PageTables(format)
    const physical = 3 * 2 ** shift
    tables.map(kernelText - (kernelText % (1n << BigInt(shift))), physical, shift)
    const into = kernelText % (1n << BigInt(shift))
    expect(await tables.open().translate([kernelText + 0x123n])).toEqual([{ physical: physical + Number(into) + 0x123, pageBytes: 2 ** shift }])
  })

  it('reads what lies across pages that are scattered, in one read for each level and one for the bytes', async () => {
    const tables = new PageTables(format)
    tables.fill(data)
    const pages = [7, 3, 4, 9].map((page) => data + page * pageBytes)
    for (const [i, physical] of pages.entries()) tables.map(kernelText + BigInt(i * pageBytes), physical)
    const memory = tables.open()
    const whole = Buffer.concat(pages.map((physical) => tables.ram.subarray(physical, physical + pageBytes)))
    const [bytes, few] = await memory.readMany([{ address: kernelText + 10n, length: 3 * pageBytes }, { address: kernelText, length: 3 }])
    expect(Buffer.from(bytes as Uint8Array).equals(whole.subarray(10, 10 + 3 * pageBytes))).toBe(true)
    expect([...(few as Uint8Array)]).toEqual([...whole.subarray(0, 3)])
    expect(tables.memory.calls).toBe(format.levels.length + 1)
    await memory.read(kernelText + 5000n, 8)
    expect(tables.memory.calls).toBe(format.levels.length + 2)
  })

  it('tells at which table an address ends that is not mapped, and reads its neighbours', async () => {
    const tables = new PageTables(format)
    tables.fill(data)
    tables.map(kernelText, data)
    const [good, bad] = await tables.open().tryReadMany([{ address: kernelText, length: 8 }, { address: kernelText + BigInt(pageBytes), length: 8 }])
    expect(good).toEqual(tables.ram.slice(data, data + 8))
    const { name } = format.levels.at(-1) as { name: string }
    expect(bad).toMatchObject({ code: 'NOT_MAPPED', details: { address: kernelText + BigInt(pageBytes), length: 8 }, message: expect.stringContaining(name) as string })
    await expect(tables.open().read(1n << 30n, 8)).rejects.toMatchObject({ code: 'NOT_MAPPED' })
  })

  it('ends at tables and pages outside the RAM, and at tables that lead in a circle', async () => {
    const tables = new PageTables(format)
    tables.map(kernelText, 512 * mib)
    await expect(tables.open().read(kernelText, 8)).rejects.toMatchObject({ code: 'NOT_MAPPED', message: expect.stringContaining('outside the machine') as string })
    const top = tables.root + Number((kernelText >> BigInt(format.levels[0]?.shift ?? 0)) & 0x1ffn) * 8
    const low = tables.getEntry(top) & 0xfffn
    tables.setEntry(top, (1n << 40n) | low)
    await expect(tables.open().read(kernelText, 8)).rejects.toMatchObject({ code: 'NOT_MAPPED', message: expect.stringContaining('the table lies outside') as string })
    for (let entry = 0; entry < pageBytes; entry += 8) tables.setEntry(entry, BigInt(tables.root) | low)
    // The root is its own next table, down to the last level, where it is its own page.
    expect(await tables.open().translate([kernelText])).toEqual([{ physical: tables.root, pageBytes }])
    expect(tables.memory.calls).toBeLessThan(20)
  })

  it('refuses what is no address', async () => {
    const tables = new PageTables(format)
    tables.map(kernelText, data)
    const memory = tables.open()
    expect(await memory.translate([1n << BigInt(format.virtualBits)])).toEqual([{ missing: 'no address of this format', level: 'address' }])
    for (const range of [{ address: -1n, length: 8 }, { address: 0n, length: 0 }, { address: 0n, length: 0.5 }, { address: 1n << 64n, length: 8 }, { address: 0n, length: 2 ** 40 }]) {
      await expect(memory.readMany([range])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  })

  it('ends at the last address, and costs the neighbours of what lies beyond it nothing', async () => {
    const tables = new PageTables(format)
    tables.fill(data)
    tables.map(kernelText, data)
    const [beyond, good] = await tables.open().tryReadMany([{ address: (1n << 64n) - 4n, length: 8 }, { address: kernelText, length: 8 }])
    expect(beyond).toMatchObject({ code: 'NOT_MAPPED' })
    expect(good).toEqual(tables.ram.slice(data, data + 8))
  })

  it('reads several address spaces in one batch', async () => {
    const [tables, others] = [new PageTables(format), new PageTables(format)]
    tables.fill(data)
    tables.map(kernelText, data)
    others.map(kernelText, data + pageBytes)
    const moved = 20 * pageBytes
    // The other tables, as they are, with their addresses moved on: both stand in one RAM.
    for (let at = 0; at < 8 * pageBytes; at += 8) {
      const entry = others.getEntry(at)
      const isTable = entry !== 0n && Number(entry & 0xf_ffff_ffff_f000n) < data
      tables.setEntry(moved + at, isTable ? entry + BigInt(moved) : entry)
    }
    const [own, other] = await tables.open().readMany([{ address: kernelText, length: 8 }, { address: kernelText, length: 8, root: moved }])
    expect([own, other]).toEqual([tables.ram.slice(data, data + 8), tables.ram.slice(data + pageBytes, data + pageBytes + 8)])
    expect(tables.memory.calls).toBe(format.levels.length + 1)
  })
})

describe('pages that follow each other', () => {
  it.each([x86FourLevel, arm64FourKiB])('are found by whole tables: $name', async (format) => {
    const tables = new PageTables(format)
    const at = [0, 1, 3, 511, 512, 513, 1100]
    for (const [i, page] of at.entries()) tables.map(kernelText + BigInt(page * pageBytes), data + (i % 3) * pageBytes)
    const found = await tables.open().translatePages(kernelText, 1200)
    expect(tables.memory.calls).toBeLessThanOrEqual(format.levels.length)
    expect([...found.entries()].filter(([, physical]) => !Number.isNaN(physical))).toEqual(at.map((page, i) => [page, data + (i % 3) * pageBytes]))
    expect(await tables.open().translatePages(kernelText + BigInt(510 * pageBytes), 3)).toEqual(found.slice(510, 513))
    expect(await tables.open().translatePages(kernelText, 0)).toEqual(new Float64Array(0))
  })

  it('are found in large pages', async () => {
    const [table, page] = [4096, 1 << 21]
    const ram = new Uint8Array(5 * pageBytes)
    const view = new DataView(ram.buffer)
    // One page of 2 MiB, and none behind it.
    for (const [at, entry] of [[0, 4096n | 1n], [4096, 8192n | 1n], [8192, BigInt(page) | 0x81n]] as const) view.setBigUint64(at, entry, true)
    const memory = new VirtualMemory({ physical: new PhysicalMemory(new BytesMemory(ram), [{ physical: 0, length: ram.length, offset: 0 }]), format: x86FourLevel, root: 0 })
    expect([...(await memory.translatePages(BigInt(509 * table), 4))]).toEqual([page + 509 * table, page + 510 * table, page + 511 * table, NaN])
  })

  it('of an address that is none are nowhere', async () => {
    const tables = new PageTables(x86FourLevel)
    expect(await tables.open().translatePages(1n << 50n, 2)).toEqual(Float64Array.of(NaN, NaN))
  })
})

describe('tables that change', () => {
  it('are read anew after forget, as those of a living kernel must be', async () => {
    const tables = new PageTables(x86FourLevel)
    tables.fill(data)
    const at = tables.map(kernelText, data)
    const memory = tables.open()
    await memory.read(kernelText, 8)
    tables.setEntry(at, BigInt(data + pageBytes) | 1n)
    expect(await memory.read(kernelText, 8)).toEqual(tables.ram.slice(data, data + 8))
    memory.forget()
    expect(await memory.read(kernelText, 8)).toEqual(tables.ram.slice(data + pageBytes, data + pageBytes + 8))
  })
})

describe('any tables at all', { timeout: fuzzTimeoutMs }, () => {
  const formats = [[x86FourLevel, 4], [x86FiveLevel, 5]] as const
  it.each(formats)('give what another translator makes of them: $name', async (format, levels) => {
    await fc.assert(fc.asyncProperty(fc.nat(), async (number) => {
      const random = new Random(number)
      const ram = new Uint8Array(8 * pageBytes)
      const view = new DataView(ram.buffer)
      random.fill(ram.subarray(7 * pageBytes))
      // Entries that lead somewhere into the RAM, or just beyond it, with flags of every kind.
      for (let at = 0; at < 7 * pageBytes; at += 8) view.setBigUint64(at, BigInt(random.integer(0, 8) * pageBytes) | BigInt(random.pick([0x1, 0x63, 0x67, 0x81, 0xe3, 0, 0x80])) | (random.chance(0.1) ? 1n << 63n : 0n), true)
      const physical = new PhysicalMemory(new BytesMemory(ram), [{ physical: 0, length: ram.length, offset: 0 }])
      const memory = new VirtualMemory({ physical, format, root: 0 })
      const addresses = Array.from({ length: 16 }, () => BigInt.asUintN(64, BigInt.asIntN(random.chance(0.9) ? format.virtualBits : 64, (BigInt(random.uint32()) << 32n) | BigInt(random.uint32()))))
      const found = await memory.translate(addresses)
      const expected = addresses.map((address) => translateX86(ram, 0, levels, address))
      expect(found.map((each) => ('missing' in each ? undefined : each.physical))).toEqual(expected)
      const read = await memory.tryReadMany(addresses.filter((address) => address < (1n << 64n) - 8n).map((address) => ({ address, length: 8 })))
      for (const each of read) if (isBackdoorsError(each)) expect(each.code).toBe('NOT_MAPPED')
      // Some pages on, from just below where a table ends, or anywhere.
      const start = random.chance(0.5) ? BigInt.asUintN(64, addresses[0]! | 0x1f_e000n) & ~0xfffn : addresses[0]! & ~0xfffn
      const pages = await memory.translatePages(start, 5)
      expect([...pages]).toEqual(Array.from({ length: 5 }, (_, i) => translateX86(ram, 0, levels, start + BigInt(i * pageBytes)) ?? NaN))
    }), fuzz(1500))
  })

  it('of arm64 never lead out of the RAM, or on for ever', async () => {
    await fc.assert(fc.asyncProperty(fc.nat(), async (number) => {
      const random = new Random(number)
      const ram = new Uint8Array(8 * pageBytes)
      random.fill(ram)
      const physical = new PhysicalMemory(new BytesMemory(ram), [{ physical: 0, length: ram.length, offset: 0 }])
      const memory = new VirtualMemory({ physical, format: arm64FourKiB, root: 0 })
      const ranges = Array.from({ length: 8 }, () => ({ address: BigInt.asUintN(64, BigInt.asIntN(48, BigInt(random.uint32()) * BigInt(random.uint32()))), length: random.integer(1, 9000) })).filter(({ address, length }) => address + BigInt(length) < 1n << 64n)
      for (const each of await memory.tryReadMany(ranges)) if (isBackdoorsError(each)) expect(each.code).toBe('NOT_MAPPED')
    }), fuzz(500))
  })
})
