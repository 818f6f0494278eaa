/** Panics a guest's kernel, and sees in its RAM file when it does. */

import { setTimeout as sleep } from 'node:timers/promises'
import { KernelImage } from '../src/kernel/kernel-image.js'
import { openRamFile } from '../src/kernel/ram-file.js'
import { readPanicState } from '../src/kernel/views/panic-state.js'
import { messageOf, RigError } from './errors.js'
import type { Guest } from './guest.js'

const lookEveryMs = 2
const patienceMs = 30_000

/** The kernel panics in the shell that runs it. */
export const panicCommand = 'echo c > /proc/sysrq-trigger'

/** As `performance.now()` tells time. */
export interface PanicTimes {
  /** When `panic_cpu` was set. */
  readonly panickedMs: number
  /** When its other CPUs were seen stopped: until then the kernel prints its last words, and may run on. */
  readonly stoppedMs: number
}

/** The guest needs a while to start a shell, which is no time that anybody could see a panic in. */
export async function panicKernel(guest: Guest, ramPath: string): Promise<PanicTimes> {
  const ram = await openRamFile(ramPath)
  try {
    const image = await KernelImage.learn({ physical: ram })
    // The shell dies with its machine, and the machine may before it has said that the shell runs: neither is waited for.
    let refusal = ''
    guest.spawn(panicCommand).catch((error: unknown) => (refusal = `: ${messageOf(error)}`))
    const deadlineMs = performance.now() + patienceMs
    let panickedMs: number | undefined
    for (;;) {
      const { panicCpu, isPanicked } = await readPanicState(image)
      if (panicCpu !== undefined) panickedMs ??= performance.now()
      if (isPanicked) return { panickedMs: panickedMs ?? performance.now(), stoppedMs: performance.now() }
      if (performance.now() > deadlineMs) throw new RigError(`the guest's kernel has not panicked within ${patienceMs} ms${refusal}`)
      await sleep(lookEveryMs)
    }
  } finally {
    await ram.close()
  }
}
