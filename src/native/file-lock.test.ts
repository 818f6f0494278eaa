import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Child, closing, expectCode, temporaryFolder } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'

const { lockFile } = memoryAddon()

/** A new file, and what opens it anew each time. */
function fileOf(): { readonly path: string; readonly open: () => number } {
  const path = join(temporaryFolder(), 'file')
  writeFileSync(path, '')
  return { path, open: () => openSync(path, 'r+') }
}

describe('the lock of a file', () => {
  it('is one descriptor\'s, also in one process, until that is closed', () => {
    const { path, open } = fileOf()
    const [first, second] = [open(), open()]
    closing({ close: () => closeSync(second) })
    expect([lockFile(first, path), lockFile(first, path), lockFile(second, path)]).toEqual([true, true, false])
    closeSync(first)
    expect(lockFile(second, path)).toBe(true)
  })

  it('ends with its process, however that ends', async () => {
    const { path, open } = fileOf()
    const fd = open()
    closing({ close: () => closeSync(fd) })
    const child = new Child('file-holder.mjs', [path])
    expect(await child.line()).toBe('locked')
    expect(lockFile(fd, path)).toBe(false)
    child.process.kill('SIGKILL')
    await child.ended
    expect(lockFile(fd, path)).toBe(true)
  })

  it('says what kept it from being taken', () => {
    const { path, open } = fileOf()
    const fd = open()
    closing({ close: () => closeSync(fd) })
    expectCode(() => lockFile(2 ** 31 - 1, path), 'SYSTEM_CALL_FAILED', { call: 'flock', path })
    for (const misuse of [[-1, path], [0.5, path], [fd, ''], [fd], []]) expectCode(() => (lockFile as (...given: unknown[]) => boolean)(...misuse), 'INVALID_ARGUMENT')
  })
})
