/** Core files and vmcores from the command line, over the recorded host. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { panickedHost } from '../../kernel/testing/panicked-host.js'
import { readElf } from '../../kernel/testing/elf-reader.js'
import { RecordedFiles } from '../testing/recorded-files.js'
import { jsonOf, runCli } from '../testing/run-cli.js'

const host = await panickedHost()
const files = new RecordedFiles()
afterAll(() => files.remove())
const path = (name: string): string => join(files.folder, name)

describe('core', () => {
  it('writes a core file of the process, and says what is in it', async () => {
    const { exitCode, stdout, stderr } = await files.run(`core 175 -o ${path('core')} --progress`)
    expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/core: process 175, 2 threads; 10\.4 MiB, 2\.\d MiB of memory, 2\.\d MiB written; 16 KiB of its memory are not there\n$/)])
    expect(stderr).toMatch(/^copying: 100 % of [\d.]+ MiB$/m)
    expect(stderr).toMatch(/^cost: \d+ reads/m)
    expect(readElf(readFileSync(path('core'))).notes.filter(({ type }) => type === 1).length).toBe(2)
    expect(statSync(path('core')).mode & 0o777).toBe(0o600)
  })

  it('as JSON says the same', async () => {
    expect(jsonOf(await files.run(`core 175 -o ${path('core')} --json`))).toMatchObject({ pid: 175, memory: files.core, path: path('core'), resumedBytes: 0, missingBytes: 16384, threads: [{ pid: 175, hasRegisters: true }, { pid: 181 }], faults: [], cost: { reads: expect.any(Number) as number } })
  })

  it('is not written of a thread of the kernel', async () => {
    expect(await files.run(`core 2 -o ${path('kernel')}`)).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('it is a thread of the kernel') as string })
  })
})

describe('vmcore', () => {
  it('writes all RAM, which can be inspected as the host itself', async () => {
    const ramBytes = host.physical.spans.reduce((sum, { length }) => sum + length, 0)
    const { exitCode, stdout } = await files.run(`vmcore -o ${path('vmcore')}`)
    expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/vmcore: [\d.]+ MiB of RAM, 2 CPUs; [\d.]+ MiB written/)])
    expect(jsonOf(await files.run(`vmcore -o ${path('again')} --json`))).toMatchObject({ ramBytes, resumedBytes: 0, cpus: 2, faults: [] })
    const panic = jsonOf(await files.run('inspect panic --json')) as { oops: string[] }
    expect((jsonOf(await files.run('inspect panic --json', path('vmcore'))) as typeof panic).oops).toEqual(panic.oops)
  })
})

describe('a command line that is wrong ends with 2', () => {
  it.each([
    ['core b 1', "required option '-o, --output <file>'"],
    ['core -o x', 'Whose memory?'],
    ['core b -o x', 'A core of which process?'],
    ['core b init -o x', '"init" is no PID'],
    ['core b 1 2 -o x', '"2" is too much'],
    ['vmcore -o x', 'Whose memory?'],
    ['vmcore --memory ram.img b -o x', '"b" is too much'],
  ])('%s', async (line, why) => {
    expect(await runCli(line)).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringContaining(why) as string })
  })
})
