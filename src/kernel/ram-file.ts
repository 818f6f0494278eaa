/**
 * A machine's RAM in a file: the backing file of a virtual machine, a DAX device, or a vmcore (ELF), which carries its own
 * address map.
 */
import { statSync } from 'node:fs'
import { BackdoorsError } from '../errors.js'
import { MappedMemory } from '../fabric/mapped-memory.js'
import type { ReadableMemory } from '../fabric/remote-memory.js'
import { ShmMemory } from '../fabric/shm/shm-memory.js'
import { memoryAddon } from '../native/load.js'
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

/** A machine's RAM at rest. Whoever opened it closes it. */
export class RamFile extends PhysicalMemory {
  readonly #close: () => void | Promise<void>

  private constructor(memory: ReadableMemory, spans: readonly RamSpan[], close: () => void | Promise<void>) {
    super(memory, spans)
    this.#close = close
  }

  /** As `openRamFile`. */
  static async open(path: string, map?: readonly RamSpan[]): Promise<RamFile> {
    const { memory, close } = openMemory(path)
    try {
      return new RamFile(memory, map ?? (await mapOf(memory)), close)
    } catch (error) {
      await close()
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#close()
  }
}

/**
 * Opens a machine's RAM at rest.
 * @param map where physical addresses lie in the file; by default what the ELF header says, and else physical address 0 at offset 0
 * @throws BackdoorsError REGION_NOT_FOUND, INVALID_ARGUMENT, KERNEL_DATA_CORRUPT for a damaged ELF header, SYSTEM_CALL_FAILED
 */
export const openRamFile = (path: string, map?: readonly RamSpan[]): Promise<RamFile> => RamFile.open(path, map)

/** A device can only be mapped; a file is read, so that one that is cut off gives errors and not the end of this process. */
function openMemory(path: string): { memory: ReadableMemory; close: () => void | Promise<void> } {
  if (statSync(path, { throwIfNoEntry: false })?.isCharacterDevice()) {
    const { SharedMemory } = memoryAddon()
    const mapping = new SharedMemory({ path, writable: false })
    return { memory: new MappedMemory(path, mapping), close: () => mapping.close() }
  }
  const memory = new ShmMemory({ peer: path, path })
  return { memory, close: () => memory.close() }
}

async function mapOf(memory: ReadableMemory): Promise<RamSpan[]> {
  const segments = await readLoadSegments(memory)
  return segments ?? [{ physical: 0, length: memory.length, offset: 0 }]
}
