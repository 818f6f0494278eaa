import { rmSync, writeFileSync } from 'node:fs'
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Child } from '../../../addon/test/native-fixture.js'
import { BackdoorsError } from '../../errors.js'
import { Random } from '../../fabric/mock/random.js'
import type { ReadableMemory } from '../../fabric/remote-memory.js'
import { memoryAddon } from '../../native/load.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { KernelImage } from '../kernel-image.js'
import { PhysicalMemory } from '../physical-memory.js'
import { openRamFile } from '../ram-file.js'
import { readElf } from '../testing/elf-reader.js'
import { panickedHost } from '../testing/panicked-host.js'
import { Vmcoreinfo } from '../vmcoreinfo.js'
import { writeVmcore, type VmcoreOptions, type VmcoreResult } from './vmcore.js'

const host = await panickedHost()
const [text, end] = [host.addressOf('_text'), host.addressOf('_end')]
const translated = (await host.memory.translate([text]))[0] as { physical: number }
const imageBytes = Number(end - text)

/** RAM in two pieces, which lie the other way round in the lent memory: the second is where the kernel's image is. */
const low = { physical: 0x1000, length: 3 << 20, offset: imageBytes + 0x2000 }
const high = { physical: translated.physical - 0x1000, length: imageBytes + 0x2000, offset: 0 }
const ram = new Uint8Array(low.offset + low.length)
new Random(1).fill(ram.subarray(low.offset, low.offset + (1 << 20)))
new Random(2).fill(ram.subarray(1 << 20, 3 << 20))

/** The recorded kernel with other RAM: what is exported is too much to be recorded. */
const imageIn = (memory: ReadableMemory, note = host.note): KernelImage =>
  new KernelImage({ physical: new PhysicalMemory(memory, [low, high]), note, format: host.format, memory: host.memory, symbols: host.symbols, types: host.types, notePhysical: host.notePhysical })
const imageOf = (bytes: Uint8Array, note = host.note): KernelImage => imageIn(new BytesMemory(bytes), note)
const image = imageOf(ram)

let folder: string
let path: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmcore-'))
  path = join(folder, 'vmcore')
})
afterEach(() => rm(folder, { recursive: true }))

/** An export that ends when it has copied so many bytes. */
async function interrupted(afterBytes: number, options: Partial<VmcoreOptions> = {}): Promise<void> {
  const controller = new AbortController()
  const reason = new Error('the exporter has died')
  const run = writeVmcore({ image, path, readsInFlight: 1, signal: controller.signal, onProgress: ({ done }) => { if (done >= afterBytes) controller.abort(reason) }, ...options })
  await expect(run).rejects.toBe(reason)
}

async function expectWhole(result: VmcoreResult): Promise<void> {
  const file = await readFile(path)
  const [, lowSegment, highSegment] = readElf(file).segments
  expect(file.length).toBe(result.fileBytes)
  expect(Buffer.compare(file.subarray(lowSegment!.offset, lowSegment!.offset + low.length), ram.subarray(low.offset, low.offset + low.length))).toBe(0)
  expect(Buffer.compare(file.subarray(highSegment!.offset, highSegment!.offset + high.length), ram.subarray(0, high.length))).toBe(0)
  expect(await readdir(folder)).toEqual(['vmcore'])
}

