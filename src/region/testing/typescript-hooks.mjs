/** Module hooks of Node's own kind: a child process of a test runs TypeScript as it stands, without a build. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, URL } from 'node:url'

// By require: to import it would search its nine megabytes for the names it exports.
const typescript = createRequire(import.meta.url)('typescript')

const options = {
  module: typescript.ModuleKind.ESNext,
  target: typescript.ScriptTarget.ES2022,
  verbatimModuleSyntax: true,
  inlineSourceMap: true,
}

export async function resolve(specifier, context, next) {
  if (specifier.startsWith('.') && specifier.endsWith('.js')) {
    const url = new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL)
    if (existsSync(fileURLToPath(url))) return { url: url.href, format: 'module', shortCircuit: true }
  }
  return next(specifier, context)
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const path = fileURLToPath(url)
  const { outputText } = typescript.transpileModule(readFileSync(path, 'utf8'), { compilerOptions: options, fileName: path })
  return { format: 'module', source: outputText, shortCircuit: true }
}
