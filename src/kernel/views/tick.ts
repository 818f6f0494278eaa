/** The periodic tick of a CPU, which a kernel stops while there is nothing to do for it. */
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'

/** `TS_FLAG_STOPPED` of kernel/time/tick-sched.h, since 6.9; a bit field of its own before. */
const stoppedFlag = 2n

export const selectTick = ({ types }: KernelImage): Selection => new Selection(types, 'tick_sched', [], ['tick_stopped', 'flags'])

/** Undefined where this kernel does not say. */
export function isTickStopped(tick: KernelObject): boolean | undefined {
  if (tick.selection.has('tick_stopped')) return tick.unsigned('tick_stopped') === 1n
  return tick.selection.has('flags') ? (tick.unsigned('flags') & stoppedFlag) !== 0n : undefined
}
