import { describe, expect, it } from 'vitest'
import { findVmcoreinfo, Vmcoreinfo } from './vmcoreinfo.js'

const note = `OSRELEASE=6.1.0-40-amd64
BUILD-ID=0123456789abcdef
PAGESIZE=4096
SYMBOL(swapper_pg_dir)=ffffffff9a40a000
SIZE(page)=64
OFFSET(page.flags)=0
LENGTH(free_area.free_list)=6
NUMBER(phys_base)=-1048576
NUMBER(KERNEL_IMAGE_SIZE)=0x40000000
NUMBER(pgtable_l5_enabled)=1
KERNELOFFSET=18000000
SYMBOL(swapper_pg_dir)=1
SYMBOL(broken)=xyz
NUMBER(broken)=1.5
SIZE(broken)=-4
`
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

describe('VMCOREINFO', () => {
  const info = new Vmcoreinfo(bytes(`${note}\0garbage SIZE(hidden)=1\n`))

  it('tells symbols, sizes, offsets and numbers', () => {
    expect(info.osRelease).toBe('6.1.0-40-amd64')
    expect(info.symbol('swapper_pg_dir')).toBe(0xffff_ffff_9a40_a000n)
    expect([info.sizeOf('page'), info.offsetOf('page.flags'), info.lengthOf('free_area.free_list')]).toEqual([64, 0, 6])
    expect([info.number('phys_base'), info.number('KERNEL_IMAGE_SIZE'), info.number('pgtable_l5_enabled'), info.kernelOffset]).toEqual([-1048576n, 0x4000_0000n, 1n, 0x1800_0000n])
  })

  it('tells nothing where nothing, or nothing sound, is noted', () => {
    expect([info.symbol('broken'), info.symbol('absent'), info.number('broken'), info.sizeOf('broken'), info.sizeOf('hidden'), info.offsetOf('absent')]).toEqual(Array(6).fill(undefined))
  })

  it('is refused where it does not begin as one', () => {
    for (const wrong of ['', '\0OSRELEASE=6.1\n', 'PAGESIZE=4096\n']) expect(() => new Vmcoreinfo(bytes(wrong))).toThrow(expect.objectContaining({ code: 'KERNEL_DATA_CORRUPT', details: { field: 'VMCOREINFO' } }))
  })

  it('is found in memory wherever it begins', () => {
    const memory = bytes(`..OSRELEASE=%s\n..${'x'.repeat(50)}${note}${'\0'.repeat(99)}OSRELEASE=\n OSRELEASE=cut`)
    const found = findVmcoreinfo(memory)
    expect(found).toEqual([2 + 'OSRELEASE=%s\n..'.length + 50])
    expect(new Vmcoreinfo(memory.subarray(found[0])).osRelease).toBe('6.1.0-40-amd64')
  })
})
