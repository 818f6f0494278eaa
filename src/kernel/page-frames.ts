/**
 * From a `struct page` to the memory that it stands for: they stand in one array, in the order of the pages (`vmemmap`).
 *
 * Source: include/asm-generic/memory_model.h of the Linux kernel.
 */
import type { KernelImage } from './kernel-image.js'
import { pageBytes } from './page-table-format.js'

export class PageFrames {
  readonly #base: bigint
  readonly #bytes: bigint

  /** @param base address of the array @param bytes of a `struct page` */
  constructor(base: bigint, bytes: number) {
    this.#base = base
    this.#bytes = BigInt(bytes)
  }

  /** Physical address of the page; undefined where this is no address of a `struct page`. Whether there is RAM is another matter. */
  placeOf(page: bigint): number | undefined {
    const distance = page - this.#base
    if (distance < 0n || distance % this.#bytes !== 0n) return undefined
    const place = Number(distance / this.#bytes) * pageBytes
    return Number.isSafeInteger(place) ? place : undefined
  }
}

/**
 * @returns undefined where this kernel does not say where its `struct page`s are: x86-64 does
 * @throws BackdoorsError NOT_MAPPED, and what reading throws
 */
export async function readPageFrames(image: KernelImage): Promise<PageFrames | undefined> {
  const bytes = image.note.sizeOf('page') ?? image.types.sizeOf(image.types.find('page')?.id ?? 0)
  return image.has('vmemmap_base') && bytes > 0 ? new PageFrames(await image.variable('vmemmap_base'), bytes) : undefined
}
