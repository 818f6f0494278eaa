/** Panics a guest's kernel, and sees in its RAM file when it does. */

import { setTimeout as sleep } from 'node:timers/promises';
import { KernelImage } from '../src/kernel/kernel-image.js';
import { openRamFile } from '../src/kernel/ram-file.js';
import { RigError } from './errors.js';
import type { Guest } from './guest.js';

const lookEveryMs = 2;
const patienceMs = 30_000;

/**
 * The guest needs a while to start a shell, which is no time that anybody could see a panic in.
 * @returns when `panic_cpu` was set, as `performance.now()` tells time
 */
export async function panicKernel(guest: Guest, ramPath: string): Promise<number> {
  const ram = await openRamFile(ramPath);
  try {
    const image = await KernelImage.learn({ physical: ram });
    const nobody = await image.variable('panic_cpu', 4);
    // The shell dies with its machine: there is no end of it to wait for.
    await guest.spawn('echo c > /proc/sysrq-trigger');
    const deadlineMs = performance.now() + patienceMs;
    while ((await image.variable('panic_cpu', 4)) === nobody) {
      if (performance.now() > deadlineMs) throw new RigError(`the guest's kernel has not panicked within ${patienceMs} ms`);
      await sleep(lookEveryMs);
    }
    return performance.now();
  } finally {
    await ram.close();
  }
}
