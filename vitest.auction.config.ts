/**
 * The auction example on a real PostgreSQL (Debian: `postgresql`), apart from the unit tests:
 *
 *     npm run test:auction                        with Debian's newest
 *     POSTGRES=/path/to/bin npm run test:auction
 *
 * Without a PostgreSQL this is a failure, and nothing is skipped.
 */
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: { alias: { backdoors: join(import.meta.dirname, 'src', 'index.ts') } },
  test: {
    include: ['examples/**/*.postgres.test.ts'],
    pool: 'forks',
    // Each starts databases and whole sites: one after the other.
    maxWorkers: 1,
    testTimeout: 240_000,
    hookTimeout: 120_000,
    retry: 0,
  },
})
