/** The recorded host, with its memory damaged on the way: what a dying machine, or a hostile one, may answer. */
import fc from 'fast-check'
import { isBackdoorsError } from '../../errors.js'
import type { MemoryRange, ReadableMemory } from '../../fabric/remote-memory.js'
import { Random } from '../../fabric/mock/random.js'
import { fuzzSeed } from '../../fabric/testing/fuzz-seed.js'
import { damage, flipBits } from '../../region/testing/damage.js'
import type { KernelImage } from '../kernel-image.js'
import { PhysicalMemory } from '../physical-memory.js'

/** Answers of `memory`, some of which `change` has been at. */
function changing(memory: ReadableMemory, change: (bytes: Uint8Array, range: MemoryRange) => void): ReadableMemory {
  const readMany = async (ranges: readonly MemoryRange[]): Promise<Uint8Array[]> => {
    const read = (await memory.readMany(ranges)).map((bytes) => bytes.slice())
    for (const [i, bytes] of read.entries()) change(bytes, ranges[i] as MemoryRange)
    return read
  }
  const read = async (offset: number, length: number): Promise<Uint8Array> => (await readMany([{ offset, length }]))[0] as Uint8Array
  return { peer: memory.peer, length: memory.length, read, readMany }
}

/** The same kernel, whose memory is changed at each read. Its page tables are among what is read. */
export function withChanges(image: KernelImage, change: (bytes: Uint8Array, range: MemoryRange) => void): KernelImage {
  return image.over(new PhysicalMemory(changing(image.physical.memory, change), image.physical.spans))
}

/** Damages one answer of every `every` or so, drawn from a seed; pages of page tables as well. */
export function damaged(image: KernelImage, seed: number, every: number): KernelImage {
  const random = new Random(seed)
  return withChanges(image, (bytes) => {
    if (random.integer(0, every - 1) !== 0) return
    // Words are written at multiples of 4.
    if (bytes.length % 4 === 0) damage(bytes, random)
    else flipBits(bytes, random, 4)
  })
}

/**
 * Reads a view over damaged memory, many times: it must come to an end, with an answer or one of the project's errors.
 * @param every one answer of so many is damaged; give several, for what is read late is never reached where much is
 */
export async function surviveDamage<T>(image: KernelImage, every: readonly number[], runs: number, read: (image: KernelImage) => Promise<T>, check: (answer: T) => void = () => undefined): Promise<void> {
  await fc.assert(fc.asyncProperty(fc.nat(), fc.constantFrom(...every), async (seed, each) => {
    let answer: T
    try {
      answer = await read(damaged(image, seed, each))
    } catch (error) {
      if (isBackdoorsError(error)) return
      throw error
    }
    check(answer)
  }), { numRuns: runs, seed: fuzzSeed() })
}

/** The same kernel, in whose memory other bytes stand here and there: by where they begin in the lent memory. They may be changed as it is read. */
export function withPatches(image: KernelImage, patches: ReadonlyMap<number, Uint8Array>): KernelImage {
  return withChanges(image, (bytes, { offset }) => {
    for (const [start, patch] of patches) {
      const from = Math.max(offset, start)
      const to = Math.min(offset + bytes.length, start + patch.length)
      if (from < to) bytes.set(patch.subarray(from - start, to - start), from - offset)
    }
  })
}

/** Where in the lent memory an address of the kernel's is; it must be mapped. */
export async function offsetOf(image: KernelImage, address: bigint): Promise<number> {
  const [translated] = await image.memory.translate([address])
  if (translated === undefined || 'missing' in translated) throw new Error(`0x${address.toString(16)} is not mapped`)
  const offset = image.physical.offsetOf(translated.physical, 1)
  if (Number.isNaN(offset)) throw new Error(`0x${address.toString(16)} is not in RAM`)
  return offset
}

/** Writes bytes over what stands at an address of the kernel's, which must be mapped; they must not reach over the end of a page. */
export const withBytes = async (image: KernelImage, address: bigint, replacement: Uint8Array): Promise<KernelImage> => withPatches(image, new Map([[await offsetOf(image, address), replacement]]))
