/**
 * What works with programs as Debian has them, apart from the unit tests: membership by a real etcd (`etcd-server`), a real fence
 * agent (`fence-agents`), and a real Redis (`redis-server`), as it is beside our session store and with our module in it:
 *
 *     npm run test:debian             with `etcd`, `fence_dummy` and `redis-server` in the path
 *     ETCD=/path/to/etcd npm run test:debian
 *
 * Without one of them this is a failure, and nothing is skipped.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

const needed = [
  { program: process.env['ETCD'] ?? 'etcd', args: ['--version'], debian: 'etcd-server' },
  { program: 'fence_dummy', args: ['-o', 'metadata'], debian: 'fence-agents' },
  { program: 'redis-server', args: ['--version'], debian: 'redis-server' },
]
// Fence agents are programs of the administrator's.
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
for (const { program, args, debian } of needed) {
  if (spawnSync(program, args, { env: { ...process.env, PATH } }).status === 0) continue
  process.stderr.write(`"${program} ${args.join(' ')}" fails. Run "apt-get install --no-install-recommends ${debian}"; an etcd elsewhere can be named in ETCD.\n`)
  process.exit(1)
}

export default defineConfig({
  resolve: { alias: { backdoors: join(import.meta.dirname, 'src', 'index.ts') } },
  test: {
    include: ['src/**/*.debian.test.ts', 'examples/**/*.debian.test.ts'],
    pool: 'forks',
    // An etcd for each test takes its time; nothing is ever tried twice.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
  },
})
