#!/usr/bin/env node
/** `npm run rig -- …`: tests and whole-failure scenarios on real verbs, in guests. See `--help`. */

import { Command, InvalidArgumentError, Option } from 'commander'
import type { AcceleratorChoice } from './accelerator.js'
import { DeadlineError, ExitCode, InterruptedError, messageOf, RigError, UsageError } from './errors.js'
import { bundleGuestPrograms } from './guest-programs.js'
import { runHwtests, runSanitizedHwtests } from './hwtests.js'
import { withMachines, type Machines } from './machines.js'
import type { Scenario, ScenarioContext, ScenarioResult } from './scenario.js'
import { scenarios } from './scenarios/index.js'
import { playInGuest } from './shell.js'

interface CommonOptions {
  readonly accel: AcceleratorChoice
  readonly deadlineS: number
}

/** Kept back of the deadline for ending the guests, which takes well under a second. */
const cleanUpReserveMs = 2_000

const startedAt = performance.now()

function log(line: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)
  process.stderr.write(`${seconds} s  ${line}\n`)
}

/** Runs `body` on machines that end at its end, at the deadline, and on SIGINT and SIGTERM. */
async function bounded<T>({ accel, deadlineS }: CommonOptions, body: (machines: Machines, signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const deadline = setTimeout(
    () => {
      controller.abort(new DeadlineError(`not finished within ${deadlineS} s`))
    },
    Math.max(deadlineS * 1000 - cleanUpReserveMs, deadlineS * 500),
  )
  // Should even cleaning up hang: QEMU dies with this process.
  const end = setTimeout(() => process.exit(ExitCode.deadline), deadlineS * 1000).unref()
  const [signals, failures] = [['SIGINT', 'SIGTERM'] as const, ['uncaughtException', 'unhandledRejection'] as const]
  const interrupt = (signal: (typeof signals)[number]): void => {
    controller.abort(new InterruptedError(signal))
  }
  const fail = (error: unknown): void => {
    controller.abort(error instanceof Error ? error : new Error(messageOf(error)))
  }
  for (const signal of signals) process.on(signal, interrupt)
  for (const event of failures) process.on(event, fail)
  try {
    return await withMachines({ accelerator: accel, signal: controller.signal, log }, (machines) => body(machines, controller.signal))
  } finally {
    for (const timer of [deadline, end]) clearTimeout(timer)
    for (const signal of signals) process.off(signal, interrupt)
    for (const event of failures) process.off(event, fail)
  }
}

interface RunOptions extends CommonOptions {
  readonly json?: boolean
  readonly trials?: number
  readonly plot?: string
}

interface Outcome {
  readonly result: ScenarioResult
  readonly exitCode: number
}

const failure = (error: unknown): Outcome => ({
  result: { ok: false, error: { kind: error instanceof Error ? error.name : 'Error', message: messageOf(error) } },
  exitCode: exitCodeOf(error),
})

async function runOn(machines: Machines, scenario: Scenario, shared: ScenarioContext['shared'], { trials = scenario.defaultTrials ?? 1, plot }: Pick<RunOptions, 'trials' | 'plot'>): Promise<Outcome> {
  const { network, runPath } = machines
  try {
    const result = await scenario.run({ boot: machines.boot.bind(machines), ramFile: machines.ramFile.bind(machines), network, runPath, trials, ...(plot === undefined ? {} : { plotPath: plot }), log, shared })
    return { result, exitCode: result.ok ? ExitCode.ok : ExitCode.failed }
  } catch (error) {
    return failure(error)
  }
}

/**
 * Runs scenarios one after another. Neighbours that name the same machines share them, as long as all goes well: behind one that
 * failed, the next begins on new ones. Where there are no machines, or the time is over, nothing more is run.
 * @returns the first exit code that is not 0
 */
async function runScenarios(names: readonly string[], options: RunOptions): Promise<number> {
  const left = names.map(scenarioOf)
  await bundleGuestPrograms()
  const exitCodes: number[] = []
  let beganAt = startedAt
  let accelerator: string = options.accel
  const tell = (scenario: Scenario, { result, exitCode }: Outcome): void => {
    exitCodes.push(exitCode)
    const seconds = Math.round((performance.now() - beganAt) / 100) / 10
    beganAt = performance.now()
    const report = { scenario: scenario.name, accelerator, seconds, ...result }
    process.stdout.write(`${options.json === true ? JSON.stringify(report) : JSON.stringify(report, undefined, 2)}\n`)
    if (!result.ok && 'error' in result) log((result['error'] as { message: string }).message)
  }
  while (left.length > 0) {
    const { machines: wanted } = left[0] as Scenario
    const neighbours = wanted === undefined ? 1 : left.findIndex(({ machines }) => machines !== wanted)
    const deadlineS = options.deadlineS * (neighbours < 0 ? left.length : neighbours)
    try {
      await bounded({ ...options, deadlineS }, async (machines, signal) => {
        ({ accelerator } = machines)
        const shared = sharedOn()
        let outcome: Outcome
        do {
          outcome = await runOn(machines, left[0] as Scenario, shared, options)
          if (signal.aborted) return
          tell(left.shift() as Scenario, outcome)
        } while (outcome.result.ok && wanted !== undefined && left[0]?.machines === wanted)
      })
    } catch (error) {
      tell(left[0] as Scenario, failure(error))
      break
    }
  }
  return exitCodes.find((code) => code !== ExitCode.ok) ?? ExitCode.ok
}

function scenarioOf(name: string): Scenario {
  const scenario = scenarios.find((candidate) => candidate.name === name)
  if (scenario === undefined) throw new UsageError(`no scenario ${name}; there are: ${scenarios.map((each) => each.name).join(', ')}`)
  return scenario
}

/** What scenarios on the same machines make once. */
function sharedOn(): ScenarioContext['shared'] {
  const made = new Map<string, Promise<unknown>>()
  return <T>(name: string, make: () => Promise<T>): Promise<T> => {
    const known = (made.get(name) as Promise<T> | undefined) ?? make()
    made.set(name, known)
    return known
  }
}

function exitCodeOf(error: unknown): number {
  return error instanceof RigError ? error.exitCode : ExitCode.failed
}

function positive(text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0')
  return value
}

function whole(text: string): number {
  const value = positive(text)
  if (!Number.isInteger(value)) throw new InvalidArgumentError('expected a whole number')
  return value
}

function withCommonOptions(command: Command, deadlineS: number): Command {
  return command
    .addOption(
      new Option('--accel <accelerator>', 'auto lets KVM boot a kernel first and emulates where it does not')
        .choices(['auto', 'tcg', 'kvm'])
        .default('tcg')
        .env('BACKDOORS_ACCEL'),
    )
    .option('--deadline-s <seconds>', 'never run longer than this, each', positive, deadlineS)
}

function buildProgram(setExitCode: (code: number) => void): Command {
  const program = new Command('rig')
    .description('Boots Debian kernels with soft-RoCE under QEMU and runs tests and failures on them.')
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 failed, 2 wrong usage, 3 a guest did not boot (or the rig lacks something), 4 deadline passed.',
    )
    .exitOverride()
  withCommonOptions(program.command('test'), 900)
    .description('run hwtests in guests: loopback in one, then from guest to guest')
    .option('--sanitize', 'the loopback tests with AddressSanitizer and UndefinedBehaviorSanitizer in the addon')
    .action(async (options: CommonOptions & { sanitize?: boolean }) => {
      setExitCode(await bounded(options, (machines) => (options.sanitize ? runSanitizedHwtests : runHwtests)(machines, log)))
    })
  withCommonOptions(program.command('run').argument('<scenarios...>', 'of `rig list`'), 600)
    .description('run scenarios, one after another; each prints its result on standard output, as JSON')
    .option('--json', 'a result on one line, for machines')
    .option('--trials <count>', 'how often to repeat what is measured; each scenario has a default of its own', whole)
    .option('--plot <file>', 'draw the last trial as an SVG picture (tcp-takeover)')
    .action(async (names: string[], options: RunOptions) => {
      setExitCode(await runScenarios(names, options))
    })
  program
    .command('list')
    .description('list the scenarios')
    .option('--json', 'as a JSON array')
    .action(({ json }: { json?: boolean }) => {
      const rows = scenarios.map(({ name, summary }) => ({ name, summary }))
      const text = json === true ? JSON.stringify(rows) : rows.map((row) => `${row.name.padEnd(14)} ${row.summary}`).join('\n')
      process.stdout.write(`${text}\n`)
    })
  withCommonOptions(program.command('shell'), 8 * 3600)
    .description('boot guests and open a shell in the first one')
    .option('--guests <count>', 'how many', whole, 1)
    .action(async (options: CommonOptions & { guests: number }) => {
      setExitCode(await bounded(options, (machines) => playInGuest(machines, options.guests)))
    })
  return program
}

async function main(): Promise<number> {
  let exitCode: number = ExitCode.ok
  try {
    await buildProgram((code) => (exitCode = code)).parseAsync()
  } catch (error) {
    if (error instanceof Error && 'exitCode' in error && error.name === 'CommanderError') {
      return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage
    }
    log(error instanceof RigError ? error.message : String(error instanceof Error ? error.stack : error))
    return exitCodeOf(error)
  }
  return exitCode
}

// What an abandoned body still waits for must not keep the process alive.
process.exit(await main())
