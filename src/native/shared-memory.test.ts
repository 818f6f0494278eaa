import { execFileSync } from 'node:child_process'
import { existsSync, ftruncateSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Child, closing, createMemory, expectCode, temporaryFolder, until } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'
import type { SharedMemory, SharedMemoryOptions } from './memory.js'

const open = (options: SharedMemoryOptions): SharedMemory => closing(new (memoryAddon().SharedMemory)(options))
const mappingsOf = (path: string): number => readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.includes(path)).length

describe('SharedMemory', () => {
  it('is seen alike by all who open it', () => {
    const owner = createMemory()
    const other = open({ path: owner.path })
    new Uint8Array(owner.buffer)[65_535] = 7
    expect(new Uint8Array(other.buffer)[65_535]).toBe(7)
    expect(readFileSync(owner.path)[65_535]).toBe(7)
    expect([other.length, other.buffer.byteLength]).toEqual([65_536, 65_536])
    expect(readlinkSync(`/proc/self/fd/${String(owner.fd)}`)).toBe(owner.path)
  })

  it('allocates its file in full when it is created, zeroed, with the permissions asked for', () => {
    const memory = createMemory({ length: 3 * 1024 * 1024 + 5, mode: 0o640 })
    const status = statSync(memory.path)
    expect([status.size, status.blocks * 512 >= status.size, status.mode & 0o777]).toEqual([memory.length, true, 0o640])
    expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true)
  })

  it('can be opened to be read only', () => {
    const owner = createMemory()
    const reader = open({ path: owner.path, writable: false })
    new Uint8Array(owner.buffer)[0] = 9
    expect(new Uint8Array(reader.buffer)[0]).toBe(9)
    expectCode(() => reader.lockBytes(0, 1), 'READ_ONLY', { path: owner.path })
    expect(reader.isLocked(0, 1)).toBe(false)
  })

  it('can be locked in memory, or says why not', () => {
    const outcome = createMemory().pin()
    if (outcome !== null) expect(outcome).toMatch(/^mlock of 65536 bytes: .*ulimit -l/)
  })

  it('can be pinned to its frames, or says why not', () => {
    const memory = createMemory()
    const outcome = memory.pinFrames()
    if (outcome !== null) expect(outcome).toMatch(/^io_uring_(setup|register) of 65536 bytes: /)
    expect(memory.pinFrames()).toBe(outcome)
    memory.close()
    expectCode(() => memory.pinFrames(), 'CLOSED', { path: memory.path })
  })

  it('says how much is missing where the file is shorter than asked for', () => {
    const { path } = createMemory({ length: 4_096 })
    expectCode(() => open({ path, length: 4_097 }), 'REGION_TRUNCATED', { path, length: 4_096 })
    writeFileSync(`${path}-empty`, '')
    expectCode(() => open({ path: `${path}-empty` }), 'REGION_TRUNCATED', { length: 0 })
  })

  it('says REGION_NOT_FOUND and REGION_EXISTS, and leaves what exists alone', () => {
    const { path } = createMemory()
    expectCode(() => open({ path: `${path}-absent` }), 'REGION_NOT_FOUND', { path: `${path}-absent` })
    expectCode(() => open({ path, create: true, length: 8 }), 'REGION_EXISTS', { path })
    expect(statSync(path).size).toBe(65_536)
  })

  it('leaves no file where there is no room for it', () => {
    const path = join(temporaryFolder(), 'huge')
    const error = expectCode(() => open({ path, create: true, length: 2 ** 52 }), 'SYSTEM_CALL_FAILED', { path, call: 'posix_fallocate' })
    expect(['ENOSPC', 'EFBIG']).toContain(error.details.errnoName)
    expect(existsSync(path)).toBe(false)
  })

  it.each(['/dev/null', '/dev/zero', '/'])('refuses to map %s', (path) => {
    expectCode(() => open({ path }), 'INVALID_ARGUMENT', { path })
  })

  it('does not wait for the other end of a pipe', () => {
    const path = join(temporaryFolder(), 'pipe')
    execFileSync('mkfifo', [path])
    expectCode(() => open({ path, writable: false }), 'INVALID_ARGUMENT', { path })
  })

  it('gives the failed call where a folder is missing or a file is in its place', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    expectCode(() => open({ path: join(folder, 'absent', 'region'), create: true, length: 8 }), 'SYSTEM_CALL_FAILED', { call: 'open', errnoName: 'ENOENT' })
    expectCode(() => open({ path: join(folder, 'file', 'region') }), 'SYSTEM_CALL_FAILED', { call: 'open', errnoName: 'ENOTDIR' })
  })

  const refused: readonly (readonly [what: string, field: string, options: unknown])[] = [
    ['no options', 'options', undefined],
    ['no path', 'path', {}],
    ['an empty path', 'path', { path: '' }],
    ['a path with a NUL', 'path', { path: '/dev/shm/a\0b' }],
    ['a path that is too long', 'path', { path: `/${'a'.repeat(4_095)}` }],
    ['a path that is no string', 'path', { path: 3 }],
    ['a length of 0', 'length', { path: '/x', create: true, length: 0 }],
    ['a length that is NaN', 'length', { path: '/x', create: true, length: NaN }],
    ['no length to create', 'length', { path: '/x', create: true }],
    ['a mode beyond the permission bits', 'mode', { path: '/x', mode: 0o1000 }],
    ['a memfd that is not created', 'memfd', { path: 'x', memfd: true }],
    ['huge pages for a file', 'hugePages', { path: '/x', hugePages: true }],
    ['to create what is read only', 'writable', { path: '/x', create: true, length: 8, writable: false }],
    ['a flag that is no boolean', 'create', { path: '/x', create: 1 }],
  ]
  it.each(refused)('refuses %s with INVALID_ARGUMENT', (_what, field, options) => {
    expectCode(() => open(options as SharedMemoryOptions), 'INVALID_ARGUMENT', { field })
  })

  it('throws what an options object itself throws', () => {
    const options = {
      get path(): string {
        throw new RangeError('mine')
      },
    }
    expect(() => open(options)).toThrow(new RangeError('mine'))
  })

  it('must be called with new, and on an object of its own', () => {
    const { SharedMemory: Memory, FileReader } = memoryAddon()
    expectCode(() => (Memory as unknown as () => void)(), 'INVALID_ARGUMENT')
    const { path } = createMemory()
    const reader = closing(new FileReader(path))
    const getter = Object.getOwnPropertyDescriptor(Memory.prototype as object, 'fd')?.get as (this: unknown) => number
    for (const other of [reader, {}, null, undefined, 3, Object.create(Memory.prototype as object) as unknown]) {
      expectCode(() => getter.call(other), 'INVALID_ARGUMENT', { field: 'this' })
    }
  })
})

