/**
 * The programs that guests run. An emulated processor takes ten seconds to find and compile the several hundred modules of a daemon
 * and of what it depends on, and two for the same code in a few files: so these are bundled out of `dist/` before guests are booted.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const names = [
  'src/cli/main', 'src/cli/demo/server', 'ci/load-clients', 'ci/programs/busy-host', 'ci/extract/lender', 'ci/extract/extractor', 'ci/takeover/server', 'ci/takeover/clients', 'ci/takeover/listener',
  'examples/auction/database/main', 'examples/auction/application/main', 'examples/auction/users/main',
] as const

export type GuestProgram = (typeof names)[number]

/** This file runs as `dist/ci/guest-programs.js`. */
const compiled = fileURLToPath(new URL('..', import.meta.url))
const bundled = join(compiled, 'guest')

/**
 * The beginning of its command line. Code is not optimized while it runs: on the one processor that a guest has, and that is emulated,
 * the compiler would take a sixth of the time that failures are measured in.
 */
export const guestProgram = (name: GuestProgram, ...nodeOptions: readonly string[]): string[] => [process.execPath, '--no-opt', ...nodeOptions, join(bundled, `${name}.js`)]

/** Files that stay as they are keep their time of writing, so that guests of another run, which read them, do not notice. */
export async function bundleGuestPrograms(): Promise<void> {
  const { rolldown } = await import('rolldown')
  const input = Object.fromEntries(names.map((name) => [name, join(compiled, `${name}.js`)]))
  // `pg` runs without its native half, which is not installed.
  const bundle = await rolldown({ input, platform: 'node', external: [/\.node$/, 'pg-native'], logLevel: 'warn' })
  const { output } = await bundle.generate({ format: 'esm', chunkFileNames: 'chunks/[name]-[hash].js' })
  await bundle.close()
  const files = new Map(output.map((file) => [join(bundled, file.fileName), file.type === 'chunk' ? file.code : file.source]))
  await Promise.all([...files].map(async ([path, content]) => {
    if ((await readFile(path).catch(() => undefined))?.equals(Buffer.from(content)) === true) return
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content)
  }))
  const chunks = join(bundled, 'chunks')
  const stale = (await readdir(chunks)).map((name) => join(chunks, name)).filter((path) => !files.has(path))
  await Promise.all(stale.map((path) => rm(path)))
}