describe('a vmcore', () => {
  it('holds all RAM, is nobody else\'s to read, and has holes for zeros', async () => {
    const result = await writeVmcore({ image, path })
    await expectWhole(result)
    expect(result).toMatchObject({ ramBytes: low.length + high.length, resumedBytes: 0, cpus: 2, faults: [] })
    const { mode, blocks } = await stat(path)
    expect(mode & 0o777).toBe(0o600)
    expect([blocks * 512 < 4 << 20, result.writtenBytes < 4 << 20]).toEqual([true, true])
  })

  it('has the kernel\'s image and all RAM at the addresses that the kernel had', async () => {
    await writeVmcore({ image, path })
    const { type, machine, segments } = readElf(await readFile(path))
    const base = await host.variable('page_offset_base')
    expect([type, machine]).toEqual([4, 62])
    expect(segments.map(({ virtual, physical, memoryBytes }) => [virtual, physical, memoryBytes])).toEqual([
      [text, BigInt(translated.physical), imageBytes],
      [base + BigInt(low.physical), BigInt(low.physical), low.length],
      [base + BigInt(high.physical), BigInt(high.physical), high.length],
    ])
    expect(segments[0]!.offset).toBe(segments[2]!.offset + 0x1000)
    expect(segments.every(({ fileBytes, memoryBytes }) => fileBytes === memoryBytes)).toBe(true)
  })

  it('notes the kernel, and each CPU that the machine has', async () => {
    await writeVmcore({ image, path })
    const { notes } = readElf(await readFile(path))
    expect(notes.map(({ name, type, description }) => [name, type, description.length])).toEqual([['CORE', 1, 336], ['CORE', 1, 336], ['VMCOREINFO', 0, host.note.text.length], ['BACKDOORS', 0x424f_4f54, 16]])
    expect(notes[2]!.description.toString('latin1')).toBe(host.note.text)
  })

  it('opens as the memory that it was made of', async () => {
    await writeVmcore({ image, path })
    const opened = await openRamFile(path)
    expect(opened.spans.map(({ physical, length }) => [physical, length])).toEqual([low, high].map(({ physical, length }) => [physical, length]))
    const range = { physical: high.physical + (1 << 20), length: 1 << 16 }
    expect(Buffer.compare((await opened.readMany([range]))[0]!, (await image.physical.readMany([range]))[0]!)).toBe(0)
    await opened.close()
  })
})

/** Opens a file as an export of another process does, and is killed when that is asked for. */
async function otherExporter(file: string): Promise<{ readonly pid: number; kill(): Promise<void> }> {
  const child = new Child('file-holder.mjs', [file])
  expect(await child.line()).toBe('locked')
  return {
    pid: child.process.pid as number,
    kill: async () => {
      child.process.kill('SIGKILL')
      await child.ended
    },
  }
}

describe('a vmcore that another export is writing', () => {
  it.each(['the same machine', 'another boot'])('of %s, is left to it', async (whose) => {
    const others = whose === 'the same machine' ? image : imageOf(new Uint8Array(ram.length).fill(7), new Vmcoreinfo(Buffer.from(host.note.text.replace('KERNELOFFSET=', 'KERNELOFFSET=1'))))
    let second: Promise<VmcoreResult> | undefined
    const result = await writeVmcore({
      image, path, readsInFlight: 1,
      onProgress: ({ done }) => {
        if (done < 2 << 20 || second !== undefined) return
        second = writeVmcore({ image: others, path })
        second.catch(() => undefined)
      },
    })
    await expect(second).rejects.toMatchObject({ code: 'FILE_IN_USE', details: { path: `${path}.part` } })
    await expectWhole(result)
  })

  it('is refused by the name of its process', async () => {
    await interrupted(2 << 20)
    const { pid, kill } = await otherExporter(`${path}.part`)
    await expect(writeVmcore({ image, path })).rejects.toMatchObject({ code: 'FILE_IN_USE', message: expect.stringContaining(`is being written by process ${pid}.`) as string })
    await kill()
  })

  it('goes on when that has been killed', async () => {
    await interrupted(2 << 20)
    const { kill } = await otherExporter(`${path}.part`)
    await kill()
    const result = await writeVmcore({ image, path })
    expect(result.resumedBytes).toBeGreaterThan(0)
    await expectWhole(result)
  })

  it('is written by one of many that begin at the same time', async () => {
    const refused: unknown[] = []
    const done: VmcoreResult[] = []
    let resume = (): void => undefined
    const othersRefused = new Promise<void>((resolve) => (resume = resolve))
    const memory = new BytesMemory(ram)
    /** It is read only when all others have been refused. */
    const paused = imageIn({ peer: 'host', length: ram.length, read: (offset, length) => memory.read(offset, length), readMany: async (ranges) => {
      await othersRefused
      return await memory.readMany(ranges)
    } })
    const exports = Array.from({ length: 6 }, async () => {
      try {
        done.push(await writeVmcore({ image: paused, path }))
      } catch (error) {
        if (refused.push((error as { code?: string }).code) === 5) resume()
      }
    })
    await Promise.all(exports)
    expect(refused).toEqual(Array(5).fill('FILE_IN_USE'))
    expect(done).toHaveLength(1)
    await expectWhole(done[0] as VmcoreResult)
  })

  it.each(['ENOSYS', 'EOPNOTSUPP', 'ENOLCK'] as const)('is written without a lock where the file system answers %s', async (name) => {
    const lock = vi.spyOn(memoryAddon(), 'lockFile').mockImplementation(() => {
      throw new BackdoorsError('SYSTEM_CALL_FAILED', 'flock', { errno: constants.errno[name], call: 'flock' })
    })
    try {
      await expectWhole(await writeVmcore({ image, path }))
      expect(lock).toHaveBeenCalled()
    } finally {
      lock.mockRestore()
    }
  })

  it('does not take the name where another file has come into its place', async () => {
    const replace = ({ done }: { readonly done: number }): void => {
      if (done < 2 << 20) return
      rmSync(`${path}.part`)
      writeFileSync(`${path}.part`, 'another')
    }
    await expect(writeVmcore({ image, path, onProgress: replace })).rejects.toMatchObject({ code: 'FILE_IN_USE', details: { path: `${path}.part` } })
    expect(await readdir(folder)).toEqual(['vmcore.part'])
    expect(await readFile(`${path}.part`, 'utf8')).toBe('another')
  })
})

