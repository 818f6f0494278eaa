/** `inspect NODE panic`: why, where, in which task, and what the kernel said of it. */
import type { KernelImage } from '../../kernel/kernel-image.js'
import { readPanic, type Panic } from '../../kernel/views/panic.js'
import { printable } from './text.js'
import type { Answer } from './view.js'

export async function inspectPanic(image: KernelImage): Promise<Answer> {
  const { faults, ...panic } = await readPanic(image)
  const oops = panic.oops.length === 0 ? [] : ['', ...panic.oops]
  return { lines: () => [...summaryOf(panic), ...oops].map(printable), fields: () => panic, faults, isEmpty: false }
}

function summaryOf({ panicCpu, reason, task, onlineCpus, stoppedCpus, isPanicked }: Omit<Panic, 'faults'>): string[] {
  if (panicCpu === undefined) return [`no panic: panic_cpu is not set; CPUs that are online: ${list(onlineCpus)}`]
  const others = onlineCpus.filter((cpu) => cpu !== panicCpu)
  return [
    `panic on CPU ${panicCpu}: ${reason ?? 'the log does not say why'}`,
    `it ran ${task ? `${task.comm} (PID ${task.pid})` : 'a task that cannot be read'}`,
    `CPUs that were stopped: ${list(stoppedCpus)}; others that are online: ${list(others)}${isPanicked ? '' : ' (a panic has begun, and not stopped them yet)'}`,
  ]
}

const list = (cpus: readonly number[]): string => cpus.join(', ') || 'none'
