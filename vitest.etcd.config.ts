/**
 * Membership against a real etcd (Debian: `etcd-server`), apart from the unit tests:
 *
 *     npm run test:etcd               with the `etcd` in the path
 *     ETCD=/path/to/etcd npm run test:etcd
 *
 * Without an etcd this is a failure, and nothing is skipped.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

const etcd = process.env['ETCD'] ?? 'etcd'
if (spawnSync(etcd, ['--version']).status !== 0) {
  process.stderr.write(`There is no etcd: "${etcd} --version" fails.\nRun "apt-get install --no-install-recommends etcd-server", or name it in ETCD.\n`)
  process.exit(1)
}

export default defineConfig({
  resolve: { alias: { backdoors: join(import.meta.dirname, 'src', 'index.ts') } },
  test: {
    include: ['src/**/*.etcd.test.ts'],
    pool: 'forks',
    // An etcd for each test takes its time; nothing is ever tried twice.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
  },
})
