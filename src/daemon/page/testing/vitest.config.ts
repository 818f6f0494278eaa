/** The daemon's page in a real browser, and its metrics by Prometheus's own tool: needs Debian's `chromium` and `prometheus`. */
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  root: join(import.meta.dirname, '..', '..', '..', '..'),
  test: {
    include: ['src/**/*.browser.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
  },
})
