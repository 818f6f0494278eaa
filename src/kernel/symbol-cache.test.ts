import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { KernelTables } from './kernel-symbols.js'
import { DirectorySymbolCache } from './symbol-cache.js'

const buildId = 'eb4fbcd037e725371795'
const tables: KernelTables = { count: 2, names: Uint8Array.of(1, 2, 3), tokenTable: Uint8Array.of(4), tokenIndex: new Uint8Array(512), offsets: new Uint8Array(8), btf: Uint8Array.of(9, 9) }

let parent: string
let folder: string
let cache: DirectorySymbolCache
const file = (): string => join(folder, `${buildId}.tables`)

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'symbols-'))
  folder = join(parent, 'kernels')
  cache = new DirectorySymbolCache(folder)
})
afterEach(() => rm(parent, { recursive: true }))

/** Buffers and byte arrays of the same bytes are the same here. */
const plain = (found: KernelTables | undefined): unknown => found && { ...found, ...Object.fromEntries(Object.entries(found).filter(([, value]) => value instanceof Uint8Array).map(([name, value]) => [name, [...(value as Uint8Array)]])) }

describe('a folder of kernels\' symbols', () => {
  it('gives back what was stored, to another reader too', async () => {
    await cache.store(buildId, tables)
    expect(plain(await new DirectorySymbolCache(folder).load(buildId))).toEqual(plain(tables))
  })

  it('keeps what was made of the tables beside them', async () => {
    const indexed = { ...tables, symbolIndex: Uint8Array.of(1, 2), typeIndex: Uint8Array.of(3) }
    await cache.store(buildId, indexed)
    expect(plain(await cache.load(buildId))).toEqual(plain(indexed))
  })

  it('has nothing of a kernel that was not met, and none where there is no folder', async () => {
    expect(await cache.load(buildId)).toBeUndefined()
    await cache.store(buildId, tables)
    expect(await cache.load(buildId.replace('e', 'f'))).toBeUndefined()
  })

  it('is for nobody else to read, and leaves nothing half written', async () => {
    await cache.store(buildId, tables)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    expect((await stat(file())).mode & 0o777).toBe(0o600)
    expect(await readdir(folder)).toEqual([`${buildId}.tables`])
  })

  it('ignores a file with any byte changed, cut off or foreign, and replaces it', async () => {
    await cache.store(buildId, tables)
    const whole = await readFile(file())
    for (let at = 0; at < whole.length; at++) {
      const damaged = Uint8Array.from(whole)
      damaged[at] = damaged[at]! ^ 0x40
      await writeFile(file(), damaged)
      // The bytes between the magic and the checksum stand for nothing.
      if (at < 26 || at >= 32) expect(await cache.load(buildId), `byte ${at}`).toBeUndefined()
    }
    await writeFile(file(), whole.subarray(0, whole.length - 1))
    expect(await cache.load(buildId)).toBeUndefined()
    await writeFile(file(), 'something else')
    expect(await cache.load(buildId)).toBeUndefined()
    await cache.store(buildId, tables)
    expect(plain(await cache.load(buildId))).toEqual(plain(tables))
  })

  it('does not believe a file that others may write to, nor a link', async () => {
    await cache.store(buildId, tables)
    await chmod(file(), 0o666)
    expect(await cache.load(buildId)).toBeUndefined()
    await chmod(file(), 0o600)
    await writeFile(join(parent, 'elsewhere'), await readFile(file()), { mode: 0o600 })
    await rm(file())
    await symlink(join(parent, 'elsewhere'), file())
    expect(await cache.load(buildId)).toBeUndefined()
    await cache.store(buildId, tables)
    expect(plain(await cache.load(buildId))).toEqual(plain(tables))
  })

  it.each(['../../../../etc/passwd', 'EB4FBCD037E72537', '', 'abc'])('refuses the build id %j', async (id) => {
    await expect(cache.load(id)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(cache.store(id, tables)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  it('says where it cannot write', async () => {
    await writeFile(folder, '')
    await expect(cache.store(buildId, tables)).rejects.toMatchObject({ code: 'SYSTEM_CALL_FAILED', details: { path: file(), errnoName: 'EEXIST' } })
  })
})