describe('a vmcore that was interrupted', () => {
  it.each([1 << 20, 2 << 20, 40 << 20])('after %i bytes goes on from there', async (bytes) => {
    await interrupted(bytes)
    expect(await readdir(folder)).toEqual(['vmcore.part'])
    expect((await stat(`${path}.part`)).mode & 0o777).toBe(0o600)
    const steps: number[] = []
    const result = await writeVmcore({ image, path, onProgress: ({ done }) => steps.push(done) })
    expect(result.resumedBytes).toBeGreaterThan(0)
    expect([steps[0], steps.at(-1)]).toEqual([result.resumedBytes, result.ramBytes])
    await expectWhole(result)
  })

  it('may be interrupted again and again', async () => {
    for (const bytes of [1 << 20, 2 << 20, 3 << 20, 20 << 20]) await interrupted(bytes)
    await expectWhole(await writeVmcore({ image, path }))
  })

  it('before it had anything, begins anew', async () => {
    await interrupted(0)
    await expectWhole(await writeVmcore({ image, path }))
  })

  it('of another boot begins anew', async () => {
    const other = imageOf(new Uint8Array(ram.length).fill(7), new Vmcoreinfo(Buffer.from(host.note.text.replace('KERNELOFFSET=', 'KERNELOFFSET=1'))))
    await interrupted(2 << 20, { image: other })
    const result = await writeVmcore({ image, path })
    expect(result.resumedBytes).toBe(0)
    await expectWhole(result)
  })

  it('is not gone on with where others could have written to it, or it is a link', async () => {
    await interrupted(2 << 20)
    await chmod(`${path}.part`, 0o666)
    expect((await writeVmcore({ image, path })).resumedBytes).toBe(0)
    await rm(path)
    await writeFile(join(folder, 'target'), 'precious')
    await symlink(join(folder, 'target'), `${path}.part`)
    expect((await writeVmcore({ image, path })).resumedBytes).toBe(0)
    expect(await readFile(join(folder, 'target'), 'utf8')).toBe('precious')
  })

  it('by a read that fails keeps what it has, and hands on the error', async () => {
    const memory = new BytesMemory((call) => (call < 3 ? ram : ram.subarray(0, 1 << 20)))
    const failing = imageIn({ peer: 'host', length: ram.length, read: (offset, length) => memory.read(offset, length), readMany: (ranges) => memory.readMany(ranges) })
    await expect(writeVmcore({ image: failing, path })).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    const result = await writeVmcore({ image, path })
    expect(result.resumedBytes).toBeGreaterThan(0)
    await expectWhole(result)
  })
})
