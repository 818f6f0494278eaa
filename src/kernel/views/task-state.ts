/**
 * What a task is doing, in one letter, as `ps` and `/proc/PID/stat` say it.
 *
 * Source: `task_state_array` in fs/proc/array.c, and the states in include/linux/sched.h, of the Linux kernel since 4.14.
 */

/** R running or ready, S sleeping, D sleeping uninterruptibly, T stopped, t traced, X dead, Z zombie, P parked, I idle (a kernel thread that waits). */
export const taskStates = ['R', 'S', 'D', 'T', 't', 'X', 'Z', 'P', 'I'] as const
export type TaskState = (typeof taskStates)[number]

const uninterruptible = 0x2
/** `TASK_REPORT`: running to parked. */
const reported = 0x7f
const idleBits = 0x402
const lockWait = 0x1000

/** @param state `task_struct.__state` (`state` before 5.14) @param exitState `task_struct.exit_state` */
export function taskState(state: number, exitState: number): TaskState {
  if ((state & idleBits) === idleBits && (exitState & reported) === 0) return 'I'
  const shown = state & lockWait ? uninterruptible | (exitState & reported) : (state | exitState) & reported
  // The highest bit decides.
  return taskStates[32 - Math.clz32(shown)] as TaskState
}
