/** What every reader of a kernel's memory has to stand: any of its bytes may be anything. */
import fc from 'fast-check'
import { isBackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { PhysicalMemory } from '../physical-memory.js'
import { damaged } from './hostile-memory.js'

/** Runs a reader over memory that is damaged here and there; it must end, and throw nothing but our own errors. */
export async function expectOnlyOurErrors(image: KernelImage, read: (image: KernelImage) => Promise<unknown>, runs = 40): Promise<void> {
  const property = fc.asyncProperty(fc.nat(), fc.constantFrom(3, 15, 60, 300), async (seed, every) => {
    await read(damaged(image, seed, every)).catch((error: unknown) => {
      if (!isBackdoorsError(error)) throw error
    })
  })
  await fc.assert(property, { numRuns: runs })
}

/** The same kernel, and how many batches were read of it. */
export function counted(image: KernelImage): { readonly image: KernelImage; readonly batches: () => number } {
  let batches = 0
  const { memory, spans } = image.physical
  const readMany: typeof memory.readMany = async (ranges) => {
    batches++
    return await memory.readMany(ranges)
  }
  const read: typeof memory.read = async (offset, length) => (await readMany([{ offset, length }]))[0] as Uint8Array
  return { image: image.over(new PhysicalMemory({ peer: memory.peer, length: memory.length, read, readMany }, spans)), batches: () => batches }
}
