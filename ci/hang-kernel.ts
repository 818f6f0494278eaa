/**
 * Hangs a guest's kernel as a bug would: every processor spins in the kernel with its interrupts off. Nothing offers that to
 * a healthy kernel, so a system call that nobody uses gets another body, by the guest's RAM file.
 */

import { openSync, closeSync, writeSync } from 'node:fs';
import { KernelImage } from '../src/kernel/kernel-image.js';
import { openRamFile } from '../src/kernel/ram-file.js';
import { RigError } from './errors.js';
import type { Guest } from './guest.js';

/** `acct(2)`: process accounting, which no guest switches on, so that the emulator has not translated it yet. */
const victim = { symbol: '__x64_sys_acct', number: 163 } as const;
/** `cli; 1: jmp 1b`. */
const spinWithInterruptsOff = Uint8Array.from([0xfa, 0xeb, 0xfe]);
/** Both processors have to be on their way before either stops. In seconds. */
const rendezvousS = 2;

/** Returns when the hang is prepared and under way; the guest answers nothing soon after. */
export async function hangKernel(guest: Guest, ramPath: string, cpus: number): Promise<void> {
  const ram = await openRamFile(ramPath);
  const image = await KernelImage.learn({ physical: ram });
  const [translated] = await image.memory.translate([image.addressOf(victim.symbol)]);
  await ram.close();
  if (translated === undefined || 'missing' in translated) throw new RigError(`${victim.symbol} is not mapped in the guest`);
  const file = openSync(ramPath, 'r+');
  try {
    writeSync(file, spinWithInterruptsOff, 0, spinWithInterruptsOff.length, translated.physical);
  } finally {
    closeSync(file);
  }
  const call = (cpu: number) => `taskset -c ${cpu} perl -e '$at = ${rendezvousS} + $ARGV[0]; select(undef, undef, undef, $at - time()); syscall(${victim.number}, 0)' "$now"`;
  await guest.spawn(`now=$(date +%s); ${Array.from({ length: cpus }, (_, cpu) => `${call(cpu)} &`).join(' ')} wait`);
}
