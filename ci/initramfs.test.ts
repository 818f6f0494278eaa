import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { cpioArchive } from './cpio.js'
import { PrerequisiteError } from './errors.js'
import { modulesInLoadOrder, parseModulesDep } from './initramfs.js'

const modulesDep = `kernel/net/core.ko:
kernel/net/verbs.ko: kernel/net/core.ko
kernel/net/soft.ko: kernel/net/verbs.ko kernel/net/core.ko
`

describe('modulesInLoadOrder', () => {
  async function withKernel<T>(body: (kernel: Parameters<typeof modulesInLoadOrder>[0]) => Promise<T>): Promise<T> {
    const modulesPath = await mkdtemp(join(tmpdir(), 'backdoors-modules-'))
    try {
      await writeFile(join(modulesPath, 'modules.dep'), modulesDep)
      await writeFile(join(modulesPath, 'modules.builtin'), 'kernel/lib/within.ko\n')
      return await body({ release: 'test', imagePath: '', compressedPath: '', modulesPath })
    } finally {
      await rm(modulesPath, { recursive: true })
    }
  }

  it('puts each module once, after all that it depends on, and leaves out what is built in', async () => {
    const order = await withKernel((kernel) => modulesInLoadOrder(kernel, ['soft', 'within', 'verbs']))
    expect(order).toEqual(['kernel/net/core.ko', 'kernel/net/verbs.ko', 'kernel/net/soft.ko'])
  })

  it('names a module that the kernel does not have', async () => {
    const order = withKernel((kernel) => modulesInLoadOrder(kernel, ['absent']))
    await expect(order).rejects.toThrow(PrerequisiteError)
    await expect(order).rejects.toThrow('kernel test has no module absent')
  })

  it('reads names of compressed modules too', () => {
    expect(parseModulesDep('kernel/a-b.ko.xz: kernel/c.ko.xz').get('a-b')).toEqual({
      path: 'kernel/a-b.ko.xz',
      dependencies: ['kernel/c.ko.xz'],
    })
  })
})

describe('cpioArchive', () => {
  it('writes the newc format, field by field', () => {
    const archive = cpioArchive([{ path: 'a', kind: 'file', content: Buffer.from('hello'), executable: true }])
    const header = archive.toString('ascii', 0, 110)
    expect(header.slice(0, 6)).toBe('070701')
    expect(header.slice(14, 22)).toBe('000081ed') // regular file, 0755
    expect(header.slice(54, 62)).toBe('00000005') // length of the content
    expect(header.slice(94, 102)).toBe('00000002') // length of the name with its end
    expect(archive.toString('ascii', 110, 112)).toBe('a\0')
    expect(archive.toString('ascii', 112, 117)).toBe('hello')
    expect(archive.length % 4).toBe(0)
    expect(archive.includes('TRAILER!!!')).toBe(true)
  })
})