describe('a memfd', () => {
  it('of more than the memory that is free is refused before any of it is taken', () => {
    const before = freemem()
    const length = 2 ** 40
    expectCode(() => createMemory({ memfd: true, path: 'backdoors-test', length }), 'SYSTEM_CALL_FAILED', { length })
    expect(freemem()).toBeGreaterThan(before / 2)
  })

  it('can neither shrink nor grow, and is reached by its descriptor', () => {
    const memory = createMemory({ memfd: true, path: 'backdoors-test', length: 8_192 })
    expect(readlinkSync(`/proc/self/fd/${String(memory.fd)}`)).toBe('/memfd:backdoors-test (deleted)')
    expect(() => ftruncateSync(memory.fd, 4_096)).toThrow(/EPERM/)
    expect(() => ftruncateSync(memory.fd, 16_384)).toThrow(/EPERM/)
    const other = open({ path: `/proc/self/fd/${String(memory.fd)}`, length: 8_192 })
    new Uint8Array(memory.buffer)[8_191] = 5
    expect(new Uint8Array(other.buffer)[8_191]).toBe(5)
    expect(memory.lockBytes(0, 8)).toBe(true)
    expect(other.isLocked(0, 8)).toBe(true)
  })

  it('has huge pages where they are set aside, and otherwise says how to', () => {
    const options = { memfd: true, hugePages: true, path: 'backdoors-huge', length: 3 * 1024 * 1024 }
    const free = Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0)
    const hasHugePages = free >= 2 && existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB')
    if (hasHugePages) {
      const memory = createMemory(options)
      expect(memory.length).toBe(3 * 1024 * 1024)
      expect(statfsSync(`/proc/self/fd/${String(memory.fd)}`).bsize).toBe(2 * 1024 * 1024)
    } else {
      const error = expectCode(() => createMemory(options), 'SYSTEM_CALL_FAILED', { path: 'backdoors-huge' })
      expect(error.message).toMatch(/vm\.nr_hugepages=2/)
    }
  })
})

