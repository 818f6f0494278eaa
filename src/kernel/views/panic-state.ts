/** Has a kernel panicked? The few words that tell, in one batch, for a watcher that asks often; and what they prove. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import type { VirtualRange } from '../virtual-memory.js'
import { checkPossible, cpusOf, maskRange } from './cpu-mask.js'

export interface PanicState {
  /** The CPU that `panic_cpu` names; undefined while nobody panics. */
  readonly panicCpu: number | undefined
  readonly onlineCpus: readonly number[]
  readonly possibleCpus: readonly number[]
  /**
   * CPUs that are active for the scheduler but not online: only `stop_this_cpu`, the end of a CPU at a panic or a reboot, leaves
   * them so, as a CPU that is unplugged stops being active first. A crash kernel (kdump) stops CPUs without this trace.
   */
  readonly stoppedCpus: readonly number[]
  /**
   * `panic_cpu` is set, and no other CPU runs. `crash_kexec` sets `panic_cpu` for a moment on a machine that lives on, so that
   * alone is no evidence; on a machine that has but one CPU online nothing else can be seen.
   */
  readonly isPanicked: boolean
}

const masks = ['__cpu_online_mask', '__cpu_possible_mask', '__cpu_active_mask'] as const

/** What `readPanicState` reads: for who reads more beside it in one batch. @throws BackdoorsError KERNEL_UNSUPPORTED */
export function panicRanges(image: KernelImage): VirtualRange[] {
  return [{ address: image.addressOf('panic_cpu'), length: 4 }, ...masks.map((symbol) => maskRange(image, symbol))]
}

/**
 * What the bytes of `panicRanges` say.
 * @throws BackdoorsError KERNEL_DATA_CORRUPT where they cannot be true: no CPU at all, or one that the machine has not
 */
export function decodePanicState(image: KernelImage, read: readonly Uint8Array[]): PanicState {
  const [word, online, possible, active] = read as [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
  const number = new DataView(word.buffer, word.byteOffset, word.byteLength).getInt32(0, true)
  const possibleCpus = checkPossible(image, cpusOf(possible))
  const known = new Set(possibleCpus)
  const onlineCpus = cpusOf(online)
  const strange = onlineCpus.find((cpu) => !known.has(cpu)) ?? (number === -1 || known.has(number) ? undefined : number)
  if (strange !== undefined) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel of ${image.peer} speaks of CPU ${strange}, which that machine cannot have.`, { peer: image.peer, field: known.has(number) || number === -1 ? '__cpu_online_mask' : 'panic_cpu' })
  const panicCpu = number === -1 ? undefined : number
  const isOnline = new Set(onlineCpus)
  const stoppedCpus = cpusOf(active).filter((cpu) => known.has(cpu) && !isOnline.has(cpu))
  const isPanicked = panicCpu !== undefined && onlineCpus.every((cpu) => cpu === panicCpu)
  return { panicCpu, onlineCpus, possibleCpus, stoppedCpus, isPanicked }
}

/**
 * Reads `panic_cpu` and the masks of CPUs, in one batch.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT, and what reading throws
 */
export async function readPanicState(image: KernelImage): Promise<PanicState> {
  return decodePanicState(image, await image.memory.readMany(panicRanges(image)))
}

/**
 * What shows that a kernel has panicked for sure: another CPU is seen stopped, or, where none is, `panic_cpu` stays set for longer
 * than `crash_kexec` would have it set on a machine that lives on.
 * @param setForUs how long `panic_cpu` has been seen set
 * @returns undefined while that is not so
 */
export function judgePanic({ isPanicked, panicCpu, onlineCpus, stoppedCpus, possibleCpus }: PanicState, setForUs: number, deadlineUs: number): string | undefined {
  if (!isPanicked || (stoppedCpus.length === 0 && setForUs < deadlineUs)) return undefined
  const others = possibleCpus.length > 1 ? `of ${possibleCpus.length} CPUs only ${onlineCpus.join(', ') || 'none'} is online` : 'it is the only CPU'
  return `panic_cpu is ${panicCpu}, and ${others}`
}
