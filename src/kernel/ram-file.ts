/**
 * A machine's RAM in a file: the backing file of a virtual machine, a DAX device, or a vmcore (ELF), which carries its own
 * address map.
 */
import { BackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { ShmMemory } from '../fabric/shm/shm-memory.js'
import { readLoadSegments } from './elf.js'
import { PhysicalMemory, type RamSpan } from './physical-memory.js'

/**
 * `PHYSICAL:LENGTH:OFFSET`, in any notation of JavaScript's numbers, separated by commas.
 * @throws BackdoorsError INVALID_ARGUMENT
 */
export function parseAddressMap(text: string): RamSpan[] {
  return text.split(',').map((span) => {
    const numbers = span.split(':').map((number) => (number.trim() === '' ? NaN : Number(number)))
    const [physical = NaN, length = NaN, offset = NaN] = numbers
    if (numbers.length !== 3 || !numbers.every((number) => Number.isSafeInteger(number) && number >= 0)) {
      throw new BackdoorsError('INVALID_ARGUMENT', `${span} is no part of an address map: PHYSICAL:LENGTH:OFFSET in bytes, as in 0x0:0x20000000:0x0`, { field: 'map' })
    }
    return { physical, length, offset }
  })
}

/**
 * Opens a machine's RAM at rest.
 * @param map where physical addresses lie in the file; by default what the ELF header says, and else physical address 0 at offset 0
 * @throws BackdoorsError REGION_NOT_FOUND, INVALID_ARGUMENT, KERNEL_DATA_CORRUPT for a damaged ELF header
 */
export async function openRamFile(path: string, map?: readonly RamSpan[]): Promise<PhysicalMemory> {
  const memory = new ShmMemory({ peer: path, path })
  try {
    return new PhysicalMemory(memory, map ?? (await mapOf(memory)))
  } catch (error) {
    await memory.close()
    throw error
  }
}

async function mapOf(memory: RemoteMemory): Promise<RamSpan[]> {
  const segments = await readLoadSegments(memory)
  return segments ?? [{ physical: 0, length: memory.length, offset: 0 }]
}
