/** Unit tests: everything that runs without an RDMA device. The hardware suite has its own configuration. */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

const addon = join(process.env['BACKDOORS_ADDON_DIR'] ?? join(import.meta.dirname, 'build', 'Release'), 'memory.node')
if (!existsSync(addon)) {
  process.stderr.write(`The native addon is not built: there is no ${addon}.\nRun "npm ci", or "npm run build:addon"; it needs g++, make and python3.\n`)
  process.exit(1)
}

export default defineConfig({
  // Examples import the package by its name, and are tested against the sources as they stand.
  resolve: {
    alias: [
      { find: /^backdoors$/, replacement: join(import.meta.dirname, 'src', 'index.ts') },
      { find: /^backdoors\/(.+)$/, replacement: join(import.meta.dirname, 'src', 'servers', 'adapters', '$1.ts') },
    ],
  },
  test: {
    include: ['src/**/*.test.ts', 'ci/**/*.test.ts', 'addon/test/**/*.test.ts', 'examples/**/*.test.ts'],
    // Those need programs of Debian's, a PostgreSQL, or a browser, and have a configuration of their own.
    exclude: ['**/*.debian.test.ts', '**/*.postgres.test.ts', '**/*.browser.test.ts', 'hwtests/**', 'dist/**', 'node_modules/**'],
    // Processes, not threads: tests change signal handlers and environment, and load the addon anew.
    pool: 'forks',
    // All of them: by default one processor is kept back, and a machine of two is half idle.
    maxWorkers: availableParallelism(),
    // A loaded machine is slow, and a test that hangs is wrong; nothing is ever tried twice.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    retry: 0,
  },
})
