/** What stands for bytes that are not kept: two CRCs of different polynomials, which chance passes once in 2^64 differences. */
import { crc32 } from 'node:zlib'
import { crc32c } from '../../native/crc32c.js'

export class Digest {
  #crc32c = 0
  #crc32 = 0

  get first(): number {
    return this.#crc32c
  }

  get second(): number {
    return this.#crc32
  }

  add(bytes: Uint8Array, start: number, end: number): void {
    if (end <= start) return
    this.#crc32c = crc32c(bytes, start, end - start, this.#crc32c)
    this.#crc32 = crc32(bytes.subarray(start, end), this.#crc32)
  }

  set(first: number, second: number): void {
    this.#crc32c = first
    this.#crc32 = second
  }

  reset(): void {
    this.set(0, 0)
  }

  equals(other: Digest): boolean {
    return this.#crc32c === other.#crc32c && this.#crc32 === other.#crc32
  }
}
