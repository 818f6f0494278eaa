/**
 * Hangs a guest's kernel as a bug would: every processor spins in the kernel with its interrupts off. Nothing offers that to
 * a healthy kernel, so a system call that nobody uses gets another body, by the guest's RAM file.
 */

import { openSync, closeSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { KernelImage } from '../src/kernel/kernel-image.js'
import { openRamFile } from '../src/kernel/ram-file.js'
import { RigError } from './errors.js'
import type { Guest } from './guest.js'

/** `acct(2)`: process accounting, which no guest switches on, so that the emulator has not translated it yet. */
const victim = { symbol: '__x64_sys_acct', number: 163 } as const
/** `cli; 1: jmp 1b`. */
const spinWithInterruptsOff = Uint8Array.from([0xfa, 0xeb, 0xfe])
/** Both processors have to be on their way before either stops. In seconds. */
const rendezvousS = 2

/** How often it is looked whether the kernel's clock still moves, and for how long it must not. In milliseconds. */
const lookEveryMs = 50
const stillForMs = 2_500
const patienceMs = 30_000

/** @returns when the guest's kernel was last seen to move, as `performance.now()` tells time */
export async function hangKernel(guest: Guest, ramPath: string, cpus: number): Promise<number> {
  const ram = await openRamFile(ramPath)
  try {
    const image = await KernelImage.learn({ physical: ram })
    const [translated] = await image.memory.translate([image.addressOf(victim.symbol)])
    if (translated === undefined || 'missing' in translated) throw new RigError(`${victim.symbol} is not mapped in the guest`)
    overwrite(ramPath, translated.physical, spinWithInterruptsOff)
    await spin(guest, cpus)
    const stoppedMs = await lastMove(image)
    await guest.yieldToOthers()
    return stoppedMs
  } finally {
    await ram.close()
  }
}

function overwrite(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, 'r+')
  try {
    writeSync(file, bytes, 0, bytes.length, offset)
  } finally {
    closeSync(file)
  }
}

async function spin(guest: Guest, cpus: number): Promise<void> {
  const call = (cpu: number) => `taskset -c ${cpu} perl -e '$at = ${rendezvousS} + $ARGV[0]; select(undef, undef, undef, $at - time()); syscall(${victim.number}, 0)' "$now"`
  await guest.spawn(`now=$(date +%s); ${Array.from({ length: cpus }, (_, cpu) => `${call(cpu)} &`).join(' ')} wait`)
}

async function lastMove(image: KernelImage): Promise<number> {
  const startedMs = performance.now()
  let movedMs = startedMs
  let before = await image.variable('jiffies_64')
  while (performance.now() - movedMs < stillForMs) {
    if (performance.now() - startedMs > patienceMs) throw new RigError(`the guest's kernel still moves after ${patienceMs} ms`)
    await sleep(lookEveryMs)
    const jiffies = await image.variable('jiffies_64')
    if (jiffies !== before) movedMs = performance.now()
    before = jiffies
  }
  return movedMs
}
