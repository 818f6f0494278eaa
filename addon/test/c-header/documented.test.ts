/** docs/c-header.md: its program compiles and runs, its table is the header's. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createRegion } from '../../../src/region/region.js'
import { compileC, headerText, sanitized, strictly } from './c-program.js'

const page = readFileSync(join(import.meta.dirname, '../../../docs/c-header.md'), 'utf8')

it.each([['gcc', 'c11'], ['g++', 'c++20']])('has a program that counts on after a restart, compiled by %s as %s', { timeout: 120_000 }, (compiler, standard) => {
  const source = /^```c\n(.*?)^```/ms.exec(page)?.[1] as string
  const program = compileC(source, [`-std=${standard}`, ...strictly, ...sanitized], compiler)
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-documented-'))
  try {
    const path = join(folder, 'region')
    createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 64, heapBytes: 1 << 20 }).memory.close()
    const answers = (input: string): string => execFileSync(program, [path], { input, encoding: 'utf8' })
    expect(answers('ann\nbob\nann\n')).toBe('ann 1\nbob 1\nann 2\n')
    expect(answers('ann\n')).toBe('ann 3\n')
    expect(() => execFileSync(program, [join(folder, 'none')], { stdio: 'pipe' })).toThrow(/there is no region of this path/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

it('lists every function of the header, and no other', () => {
  const declared = [...headerText().matchAll(/^BACKDOORS_API [^\n{]*?\b(backdoors_\w+)\([^{]*?\);$/gm)].map(([, name]) => name as string)
  const listed = [...page.matchAll(/^\| (`backdoors_.*?) \|/gm)].flatMap(([, names]) => [...(names as string).matchAll(/`(\w+)`/g)].map(([, name]) => name as string))
  expect(declared.length).toBeGreaterThan(15)
  expect([...listed].sort()).toEqual([...declared].sort())
})
