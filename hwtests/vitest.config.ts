/**
 * Tests on a real verbs device; soft-RoCE counts.
 *
 *     npm run hwtests                          loopback on the first active device
 *     BACKDOORS_DEVICE=mlx5_0 npm run hwtests  on that one
 *     BACKDOORS_PEER=HOST npm run hwtests      against `node dist/hwtests/peer.js` on another host
 *     HWTESTS=required npm run hwtests         no device, or any skipped test, is a failure
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { HardwareReporter } from './hardware-reporter.js'

const root = join(import.meta.dirname, '..')
const addon = join(process.env['BACKDOORS_ADDON_DIR'] ?? join(root, 'build', 'Release'), 'memory.node')
if (!existsSync(addon)) {
  process.stderr.write(`The native addon is not built: there is no ${addon}.\nRun "npm ci", or "npm run build:addon".\n`)
  process.exit(1)
}

export default defineConfig({
  test: {
    root,
    include: [process.env['BACKDOORS_PEER'] === undefined ? 'hwtests/loopback/*.test.ts' : 'hwtests/peer/*.test.ts'],
    pool: 'forks',
    // One after another: latencies and time-outs are part of what is tested.
    fileParallelism: false,
    // Emulated machines are slow, and a test that hangs is wrong; nothing is ever tried twice.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
    reporters: ['default', new HardwareReporter(process.env['HWTESTS'] === 'required')],
  },
})
