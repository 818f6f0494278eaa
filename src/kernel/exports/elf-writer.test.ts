import { describe, expect, it } from 'vitest'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { codeOf } from '../../region/testing/code-of.js'
import { readLoadSegments } from '../elf.js'
import { readElf } from '../testing/elf-reader.js'
import { headBytes, packHead, packNotes, type ElfSegment } from './elf-writer.js'

const segment = (i: number, offset = 1 << 20): ElfSegment => ({ offset: offset + i * 4096, virtual: BigInt(i * 4096), physical: BigInt(i * 4096), fileBytes: 4096, memoryBytes: 8192, flags: 6 })
const notes = packNotes([{ name: 'CORE', type: 1, description: Uint8Array.of(1, 2, 3) }, { name: 'VMCOREINFO', type: 0, description: new Uint8Array(0) }, { name: 'ABC', type: 7, description: Uint8Array.of(9, 9, 9, 9) }])

describe('the head of an ELF core', () => {
  it('says what was put into it, in whole pages', () => {
    const head = packHead(62, notes, [segment(0), segment(5)])
    expect([head.length, head.length]).toEqual([4096, headBytes(notes.length, 2)])
    expect(readElf(Buffer.from(head))).toMatchObject({ type: 4, machine: 62, segments: [{ offset: 1 << 20, virtual: 0n, fileBytes: 4096, memoryBytes: 8192, flags: 6 }, { virtual: 20480n }] })
    expect(readElf(Buffer.from(head)).notes.map(({ name, type, description }) => [name, type, [...description]])).toEqual([['CORE', 1, [1, 2, 3]], ['VMCOREINFO', 0, []], ['ABC', 7, [9, 9, 9, 9]]])
  })

  it.each([65_533, 65_534, 65_535])('has room for %i segments', async (count) => {
    const head = packHead(62, notes, Array.from({ length: count }, (_, i) => segment(i, 1 << 23)))
    expect(readElf(Buffer.from(head)).segments.length).toBe(count)
    expect(readElf(Buffer.from(head)).notes.length).toBe(3)
    if (count + 1 <= 1 << 16) expect((await readLoadSegments(new BytesMemory(head)))?.length).toBe(0)
  })

  it('has room for two million and no more', () => {
    expect(codeOf(() => packHead(62, notes, { length: (1 << 21) + 1 } as unknown as ElfSegment[]))).toBe('INVALID_ARGUMENT')
  })
})

describe('segments of a core that is opened', () => {
  it('may lie in each other, as the kernel\'s image lies in the RAM', async () => {
    const file = new Uint8Array(1 << 20)
    const spans: ElfSegment[] = [[0x5000, 0x2000, 0x4000], [0x1000, 0x8000, 0x10000], [0x8000, 0x3000, 0x20000], [0x9000, 0x1000, 0x30000]].map(([physical, length, offset]) => ({ offset: offset!, virtual: 0n, physical: BigInt(physical!), fileBytes: length!, memoryBytes: length!, flags: 7 }))
    file.set(packHead(62, notes, spans))
    expect(await readLoadSegments(new BytesMemory(file))).toEqual([{ physical: 0x1000, length: 0x8000, offset: 0x10000 }, { physical: 0x9000, length: 0x2000, offset: 0x21000 }])
  })
})
