import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { Random } from '../fabric/mock/random.js'
import { damage } from '../region/testing/damage.js'
import { Kallsyms, type KernelSymbol } from './kallsyms.js'
import { packSymbols } from './testing/kallsyms-builder.js'
import { fuzz, fuzzTimeoutMs } from './testing/fuzz.js'

const base = 0xffff_ffff_8100_0000n
const symbols: readonly KernelSymbol[] = [
  { name: 'cpu_number', type: 'A', address: 0x1_2340n },
  { name: '_text', type: 'T', address: base },
  { name: 'do_init_module', type: 't', address: base + 0x4567n },
  { name: 'init_task', type: 'D', address: base + 0x181_0940n },
  { name: `__long_${'x'.repeat(200)}`, type: 'b', address: base + 0x200_0000n },
  { name: 'do_init_module', type: 't', address: base + 0x9000n },
]

describe('a kernel\'s symbols', () => {
  const kallsyms = new Kallsyms(packSymbols(symbols, base))

  it('are unpacked: names of tokens, long ones too, addresses by base and by themselves', () => {
    expect([...kallsyms]).toEqual(symbols)
    expect(kallsyms.size).toBe(symbols.length)
  })

  it('of a kernel whose addresses are all relative are so, those of per-CPU variables too', () => {
    const offsets = new Uint8Array(Uint32Array.of(0x10, 0, 0x4567, 0x7000_0000, 1, 2).buffer)
    const relative = new Kallsyms({ ...packSymbols(symbols, base), offsets }, { absolutePerCpu: false })
    expect([...relative].map(({ address }) => address - base)).toEqual([0x10n, 0n, 0x4567n, 0x7000_0000n, 1n, 2n])
  })

  it('are found by name, the first of several', () => {
    expect(kallsyms.find('init_task')).toEqual(symbols[3])
    expect(kallsyms.find('do_init_module')).toEqual(symbols[2])
    expect(kallsyms.find('Tinit_task')).toBeUndefined()
  })

  it('are the same by an index that was kept, wherever in memory it stands', () => {
    const kept = Uint8Array.of(0, ...kallsyms.index).subarray(1)
    const again = new Kallsyms({ ...packSymbols(symbols, base), index: kept })
    expect([...again]).toEqual(symbols)
    expect(again.find('do_init_module')).toEqual(symbols[2])
    expect(again.index).toEqual(kallsyms.index)
  })

  it('are found by address, as a stack trace needs it', () => {
    expect(kallsyms.nearest(base + 0x4570n)).toEqual({ symbol: symbols[2], offset: 9n, bytes: 0x9000n - 0x4567n })
    expect(kallsyms.nearest(base + 0x9000n)).toEqual({ symbol: symbols[5], offset: 0n, bytes: 0x181_0940n - 0x9000n })
    expect(kallsyms.nearest(base + 0x200_0005n)).toEqual({ symbol: symbols[4], offset: 5n, bytes: undefined })
    expect(kallsyms.nearest(0x10n)).toBeUndefined()
  })
})

describe('damaged symbols', () => {
  const sound = packSymbols(symbols, base)
  it.each<[string, object]>([
    ['no symbols', { count: 0 }],
    ['more than any kernel has', { count: 1e9 }],
    ['a count that is none', { count: NaN }],
    ['more names than there are', { count: 7, offsets: new Uint8Array(28) }],
    ['fewer addresses than names', { offsets: new Uint8Array(8) }],
    ['an index that is cut off', { tokenIndex: new Uint8Array(100) }],
    ['tokens without an end', { tokenTable: new Uint8Array(8).fill(65) }],
    ['a name without length', { names: new Uint8Array(100) }],
    ['an index of other symbols', { index: new Uint8Array(8) }],
  ])('with %s are refused', (_what, spoilt) => {
    expect(() => new Kallsyms({ ...sound, ...spoilt })).toThrow(expect.objectContaining({ code: 'KERNEL_DATA_CORRUPT', details: { field: 'kallsyms' } }))
  })

  it('give an error or symbols, never a crash or a hang', { timeout: fuzzTimeoutMs }, () => {
    fc.assert(fc.property(fc.nat(), (number) => {
      const random = new Random(number)
      const tables = { ...sound, names: sound.names.slice(), tokenTable: sound.tokenTable.slice(), tokenIndex: sound.tokenIndex.slice(), offsets: sound.offsets.slice() }
      for (let i = random.integer(1, 3); i > 0; i--) damage(random.pick([tables.names, tables.tokenTable, tables.tokenIndex, tables.offsets]), random)
      try {
        for (const { address } of new Kallsyms(tables)) expect(BigInt.asUintN(64, address)).toBe(address)
      } catch (error) {
        if (!isBackdoorsError(error, 'KERNEL_DATA_CORRUPT')) throw error
      }
    }), fuzz(10_000))
  })
})
