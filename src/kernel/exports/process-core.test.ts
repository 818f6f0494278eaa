import { chmod, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { PhysicalMemory } from '../physical-memory.js'
import { readElf } from '../testing/elf-reader.js'
import { withBytes } from '../testing/hostile-memory.js'
import { expectOnlyOurErrors } from '../testing/only-our-errors.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { findTask } from '../views/find-task.js'
import { writeProcessCore, type ProcessCoreOptions, type ProcessCoreResult } from './process-core.js'
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

  it('says where it cannot be written', async () => {
    await expect(writeProcessCore({ image: host, pid, path: join(folder, 'none', 'core') })).rejects.toMatchObject({ code: 'SYSTEM_CALL_FAILED', details: { errnoName: 'ENOENT' } })
  })

  it('is written of damaged memory, or the error is one of ours', async () => {
    await expectOnlyOurErrors(host, (image) => writeProcessCore({ image, pid, path: join(folder, 'other') }), 20)
    await Promise.all(['other', 'other.part'].map((name) => rm(join(folder, name), { force: true })))
    expect(await readdir(folder)).toEqual(['core'])
  })
})

describe('a core file that was interrupted', () => {
  const other = (): string => join(folder, 'other')
  const part = (): string => join(folder, 'other.part')
  afterEach(() => Promise.all([other(), part()].map((name) => rm(name, { force: true }))))

  /** An export that ends when it has copied so many bytes. */
  async function interrupt(afterBytes: number, options: Partial<ProcessCoreOptions> = {}): Promise<void> {
    const controller = new AbortController()
    const reason = new Error('the exporter has died')
    const run = writeProcessCore({ image: host, pid, path: other(), readsInFlight: 1, batchBytes: 1 << 20, signal: controller.signal, onProgress: ({ done }) => { if (done >= afterBytes) controller.abort(reason) }, ...options })
    await expect(run).rejects.toBe(reason)
    expect([await readdir(folder), (await stat(part())).mode & 0o777]).toEqual([['core', 'other.part'], 0o600])
  }

  /** An export that finds what was interrupted. @returns bytes that it did not have to copy */
  async function goOn(options: Partial<ProcessCoreOptions> = {}): Promise<number> {
    const steps: number[] = []
    const { resumedBytes, memoryBytes, fileBytes } = await writeProcessCore({ image: host, pid, path: other(), onProgress: ({ done }) => steps.push(done), ...options })
    expect([steps[0], steps.at(-1), memoryBytes, fileBytes]).toEqual([resumedBytes, result.memoryBytes, result.memoryBytes, file.length])
    expect(Buffer.compare(await readFile(other()), file)).toBe(0)
    expect(await readdir(folder)).toEqual(['core', 'other'])
    return resumedBytes
  }

  it('goes on from there, and is the same in the end', async () => {
    await interrupt(1 << 20)
    expect(await goOn()).toBe(1 << 20)
  })

  it('goes on when it is asked for by the number of another of its threads', async () => {
    await interrupt(1 << 20)
    expect(await goOn({ pid: 181 })).toBe(1 << 20)
  })

  it('may be interrupted again and again, before it had anything too', async () => {
    for (const bytes of [0, 1 << 20, 0, 2 << 20]) await interrupt(bytes)
    expect(await goOn()).toBe(2 << 20)
  })

  it('when all was copied copies nothing', async () => {
    await writeFile(part(), file, { mode: 0o600 })
    expect(await goOn()).toBe(result.memoryBytes)
  })

  it('by a read that fails keeps what it has, and hands on the error', async () => {
    const { memory, spans } = host.physical
    let isGone = false
    const readMany: typeof memory.readMany = (ranges) => (isGone ? Promise.reject(new BackdoorsError('TIMEOUT', 'the card does not answer')) : memory.readMany(ranges))
    const image = host.over(new PhysicalMemory({ peer: memory.peer, length: memory.length, readMany, read: async (offset, length) => (await readMany([{ offset, length }]))[0] as Uint8Array }, spans))
    await expect(writeProcessCore({ image, pid, path: other(), readsInFlight: 1, batchBytes: 1 << 20, onProgress: ({ done }) => { isGone = done > 0 } })).rejects.toMatchObject({ code: 'TIMEOUT' })
    expect(await goOn()).toBe(1 << 20)
  })

  const taskOf = async (number: number): Promise<bigint> => (await findTask(host, number))?.address ?? 0n
  const offsetOf = (member: string): bigint => BigInt(host.types.member('task_struct', member)?.offset ?? NaN)
  it.each<[string, () => Promise<Partial<ProcessCoreOptions>>]>([
    ['another process', () => Promise.resolve({ pid: 231 })],
    ['another boot', async () => ({ image: await withBytes(host, host.addressOf('init_task') + offsetOf('stack_canary'), new Uint8Array(8).fill(1)) })],
    ['a process before it of the same number', async () => ({ image: await withBytes(host, (await taskOf(pid)) + offsetOf('start_boottime'), new Uint8Array(8).fill(1)) })],
    ['the same process, with other registers', async () => ({ image: await withBytes(host, (await taskOf(pid)) + offsetOf('thread.fsbase'), new Uint8Array(8).fill(1)) })],
  ])('is begun anew where it was of %s', async (_, options) => {
    await interrupt(0, await options())
    // However far the other one had come.
    await truncate(part(), file.length)
    expect(await goOn()).toBe(0)
  })

  it('is begun anew where others could have written to it', async () => {
    await interrupt(1 << 20)
    await chmod(part(), 0o660)
    expect(await goOn()).toBe(0)
  })
})
