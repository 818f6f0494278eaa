import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readElf } from '../testing/elf-reader.js'
import { expectOnlyOurErrors } from '../testing/only-our-errors.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { writeProcessCore, type ProcessCoreResult } from './process-core.js'
import type { ExportProgress } from './sparse-file.js'

const host = await panickedHost()
/** The process that pauses in two threads. */
const pid = 175
const pause = 34n

let folder: string
let path: string
let result: ProcessCoreResult
let file: Buffer
const progress: ExportProgress[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'core-'))
  path = join(folder, 'core')
  result = await writeProcessCore({ image: host, pid, path, onProgress: (step) => progress.push(step) })
  file = await readFile(path)
})
afterAll(() => rm(folder, { recursive: true }))

const mappings = reported['maps']!.trim().split('\n').map((line) => {
  const [, start, end, permissions, offset, name] = /^(\w+)-(\w+) (\S+) (\w+) \S+ \d+\s+(.*)$/.exec(line) as unknown as [string, string, string, string, string, string]
  return { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), permissions, offset: BigInt(`0x${offset}`), name }
})

describe('a core file of a process', () => {
  it('is whole, is nobody else\'s to read, and has holes where there is nothing', async () => {
    const { mode, size, blocks } = await stat(path)
    expect([mode & 0o777, size, await readdir(folder)]).toEqual([0o600, result.fileBytes, ['core']])
    expect(blocks * 512).toBeLessThan(size / 2)
    expect(result).toMatchObject({ path, missingBytes: 16384, zeroFilledBytes: 0, faults: [], threads: [{ pid, hasRegisters: true }, { pid: 181, hasRegisters: true }] })
  })

  it('covers every mapping, without an overlap', () => {
    const { type, machine, segments } = readElf(file)
    expect([type, machine]).toEqual([4, 62])
    for (const { start, end, permissions } of mappings) {
      const parts = segments.filter(({ virtual }) => virtual >= start && virtual < end)
      expect(parts.reduce((at, { virtual, memoryBytes }) => (at === virtual ? at + BigInt(memoryBytes) : -1n), start)).toBe(end)
      const flags = [['r', 4], ['w', 2], ['x', 1]].reduce((sum, [letter, bit]) => sum + (permissions.includes(letter as string) ? (bit as number) : 0), 0)
      expect(parts.every((part) => part.flags === flags)).toBe(true)
    }
    const inFile = segments.filter(({ fileBytes }) => fileBytes > 0)
    for (const [i, { offset }] of inFile.entries()) expect(offset).toBe(i === 0 ? inFile[0]!.offset : inFile[i - 1]!.offset + inFile[i - 1]!.fileBytes)
  })

  it('claims nothing that is not there', () => {
    const absent = readElf(file).segments.filter(({ fileBytes }) => fileBytes === 0)
    expect(absent.map(({ virtual, memoryBytes }) => [virtual, memoryBytes])).toEqual([[mappings.find(({ name }) => name === '[vvar]')!.start, 16384]])
  })

  it('has the memory in its place', () => {
    const { start } = mappings.find(({ name, permissions }) => name.endsWith('/stack') && permissions === 'rw-p')!
    const { offset, fileBytes } = readElf(file).segments.find(({ virtual }) => virtual === start)!
    expect(file.subarray(offset, offset + fileBytes).indexOf('known-stack\0')).toBe(0x60)
  })

  it('notes both threads with the registers that they entered the kernel with', () => {
    const threads = readElf(file).notes.filter(({ name, type }) => name === 'CORE' && type === 1).map(({ description }) => description)
    expect(threads.map((status) => [status.length, status.readInt32LE(32)])).toEqual([[336, pid], [336, 181]])
    const register = (status: Buffer, i: number): bigint => status.readBigUInt64LE(112 + i * 8)
    const within = (address: bigint): string => mappings.find(({ start, end }) => address >= start && address < end)!.name
    for (const [status, stack] of [[threads[0]!, '[stack]'], [threads[1]!, '']] as const) {
      expect([register(status, 15), within(register(status, 16)).split('/').at(-1), within(register(status, 19)), register(status, 17) & 3n]).toEqual([pause, 'libc.so.6', stack, 3n])
      // Each has thread-local memory of its own.
      expect(within(register(status, 21))).toBe('')
    }
    expect(readElf(file).notes.filter(({ type }) => type === 2).map(({ description }) => description.length)).toEqual([512, 512])
  })

  it('notes who it was', () => {
    const info = readElf(file).notes.find(({ type }) => type === 3)!.description
    const text = (from: number, to: number): string => info.toString('latin1', from, to).replace(/\0.*/s, '')
    expect([info.length, String.fromCharCode(info[1]!), info.readInt32LE(24), info.readInt32LE(28), text(40, 56), text(56, 136)]).toEqual([136, 'S', pid, 162, 'stack', mappings[0]!.name])
  })

  it('notes where its program begins, up to the end of that list', () => {
    const words = new BigUint64Array(Uint8Array.from(readElf(file).notes.find(({ type }) => type === 6)!.description).buffer)
    const entries = new Map(Array.from({ length: words.length / 2 }, (_, i) => [words[i * 2], words[i * 2 + 1]!]))
    const program = mappings[0]!.start
    expect([entries.get(6n), entries.get(3n), entries.get(9n)! > program && entries.get(9n)! < program + 0x5000n, words.at(-2)]).toEqual([4096n, program + 0x40n, true, 0n])
  })

  it('notes its mapped files as they were mapped', () => {
    const note = readElf(file).notes.find(({ type }) => type === 0x4649_4c45)!.description
    const mapped = mappings.filter(({ name }) => name.startsWith('/'))
    expect([note.readBigUInt64LE(0), note.readBigUInt64LE(8)]).toEqual([BigInt(mapped.length), 4096n])
    expect(mapped.map((_, i) => [0, 8, 16].map((at) => note.readBigUInt64LE(16 + i * 24 + at)))).toEqual(mapped.map(({ start, end, offset }) => [start, end, offset / 4096n]))
    expect(note.toString('latin1', 16 + mapped.length * 24)).toBe(mapped.map(({ name }) => `${name}\0`).join(''))
  })

  it('tells how far it has come', () => {
    const { total } = progress[0]!
    expect(progress.map(({ done }) => done)).toEqual(progress.map(({ done }) => done).sort((a, b) => a - b))
    expect([progress[0]!.done, progress.at(-1)!.done, progress.every((step) => step.total === total)]).toEqual([0, total, true])
  })

  it.each([[2, 'a thread of the kernel'], [4_000_000, 'no process']])('is not written of %i, which is %s', async (other) => {
    await expect(writeProcessCore({ image: host, pid: other, path: join(folder, 'other') })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'pid' } })
    expect(await readdir(folder)).toEqual(['core'])
  })

  it('leaves nothing of itself where it was called off', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    await expect(writeProcessCore({ image: host, pid, path: join(folder, 'other'), signal: controller.signal, onProgress: () => controller.abort(reason) })).rejects.toBe(reason)
    expect(await readdir(folder)).toEqual(['core'])
  })

  it('says where it cannot be written', async () => {
    await expect(writeProcessCore({ image: host, pid, path: join(folder, 'none', 'core') })).rejects.toMatchObject({ code: 'SYSTEM_CALL_FAILED', details: { errnoName: 'ENOENT' } })
  })

  it('is written of damaged memory, or the error is one of ours', async () => {
    await expectOnlyOurErrors(host, (image) => writeProcessCore({ image, pid, path: join(folder, 'other') }), 20)
    await rm(join(folder, 'other'), { force: true })
    expect(await readdir(folder)).toEqual(['core'])
  })
})
