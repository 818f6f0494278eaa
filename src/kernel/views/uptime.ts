/** How long a machine has been up, and how busy, as `uptime` says it. */
import type { KernelImage } from '../kernel-image.js'
import { KernelObject } from '../kernel-object.js'
import { sliceOf } from '../slice.js'
import { timekeeperOf, timeOf, type KernelTime } from './timekeeper.js'

export interface Uptime {
  /** Seconds since boot, as of the kernel's last look at its clock. */
  readonly uptimeSeconds: number
  /** The kernel's clocks then. */
  readonly time: KernelTime
  /** Means of 1, 5 and 15 minutes. */
  readonly load: readonly [number, number, number]
}

/** `FIXED_1` of include/linux/sched/loadavg.h */
const fixedPoint = 2048

/** One batch. @throws BackdoorsError KERNEL_UNSUPPORTED, NOT_MAPPED, and what reading throws */
export async function readUptime(image: KernelImage): Promise<Uptime> {
  const { address, selection } = timekeeperOf(image)
  const [averages, ...timekeeper] = (await image.memory.readMany([{ address: image.addressOf('avenrun'), length: 24 }, ...selection.ranges(address)])) as [Uint8Array, ...Uint8Array[]]
  const time = timeOf(new KernelObject(selection, address, timekeeper.map(sliceOf)))
  const view = new DataView(averages.buffer, averages.byteOffset, averages.byteLength)
  // Rounded as fs/proc/loadavg.c prints them.
  const load = [0, 8, 16].map((at) => Math.floor(((Number(view.getBigUint64(at, true)) + fixedPoint / 200) / fixedPoint) * 100) / 100) as [number, number, number]
  return { uptimeSeconds: Number(time.bootNs) / 1e9, time, load }
}
