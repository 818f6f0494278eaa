#!/usr/bin/env node
/** `npm run rig -- …`: tests and whole-failure scenarios on real verbs, in guests. See `--help`. */

import { Command, InvalidArgumentError, Option } from 'commander';
import type { AcceleratorChoice } from './accelerator.js';
import { DeadlineError, ExitCode, InterruptedError, messageOf, RigError, UsageError } from './errors.js';
import { runHwtests, runSanitizedHwtests } from './hwtests.js';
import { withMachines, type Machines } from './machines.js';
import type { ScenarioResult } from './scenario.js';
import { scenarios } from './scenarios/index.js';
import { playInGuest } from './shell.js';

interface CommonOptions {
  readonly accel: AcceleratorChoice;
  readonly deadlineS: number;
}

/** Kept back of the deadline for ending the guests, which takes well under a second. */
const cleanUpReserveMs = 2_000;

const startedAt = performance.now();

function log(line: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`${seconds} s  ${line}\n`);
}

/** Runs `body` on machines that end at its end, at the deadline, and on SIGINT and SIGTERM. */
async function bounded<T>({ accel, deadlineS }: CommonOptions, body: (machines: Machines) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const deadline = setTimeout(
    () => {
      controller.abort(new DeadlineError(`not finished within ${deadlineS} s`));
    },
    Math.max(deadlineS * 1000 - cleanUpReserveMs, deadlineS * 500),
  );
  // Should even cleaning up hang: QEMU dies with this process.
  setTimeout(() => process.exit(ExitCode.deadline), deadlineS * 1000).unref();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      controller.abort(new InterruptedError(signal));
    });
  }
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      controller.abort(error instanceof Error ? error : new Error(messageOf(error)));
    });
  }
  try {
    return await withMachines({ accelerator: accel, signal: controller.signal, log }, body);
  } finally {
    clearTimeout(deadline);
  }
}

async function runScenario(name: string, options: CommonOptions & { json?: boolean; trials: number }): Promise<number> {
  const scenario = scenarios.find((candidate) => candidate.name === name);
  if (scenario === undefined) throw new UsageError(`no scenario ${name}; there are: ${scenarios.map((each) => each.name).join(', ')}`);
  let accelerator: string = options.accel;
  let result: ScenarioResult;
  let exitCode: number;
  try {
    result = await bounded(options, (machines) => {
      accelerator = machines.accelerator;
      const { network, runPath } = machines;
      return scenario.run({ boot: machines.boot.bind(machines), ramFile: machines.ramFile.bind(machines), network, runPath, trials: options.trials, log });
    });
    exitCode = result.ok ? ExitCode.ok : ExitCode.failed;
  } catch (error) {
    result = { ok: false, error: { kind: error instanceof Error ? error.name : 'Error', message: messageOf(error) } };
    exitCode = exitCodeOf(error);
    log(messageOf(error));
  }
  const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
  const report = { scenario: name, accelerator, seconds, ...result };
  process.stdout.write(`${options.json === true ? JSON.stringify(report) : JSON.stringify(report, undefined, 2)}\n`);
  return exitCode;
}

function exitCodeOf(error: unknown): number {
  return error instanceof RigError ? error.exitCode : ExitCode.failed;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0');
  return value;
}

function whole(text: string): number {
  const value = positive(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError('expected a whole number');
  return value;
}

function withCommonOptions(command: Command, deadlineS: number): Command {
  return command
    .addOption(
      new Option('--accel <accelerator>', 'auto lets KVM boot a kernel first and emulates where it does not')
        .choices(['auto', 'tcg', 'kvm'])
        .default('tcg')
        .env('BACKDOORS_ACCEL'),
    )
    .option('--deadline-s <seconds>', 'never run longer than this', positive, deadlineS);
}

function buildProgram(setExitCode: (code: number) => void): Command {
  const program = new Command('rig')
    .description('Boots Debian kernels with soft-RoCE under QEMU and runs tests and failures on them.')
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 failed, 2 wrong usage, 3 a guest did not boot (or the rig lacks something), 4 deadline passed.',
    )
    .exitOverride();
  withCommonOptions(program.command('test'), 900)
    .description('run hwtests in guests: loopback in one, then from guest to guest')
    .option('--sanitize', 'the loopback tests with AddressSanitizer and UndefinedBehaviorSanitizer in the addon')
    .action(async (options: CommonOptions & { sanitize?: boolean }) => {
      setExitCode(await bounded(options, (machines) => (options.sanitize ? runSanitizedHwtests : runHwtests)(machines, log)));
    });
  withCommonOptions(program.command('run').argument('<scenario>', 'one of `rig list`'), 600)
    .description('run one scenario; the last line on standard output is its result as JSON')
    .option('--json', 'the result on one line, for machines')
    .option('--trials <count>', 'how often to repeat what is measured', whole, 1)
    .action(async (name: string, options: CommonOptions & { json?: boolean; trials: number }) => {
      setExitCode(await runScenario(name, options));
    });
  program
    .command('list')
    .description('list the scenarios')
    .option('--json', 'as a JSON array')
    .action(({ json }: { json?: boolean }) => {
      const rows = scenarios.map(({ name, summary }) => ({ name, summary }));
      const text = json === true ? JSON.stringify(rows) : rows.map((row) => `${row.name.padEnd(14)} ${row.summary}`).join('\n');
      process.stdout.write(`${text}\n`);
    });
  withCommonOptions(program.command('shell'), 8 * 3600)
    .description('boot guests and open a shell in the first one')
    .option('--guests <count>', 'how many', whole, 1)
    .action(async (options: CommonOptions & { guests: number }) => {
      setExitCode(await bounded(options, (machines) => playInGuest(machines, options.guests)));
    });
  return program;
}

async function main(): Promise<number> {
  let exitCode: number = ExitCode.ok;
  try {
    await buildProgram((code) => (exitCode = code)).parseAsync();
  } catch (error) {
    if (error instanceof Error && 'exitCode' in error && error.name === 'CommanderError') {
      return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    }
    log(error instanceof RigError ? error.message : String(error instanceof Error ? error.stack : error));
    return exitCodeOf(error);
  }
  return exitCode;
}

// What an abandoned body still waits for must not keep the process alive.
process.exit(await main());
