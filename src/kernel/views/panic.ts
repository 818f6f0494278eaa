/** The last words of a kernel: why it panicked, on which CPU, and what it said of it. */
import type { KernelImage } from '../kernel-image.js'
import { Selection } from '../kernel-object.js'
import { attempt, type Faults } from '../walks.js'
import { linesOf, readLog, type LogEntry } from './log.js'
import { readPanicState, type PanicState } from './panic-state.js'

export interface PanicTask {
  readonly pid: number
  readonly comm: string
  /** Of its `struct task_struct`. */
  readonly address: bigint
}

export interface Panic extends PanicState {
  /** What stands behind `Kernel panic - not syncing: ` in the log; undefined where the log does not say it. */
  readonly reason: string | undefined
  /** The log from the fault on that led to the panic: oops, registers, call trace. Of a kernel that lives: its last oops. As `dmesg` prints it. */
  readonly oops: readonly string[]
  /** What ran on the panicking CPU. */
  readonly task: PanicTask | undefined
  readonly faults: Faults
}

const panicPrefix = 'Kernel panic - not syncing: '
/** Source: arch/x86/mm/fault.c, arch/x86/kernel/{dumpstack,traps}.c, arch/arm64/mm/fault.c, lib/bug.c, kernel/{watchdog,hung_task}.c, drivers/tty/sysrq.c */
const beginnings = [
  'BUG: ', 'Oops: ', 'kernel BUG at ', '------------[ cut here ]------------', 'general protection fault', 'Unable to handle kernel', 'Internal error: ',
  'invalid opcode: ', 'divide error: ', 'stack segment: ', 'double fault: ', 'watchdog: BUG: ', 'NMI watchdog: Watchdog detected', 'watchdog: Watchdog detected',
  'INFO: task ', 'Out of memory: ', 'sysrq: Trigger a crash', 'traps: PANIC',
]
const endPrefix = '---[ end trace '
/** A kernel that is telling of a fault does not pause for longer, even over a slow console. */
const longestPauseNs = 5_000_000_000n

/**
 * Reads what is known of a panic. What cannot be read of the log or the task is left out, and said in `faults`.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT where even `panic_cpu` and the masks of CPUs make no sense, and what reading throws
 */
export async function readPanic(image: KernelImage): Promise<Panic> {
  const state = await readPanicState(image)
  const faults: Faults = []
  const log = await attempt(faults, () => readLog(image))
  faults.push(...(log?.faults ?? []))
  const { panicCpu } = state
  const task = panicCpu === undefined ? undefined : await attempt(faults, () => taskOn(image, panicCpu))
  return { ...state, ...lastWords(log?.entries ?? [], panicCpu !== undefined), task, faults }
}

/** The panic's reason and the messages about it, out of a log. */
export function lastWords(entries: readonly LogEntry[], isPanicking: boolean): Pick<Panic, 'reason' | 'oops'> {
  // Programs write into the log, too, but never as the kernel (facility 0).
  const at = entries.findLastIndex(({ text, facility }) => facility === 0 && text.startsWith(panicPrefix))
  const reason = at < 0 ? undefined : entries[at]?.text.slice(panicPrefix.length).split('\n')[0]
  const begin = beginningOf(entries, at)
  if (begin < 0) return { reason, oops: [] }
  const end = isPanicking || at >= 0 ? -1 : entries.findIndex(({ text }, i) => i > begin && text.startsWith(endPrefix))
  return { reason, oops: entries.slice(begin, end < 0 ? undefined : end + 1).flatMap(linesOf) }
}

/** Where the kernel began to tell of the fault that led to the message at `panicAt`; without one (-1): of its last fault. */
function beginningOf(entries: readonly LogEntry[], panicAt: number): number {
  let begin = panicAt
  let ends = 0
  let following: LogEntry | undefined
  for (let i = panicAt < 0 ? entries.length - 1 : panicAt; i >= 0; i--) {
    const entry = entries[i] as LogEntry
    const isPause = following !== undefined && following.timeNs - entry.timeNs > longestPauseNs
    // The second end of a trace, seen from behind, is that of a fault before.
    if (begin >= 0 && (isPause || (entry.text.startsWith(endPrefix) && ++ends > 1))) break
    if (entry.facility === 0 && beginnings.some((beginning) => entry.text.startsWith(beginning))) begin = i
    following = entry
  }
  return begin
}

async function taskOn(image: KernelImage, cpu: number): Promise<PanicTask> {
  const [queue] = await image.perCpu('runqueues', [cpu])
  const address = (await image.readObject(new Selection(image.types, 'rq', ['curr']), queue as bigint)).pointer('curr')
  const task = await image.readObject(new Selection(image.types, 'task_struct', ['pid', 'comm']), address)
  return { pid: task.signedNumber('pid'), comm: task.text('comm'), address }
}
