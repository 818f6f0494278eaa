/** `rig test`: the hardware tests on soft-RoCE, first in one guest by itself, then from guest to guest. */

import { fileURLToPath } from 'node:url';
import { ExitCode } from './errors.js';
import type { Guest } from './guest.js';
import type { Machines } from './machines.js';

/** The project's folder, as host and guests both see it: this file runs as `dist/ci/hwtests.js`. */
const projectPath = fileURLToPath(new URL('../..', import.meta.url));

/**
 * vitest by its own file, without npx before it; one process for all test files, because starting a worker for each costs
 * five seconds under emulation.
 */
const vitest = [
  process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--config', 'hwtests/vitest.config.ts',
  '--pool=forks', '--no-isolate', '--no-file-parallelism',
]; // prettier-ignore

/** The other end of the two-host tests. Prints a line that starts with `ready` when it can be connected to. */
const peerProgram = [process.execPath, 'dist/hwtests/peer.js'];

const testTimeoutMs = 600_000;

/** Returns the exit code of the whole: tests that fail are no error of the rig's. */
export async function runHwtests(machines: Machines, log: (line: string) => void): Promise<number> {
  const [local, remote] = await machines.boot(['local', 'remote'], { memoryMiB: 768 });
  log('hwtests, loopback');
  const loopbackPassed = await passes(local, {});
  log(`hwtests, loopback: ${loopbackPassed ? 'passed' : 'FAILED'}`);
  const peer = await remote.spawn(peerProgram, { cwd: projectPath });
  await peer.waitForLine(/^ready/);
  log('hwtests, guest to guest');
  const remotePassed = await passes(local, { BACKDOORS_PEER: remote.ip });
  log(`hwtests, guest to guest: ${remotePassed ? 'passed' : 'FAILED'}`);
  peer.kill();
  return loopbackPassed && remotePassed ? ExitCode.ok : ExitCode.failed;
}

/** Shows the tests' output as it comes. Hardware is required: no device, or a skipped test, is a failure. */
async function passes(guest: Guest, env: Record<string, string>): Promise<boolean> {
  const run = await guest.spawn(vitest, {
    cwd: projectPath,
    env: { HWTESTS: 'required', BACKDOORS_DEVICE: 'rxe0', CI: '1', ...env },
  });
  run.on('output', (bytes) => process.stdout.write(bytes));
  run.endInput();
  return (await run.result(testTimeoutMs)).code === 0;
}
