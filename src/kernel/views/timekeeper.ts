/**
 * The kernel's clocks, as they were when it last looked at its clock source: at its last tick at the earliest.
 *
 * Source: kernel/time/timekeeping.c and include/linux/timekeeper_internal.h of the Linux kernel.
 */
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'

const members = ['tkr_mono.base', 'tkr_mono.xtime_nsec', 'tkr_mono.shift', 'tkr_mono.cycle_last', 'offs_real', 'offs_boot']

/** Nanoseconds. */
export interface KernelTime {
  /** `CLOCK_MONOTONIC`: what timers expire by. */
  readonly monotonicNs: bigint
  /** `CLOCK_BOOTTIME`: with the time that the machine was suspended. */
  readonly bootNs: bigint
  /** `CLOCK_REALTIME`, since 1970. */
  readonly realNs: bigint
}

/** Where the timekeeper is, and which of its members are read. @throws BackdoorsError KERNEL_UNSUPPORTED */
export function timekeeperOf(image: KernelImage): { readonly address: bigint; readonly selection: Selection } {
  const { types } = image
  // `tk_core` has a type of its own since 6.13. Before, it is a sequence counter, and the timekeeper at the next multiple of 8 bytes.
  const counter = types.find('seqcount_raw_spinlock_t') ?? types.find('seqcount_t')
  const offset = types.member('tk_data', 'timekeeper')?.offset ?? Math.max(8, (types.sizeOf(counter?.id ?? 0) + 7) & ~7)
  return { address: image.addressOf('tk_core') + BigInt(offset), selection: new Selection(types, 'timekeeper', members) }
}

/** What a timekeeper shows. */
export function timeOf(timekeeper: KernelObject): KernelTime {
  const shift = timekeeper.unsigned('tkr_mono.shift') & 63n
  const monotonicNs = timekeeper.signed('tkr_mono.base') + (timekeeper.unsigned('tkr_mono.xtime_nsec') >> shift)
  return { monotonicNs, bootNs: monotonicNs + timekeeper.signed('offs_boot'), realNs: monotonicNs + timekeeper.signed('offs_real') }
}
