#!/usr/bin/env node
/**
 * Builds the addon with sanitizers, and runs the tests of its target *memory* under them. Any report fails.
 *
 *     node addon/test/sanitize.mjs [address | thread] [-- arguments of vitest]
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')
const require = createRequire(import.meta.url)
const tests = ['src/native', 'src/fabric/shm']

/**
 * Node itself is not instrumented, so its runtime library has to be loaded before it.
 * - Leaks are not looked for here: each stack ends in Node, which keeps much until it exits. lifetime.test.ts
 *   counts what is given back.
 * - What Node's own modules do to memory that the sanitizer cannot follow is not judged.
 */
const sanitizers = {
  address: {
    flags: 'address,undefined',
    // The hardware tests run with this build as well.
    targets: [],
    libraries: ['libasan.so', 'libubsan.so'],
    environment: (log) => ({
      ASAN_OPTIONS: `detect_leaks=0:abort_on_error=0:exitcode=66:log_path=${log}:detect_stack_use_after_return=1`,
      UBSAN_OPTIONS: `print_stacktrace=1:halt_on_error=1:exitcode=66:log_path=${log}`,
    }),
    launcher: [],
  },
  thread: {
    flags: 'thread',
    targets: ['--without-verbs'],
    libraries: ['libtsan.so'],
    environment: (log) => ({
      TSAN_OPTIONS: `ignore_noninstrumented_modules=1:halt_on_error=0:exitcode=66:second_deadlock_stack=1:log_path=${log}`,
    }),
    // Its shadow memory has fixed addresses, which a kernel that randomizes by 32 bits gives to others.
    launcher: ['setarch', '--addr-no-randomize'],
  },
}

function library(name) {
  const { stdout } = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' })
  const path = stdout?.trim() ?? ''
  if (path.startsWith('/') && existsSync(path)) return path
  process.stderr.write(`There is no ${name}: install gcc with its sanitizers (apt-get install gcc).\n`)
  process.exit(1)
}

function run(command, args, environment = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...environment } })
  if (status === null) process.stdout.write(`${command} ended with ${signal ?? String(error)}\n`)
  return status ?? 1
}

/** Whether all tests passed, and nothing was reported. */
function sanitize(name, vitestArguments) {
  const { flags, targets, libraries, environment, launcher } = sanitizers[name]
  const folder = join('.cache', `addon-${name}`)
  const logs = join(root, folder, 'reports')
  if (run(process.execPath, [join(root, 'addon', 'build.mjs'), '--strict', ...targets, `--sanitize=${flags}`, `--folder=${folder}`]) !== 0) return false
  rmSync(logs, { recursive: true, force: true })
  mkdirSync(logs)
  const vitest = join(dirname(require.resolve('vitest/package.json')), 'vitest.mjs')
  const [command, ...args] = [...launcher, process.execPath, vitest, 'run', '--no-file-parallelism', '--test-timeout=300000', ...tests, ...vitestArguments]
  process.stdout.write(`\n== ${flags} sanitizer\n`)
  const status = run(command, args, {
    ...environment(join(logs, 'report')),
    LD_PRELOAD: libraries.map(library).join(':'),
    BACKDOORS_ADDON_DIR: join(root, folder, 'build', 'Release'),
    BACKDOORS_SANITIZER: name,
  })
  const reports = readdirSync(logs)
  for (const report of reports) process.stdout.write(`\n== ${report}\n${readFileSync(join(logs, report), 'utf8')}`)
  process.stdout.write(`== ${flags}: tests ${status === 0 ? 'passed' : 'failed'}, ${String(reports.length)} reports\n`)
  return status === 0 && reports.length === 0
}

const separator = process.argv.indexOf('--')
const named = process.argv.slice(2, separator < 0 ? undefined : separator)
const names = named.length === 0 ? Object.keys(sanitizers) : named
const unknown = names.filter((name) => !(name in sanitizers))
if (unknown.length > 0) {
  process.stderr.write(`There is no sanitizer ${unknown.join(', ')}; choose from ${Object.keys(sanitizers).join(', ')}.\n`)
  process.exit(1)
}
const outcomes = names.map((name) => sanitize(name, separator < 0 ? [] : process.argv.slice(separator + 1)))
process.exit(outcomes.every(Boolean) ? 0 : 1)
