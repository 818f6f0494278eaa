import { allocateBulk } from '../native/bulk-memory.js'

/** Of memory for what is read, allocated at a time. */
const chunkBytes = 32 << 20
/** Kept for the next time, in bytes; what is beyond is the kernel's again. */
const keptBytes = 64 << 20

/**
 * Memory that sessions are read into, used again: the kernel gives and clears each new page, which takes it longer than reading
 * what is to stand there. What was taken holds until `reset`.
 */
export class ReadArena {
  #chunks: Uint8Array[] = []
  /** The chunk in use, and how much of it is taken. */
  #chunk = 0
  #taken = 0

  /**
   * @param bytes one piece of so many bytes, of whatever content
   * @param left so many bytes will be taken yet, these among them: not to allocate more than is needed
   */
  take(bytes: number, left: number): Uint8Array {
    for (; this.#chunk < this.#chunks.length; this.#chunk++, this.#taken = 0) {
      const chunk = this.#chunks[this.#chunk] as Uint8Array
      if (chunk.length - this.#taken < bytes) continue
      this.#taken += bytes
      return chunk.subarray(this.#taken - bytes, this.#taken)
    }
    this.#chunks.push(allocateBulk(Math.max(bytes, Math.min(left, chunkBytes))))
    this.#taken = 0
    return this.take(bytes, left)
  }

  /** All that was taken is free again: nobody may look at it any more. */
  reset(): void {
    let kept = 0
    this.#chunks = this.#chunks.filter((chunk) => (kept += chunk.length) <= keptBytes)
    this.#chunk = 0
    this.#taken = 0
  }
}
