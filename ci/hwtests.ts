/** `rig test`: the hardware tests on soft-RoCE, first in one guest by itself, then from guest to guest. */

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ExitCode, RigError } from './errors.js'
import type { Guest } from './guest.js'
import type { Machines } from './machines.js'

/** The project's folder, as host and guests both see it: this file runs as `dist/ci/hwtests.js`. */
const projectPath = fileURLToPath(new URL('../..', import.meta.url))

/**
 * vitest by its own file, without npx before it; one process for all test files, because starting a worker for each costs
 * five seconds under emulation.
 */
const vitest = [
  process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--config', 'hwtests/vitest.config.ts',
  '--pool=forks', '--no-isolate', '--no-file-parallelism',
]

/** The other end of the two-host tests. Prints a line that starts with `ready` when it can be connected to. */
const peerProgram = [process.execPath, 'dist/hwtests/peer.js']

const testTimeoutMs = 600_000

/**
 * The loopback tests with an addon that AddressSanitizer and UndefinedBehaviorSanitizer watch: the first report ends the
 * process, and so fails the tests. Leaks are not looked for, as Node keeps much until it exits.
 */
export async function runSanitizedHwtests(machines: Machines, log: (line: string) => void): Promise<number> {
  // As `npm run test:sanitize` builds it.
  const folder = join('.cache', 'addon-address')
  log('building the addon with sanitizers')
  const build = spawnSync(process.execPath, ['addon/build.mjs', '--strict', '--sanitize=address,undefined', `--folder=${folder}`], { cwd: projectPath, encoding: 'utf8' })
  if (build.status !== 0) throw new RigError(`the addon could not be built with sanitizers:\n${build.stderr}`)
  const [guest] = await machines.boot(['sanitized'], { memoryMiB: 1536 })
  log('hwtests, loopback, sanitized')
  const passed = await passes(guest, {
    BACKDOORS_ADDON_DIR: join(projectPath, folder, 'build', 'Release'),
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(libraryPath).join(':'),
    ASAN_OPTIONS: 'detect_leaks=0:exitcode=66:detect_stack_use_after_return=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1:exitcode=66',
  })
  log(`hwtests, loopback, sanitized: ${passed ? 'passed' : 'FAILED'}`)
  return passed ? ExitCode.ok : ExitCode.failed
}

function libraryPath(name: string): string {
  const path = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim() ?? ''
  if (path.startsWith('/')) return path
  throw new RigError(`there is no ${name}: apt-get install gcc`)
}

/** Returns the exit code of the whole: tests that fail are no error of the rig's. */
export async function runHwtests(machines: Machines, log: (line: string) => void): Promise<number> {
  const [local, remote] = await machines.boot(['local', 'remote'], { memoryMiB: 768 })
  log('hwtests, loopback')
  const loopbackPassed = await passes(local, {})
  log(`hwtests, loopback: ${loopbackPassed ? 'passed' : 'FAILED'}`)
  const peer = await remote.spawn(peerProgram, { cwd: projectPath })
  await peer.waitForLine(/^ready/)
  log('hwtests, guest to guest')
  const remotePassed = await passes(local, { BACKDOORS_PEER: remote.ip })
  log(`hwtests, guest to guest: ${remotePassed ? 'passed' : 'FAILED'}`)
  peer.kill()
  return loopbackPassed && remotePassed ? ExitCode.ok : ExitCode.failed
}

/** Shows the tests' output as it comes. Hardware is required: no device, or a skipped test, is a failure. */
async function passes(guest: Guest, env: Record<string, string>): Promise<boolean> {
  const run = await guest.spawn(vitest, {
    cwd: projectPath,
    env: { HWTESTS: 'required', BACKDOORS_DEVICE: 'rxe0', CI: '1', ...env },
  })
  run.on('output', (bytes) => process.stdout.write(bytes))
  run.endInput()
  return (await run.result(testTimeoutMs)).code === 0
}
