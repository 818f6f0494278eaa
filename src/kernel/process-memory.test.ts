import { describe, expect, it } from 'vitest'
import { processMemory, type MemoryRun } from './process-memory.js'
import { collect } from './testing/collect.js'
import { expectOnlyOurErrors } from './testing/only-our-errors.js'
import { panickedHost } from './testing/panicked-host.js'
import { findTask } from './views/find-task.js'
import { describeVmas } from './views/maps.js'

const host = await panickedHost()
const mm = (await findTask(host, 175))!.pointer('mm')
const memory = await processMemory(host, mm)
const mappings = await describeVmas(host, mm, memory.vmas, [])
const at = (name: RegExp, permissions: string): (typeof memory.vmas)[number] => memory.vmas[mappings.findIndex((mapping) => name.test(mapping.name ?? '') && mapping.permissions === permissions)]!
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

describe('the memory of a process', () => {
  it('is known of every page of every mapping', async () => {
    for (const vma of memory.vmas) {
      let next = vma.start
      for await (const { address, length } of memory.runs(vma)) {
        expect(address).toBe(next)
        next += BigInt(length)
      }
      expect(next).toBe(vma.end)
    }
    expect(memory.faults).toEqual([])
  })

  it('holds what its program wrote, and begins its files as ELF files do', async () => {
    const data = at(/\/stack$/, 'rw-p')
    expect(text((await memory.read(data.start, Number(data.end - data.start))).bytes)).toContain('known-stack\0')
    for (const name of [/\/stack$/, /libc\.so/, /ld-linux/, /\[vdso\]/]) {
      const vma = at(name, String(name).includes('vdso') ? 'r-xp' : 'r--p')
      expect(text((await memory.read(vma.start, 4)).bytes), String(name)).toBe('\x7fELF')
    }
  })

  it('has pages of its files that no page table maps, from their cache', async () => {
    const libc = at(/libc\.so/, 'r-xp')
    const pages = Array.from({ length: Number(libc.end - libc.start) / 4096 }, (_, i) => libc.start + BigInt(i * 4096))
    const mapped = (await memory.memory.translate(pages)).filter((translation) => !('missing' in translation)).length
    const runs = (await collect(memory.runs(libc))).filter(({ kind }) => kind === 'memory')
    expect(runs.reduce((sum, { length }) => sum + length / 4096, 0)).toBe(pages.length)
    expect(mapped).toBeLessThan(pages.length)
  })

  it('is zeros where it was never touched, and missing where it is a device\'s', async () => {
    const [zeros] = (await collect(memory.runs(at(/\[heap\]/, 'rw-p')))).filter(({ kind }) => kind === 'zero') as [MemoryRun]
    expect(await memory.read(zeros.address, 16)).toEqual({ bytes: new Uint8Array(16), missing: [] })
    const { start } = at(/\[vvar\]/, 'r--p')
    expect(await memory.read(start, 16)).toEqual({ bytes: new Uint8Array(16), missing: [{ address: start, length: 16 }] })
  })

  it('is read over the ends of mappings, where it has a hole too', async () => {
    const data = at(/\/stack$/, 'rw-p')
    const { bytes, missing } = await memory.read(data.end - 8n, 16)
    expect(bytes.length).toBe(16)
    expect(missing).toEqual([{ address: data.end, length: 8 }])
    expect((await memory.read(data.start - 8n, 16)).missing).toEqual([])
    expect((await memory.read(0n, 8)).missing).toEqual([{ address: 0n, length: 8 }])
  })

  it.each([[-1n, 8], [0n, 0], [0n, 1 << 30]])('is not read at %i for %i bytes', async (address, length) => {
    await expect(memory.read(address, length)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  it('is not there of an address that holds none', async () => {
    await expect(processMemory(host, 0x1000n)).rejects.toMatchObject({ code: 'NOT_MAPPED' })
  })

  it('may be damaged anywhere, and every page is still accounted for', async () => {
    await expectOnlyOurErrors(host, async (image) => {
      const found = await processMemory(image, mm)
      for (const vma of found.vmas.slice(0, 12)) {
        let [next, runs] = [vma.start, 0]
        for await (const { address, length } of found.runs(vma)) {
          expect(address).toBe(next)
          next += BigInt(length)
          if (++runs > 10_000) break
        }
        if (runs <= 10_000) expect(next).toBe(vma.end)
      }
    })
  })
})
