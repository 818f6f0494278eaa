/** `inspect NODE ps`: as `ps` prints it, with more on request. */
import { isBackdoorsError, type BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { attempt } from '../../kernel/walks.js'
import { unwindTasks, type KernelStack } from '../../kernel/views/stack.js'
import { readTasks, type Task } from '../../kernel/views/tasks.js'
import { columns, number, printable, word } from './text.js'
import { count, secondsOf, type Answer, type ViewOptions } from './view.js'

export async function inspectTasks(image: KernelImage, { threads = false, stacks = false }: ViewOptions): Promise<Answer> {
  const { tasks, faults: missing } = await readTasks(image, { threads })
  const faults = [...missing]
  const unwound = stacks ? await attempt(faults, () => unwindTasks(image, tasks)) : undefined
  for (const stack of unwound ?? []) if (isBackdoorsError(stack)) faults.push(stack)
  const lines = (): string[] => {
    const [head, ...rows] = columns(headOf(threads), tasks.map((task) => rowOf(task, threads)))
    return [head as string, ...rows.flatMap((row, i) => [row, ...stackLines(unwound?.[i])])]
  }
  return { lines, fields: () => ({ tasks: tasks.map((task, i) => fieldsOf(task, unwound?.[i])) }), faults, isEmpty: tasks.length === 0 }
}

/** Sizes are KiB, as of `ps`; START is seconds after the machine's. */
const headOf = (threads: boolean) =>
  [number('UID'), number('PID'), ...(threads ? [number('LWP')] : []), number('PPID'), word('STAT'), number('PSR'), number('NI'), number('VSZ'), number('RSS'), number('START'), word('COMMAND')]

function rowOf(task: Task, threads: boolean): (string | number | undefined)[] {
  const { uid, tgid, pid, ppid, cpu, nice, startTimeNs } = task
  const started = startTimeNs === undefined ? undefined : secondsOf(startTimeNs)
  return [uid, tgid, ...(threads ? [pid] : []), ppid, statOf(task), cpu, nice, kib(task.vszBytes), kib(task.rssBytes), started, commandOf(task)]
}

const kib = (bytes: number | undefined): number | undefined => (bytes === undefined ? undefined : Math.floor(bytes / 1024))

/** The state, and what `ps` says behind it: niceness, and whether there are more threads. */
const statOf = ({ state, nice, threads }: Task): string => `${state}${nice < 0 ? '<' : nice > 0 ? 'N' : ''}${(threads ?? 1) > 1 ? 'l' : ''}`

/** A zombie has no command line any more; `ps` marks it, and one that cannot be read is no kernel thread. */
const commandOf = ({ commandLine, name, state }: Task): string => (state === 'Z' ? `[${name}] <defunct>` : (commandLine ?? `${name} (its command line cannot be read)`))

function stackLines(stack: KernelStack | BackdoorsError | undefined): string[] {
  if (stack === undefined || isBackdoorsError(stack)) return []
  const frames = stack.frames.map(({ text }) => `    [<0>] ${text}`)
  return (stack.cutShort === undefined ? frames : [...frames, `    (no more: ${stack.cutShort})`]).map(printable)
}

function fieldsOf({ startTimeNs, ...task }: Task, stack: KernelStack | BackdoorsError | undefined): Record<string, unknown> {
  return { ...task, startTimeNs: count(startTimeNs), ...(stack === undefined || isBackdoorsError(stack) ? {} : { stack }) }
}
