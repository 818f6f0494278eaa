/** Where a kernel maps all of the machine's RAM, one byte behind another: most of what it allocates is found there by a subtraction. */
import { isBackdoorsError } from '../errors.js'
import type { Kallsyms } from './kallsyms.js'
import { readWord } from './kernel-symbols.js'
import type { VirtualMemory } from './virtual-memory.js'

/** It begins at a multiple of 1 GiB, also where each boot draws another place for it (arch/x86/mm/kaslr.c). */
const alignment = 1n << 30n

/**
 * The kernel says where (`page_offset_base`, of x86-64), and its own page tables are asked whether it is so.
 *
 * @param physical address of something that is known to be in RAM
 * @returns undefined where this kernel does not say, or it is not so: everything is found by the tables then
 * @throws what reading throws
 */
export async function findDirectMap(memory: VirtualMemory, symbols: Kallsyms, physical: number): Promise<bigint | undefined> {
  const said = symbols.find('page_offset_base')
  if (said === undefined) return undefined
  try {
    const base = await readWord(memory, said.address, 8)
    if (base % alignment !== 0n || base < 1n << 63n) return undefined
    const [found] = await memory.translate([BigInt.asUintN(64, base + BigInt(physical))])
    return found && 'physical' in found && found.physical === physical ? base : undefined
  } catch (error) {
    if (!isBackdoorsError(error, 'NOT_MAPPED')) throw error
    return undefined
  }
}