describe('a SharedMemory that is closed', () => {
  it('is empty, unmapped, and closed again without harm', async () => {
    const memory = createMemory()
    const bytes = new Uint8Array(memory.buffer)
    expect(mappingsOf(memory.path)).toBe(1)
    memory.close()
    memory.close()
    expect([memory.buffer.byteLength, bytes.length, bytes[0]]).toEqual([0, 0, undefined])
    await until('the pages are unmapped', () => mappingsOf(memory.path) === 0)
    const descriptors = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return ''
      }
    })
    expect(descriptors).not.toContain(memory.path)
  })

  it('says CLOSED', () => {
    const memory = createMemory()
    memory.close()
    const about = { path: memory.path }
    expectCode(() => memory.fd, 'CLOSED', about)
    expectCode(() => memory.pin(), 'CLOSED', about)
    expectCode(() => memory.lockBytes(0, 1), 'CLOSED', about)
    expectCode(() => memory.unlockBytes(0, 1), 'CLOSED', about)
    expectCode(() => memory.isLocked(0, 1), 'CLOSED', about)
    expectCode(() => new (memoryAddon().BeatThread)({ memory, counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1_000 }), 'INVALID_ARGUMENT', { field: 'memory' })
  })
})

describe('locks on bytes', () => {
  it('exclude others, byte by byte, and not oneself', () => {
    const [first, second] = [createMemory(), undefined].map((memory, _, all) => memory ?? open({ path: (all[0] as SharedMemory).path })) as [SharedMemory, SharedMemory]
    expect(first.lockBytes(8, 8)).toBe(true)
    expect(first.lockBytes(8, 8)).toBe(true)
    expect([first.isLocked(8, 8), second.isLocked(8, 8), second.isLocked(15, 100), second.isLocked(0, 8), second.isLocked(16, 8)]).toEqual([false, true, true, false, false])
    expect([second.lockBytes(0, 9), second.lockBytes(0, 8)]).toEqual([false, true])
    first.unlockBytes(8, 8)
    expect(second.lockBytes(8, 8)).toBe(true)
  })

  it('end when their holder is closed, although a beat thread still uses its pages', () => {
    const holder = createMemory()
    const other = open({ path: holder.path })
    const beat = closing(new (memoryAddon().BeatThread)({ memory: holder, counterOffset: 0, fenceOffset: 4, fenceLimit: 0, intervalUs: 1_000 }))
    holder.lockBytes(0, 8)
    holder.close()
    expect(other.isLocked(0, 8)).toBe(false)
    beat.close()
  })

  it('end when their holder is killed', async () => {
    const memory = createMemory()
    const child = new Child('holder.mjs', [memory.path])
    expect(await child.line()).toBe('locked')
    expect([memory.isLocked(0, 8), memory.lockBytes(0, 8)]).toEqual([true, false])
    child.process.kill('SIGKILL')
    expect((await child.ended).signal).toBe('SIGKILL')
    expect([memory.isLocked(0, 8), memory.lockBytes(0, 8)]).toEqual([false, true])
  })

  it('refuse a range that is none', () => {
    const memory = createMemory()
    expectCode(() => memory.lockBytes(-1, 8), 'INVALID_ARGUMENT', { field: 'offset' })
    expectCode(() => memory.lockBytes(0, 0), 'INVALID_ARGUMENT', { field: 'length' })
    expectCode(() => memory.isLocked(0, 1.5), 'INVALID_ARGUMENT', { field: 'length' })
  })

  it('work for a file whose name is gone', () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'sub'))
    const memory = createMemory({ path: join(folder, 'sub', 'region') })
    execFileSync('rm', [memory.path])
    expect(memory.lockBytes(0, 8)).toBe(true)
  })
})
