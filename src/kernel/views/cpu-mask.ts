/** Sets of CPUs, as a kernel keeps them: a bit for each CPU. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import type { VirtualRange } from '../virtual-memory.js'

/** `NR_CPUS` is 8192 at most where distributions build kernels; larger ones are read so far. */
const mostMaskBytes = 8192

/** Which CPUs a mask names, in ascending order. */
export function cpusOf(mask: Uint8Array): number[] {
  const cpus: number[] = []
  // Room for thousands of CPUs, of which a machine has few: this is gone through at each look for a panic.
  for (let i = 0; i < mask.length; i++) {
    const byte = mask[i] as number
    if (byte !== 0) for (let bit = 0; byte >> bit > 0; bit++) if ((byte >> bit) & 1) cpus.push(i * 8 + bit)
  }
  return cpus
}

/** Where a `struct cpumask` such as `__cpu_online_mask` stands. @throws BackdoorsError KERNEL_UNSUPPORTED */
export function maskRange(image: KernelImage, symbol: string): VirtualRange {
  const type = image.types.find('cpumask')
  const bytes = type === undefined ? 0 : image.types.sizeOf(type.id)
  if (bytes === 0) throw new BackdoorsError('KERNEL_UNSUPPORTED', `The types of Linux ${image.note.osRelease} on ${image.peer} have no struct cpumask.`, { peer: image.peer, field: 'cpumask' })
  return { address: image.addressOf(symbol), length: Math.min(bytes, mostMaskBytes) }
}

/**
 * The CPUs that this machine may ever have: none is a CPU that is not among them.
 * @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT where there is none, and what reading throws
 */
export async function possibleCpus(image: KernelImage): Promise<number[]> {
  const { address, length } = maskRange(image, '__cpu_possible_mask')
  return checkPossible(image, cpusOf(await image.memory.read(address, length)))
}

/** @throws BackdoorsError KERNEL_DATA_CORRUPT */
export function checkPossible(image: KernelImage, possible: number[]): number[] {
  if (possible.length > 0) return possible
  throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The kernel of ${image.peer} knows no CPU.`, { peer: image.peer, field: '__cpu_possible_mask' })
}
