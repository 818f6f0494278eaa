/** The program as processes run it, made of the sources as they stand: a `dist` of yesterday proves nothing. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const sources = fileURLToPath(new URL('../..', import.meta.url))
const root = dirname(sources)

export interface CompiledProgram {
  /** Path of `main.js`. */
  readonly main: string
  remove(): void
}

/** Translates src/ without checking its types, into a folder of its own beneath the package. Takes about a second. */
export function compileProgram(): CompiledProgram {
  mkdirSync(join(root, '.cache'), { recursive: true })
  const folder = mkdtempSync(join(root, '.cache', 'program-'))
  const compilerOptions: ts.CompilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true }
  for (const entry of readdirSync(sources, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ts') || entry.name.endsWith('.test.ts')) continue
    const path = join(entry.parentPath, entry.name)
    const target = join(folder, relative(sources, path)).replace(/\.ts$/, '.js')
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, ts.transpileModule(readFileSync(path, 'utf8'), { compilerOptions }).outputText)
  }
  const assets = join('daemon', 'page', 'assets')
  cpSync(join(sources, assets), join(folder, assets), { recursive: true })
  return { main: join(folder, 'cli', 'main.js'), remove: () => rmSync(folder, { recursive: true, force: true }) }
}
