import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { Random } from '../fabric/mock/random.js'
import { BytesMemory } from '../region/testing/bytes-memory.js'
import { damage } from '../region/testing/damage.js'
import { readLoadSegments } from './elf.js'
import { PhysicalMemory } from './physical-memory.js'
import { fuzz, fuzzTimeoutMs } from './testing/fuzz.js'

/** A core of two load segments and a note between them, 4 KiB each, from offset 4096 on. */
function core(): Uint8Array {
  const bytes = new Uint8Array(4 * 4096)
  const view = new DataView(bytes.buffer)
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 4, true)
  view.setUint16(18, 62, true)
  view.setBigUint64(32, 64n, true)
  view.setUint16(54, 56, true)
  view.setUint16(56, 3, true)
  for (const [i, type] of [1, 4, 1].entries()) {
    const at = 64 + i * 56
    view.setUint32(at, type, true)
    view.setBigUint64(at + 8, BigInt(4096 * (i + 1)), true)
    view.setBigUint64(at + 24, BigInt(0x100000 * (i + 1)), true)
    view.setBigUint64(at + 32, 4096n, true)
  }
  return bytes
}

describe('the load segments of a core', () => {
  it('are where physical memory is; notes are not', async () => {
    expect(await readLoadSegments(new BytesMemory(core()))).toEqual([
      { physical: 0x100000, length: 4096, offset: 4096 }, { physical: 0x300000, length: 4096, offset: 12_288 },
    ])
  })

  it('of a file that was cut off go as far as it does', async () => {
    expect(await readLoadSegments(new BytesMemory(core().subarray(0, 12_300)))).toEqual([
      { physical: 0x100000, length: 4096, offset: 4096 }, { physical: 0x300000, length: 12, offset: 12_288 },
    ])
  })

  it('are none where there is no ELF file', async () => {
    expect(await readLoadSegments(new BytesMemory(new Uint8Array(4096)))).toBeUndefined()
    expect(await readLoadSegments(new BytesMemory(new Uint8Array(10)))).toBeUndefined()
  })

  it.each<[string, number, number]>([['32 bits', 4, 1], ['big-endian', 5, 2], ['no core', 16, 2], ['other program headers', 54, 32], ['no program headers', 56, 0]])('of an ELF file with %s are refused', async (_, at, value) => {
    const bytes = core()
    bytes[at] = value
    await expect(readLoadSegments(new BytesMemory(bytes))).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT' })
  })

  it('of a damaged file lie within it, or are refused', { timeout: fuzzTimeoutMs }, async () => {
    const sound = core()
    await fc.assert(fc.asyncProperty(fc.nat(), async (number) => {
      const random = new Random(number)
      const bytes = sound.slice(0, random.chance(0.2) ? random.integer(64, sound.length) : sound.length)
      for (let i = random.integer(1, 4); i > 0; i--) damage(bytes.subarray(0, 64 + 3 * 56), random)
      const memory = new BytesMemory(bytes)
      try {
        const spans = await readLoadSegments(memory)
        if (spans) expect(new PhysicalMemory(memory, spans).spans).toHaveLength(spans.length)
      } catch (error) {
        if (!isBackdoorsError(error, 'KERNEL_DATA_CORRUPT', 'INVALID_ARGUMENT')) throw error
      }
    }), fuzz(5000))
  })
})
