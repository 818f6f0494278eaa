/** Bounds how many connections are in their handshake, so that strangers can fill neither memory nor descriptors. */

interface Admitted {
  readonly address: string
  readonly evict: () => void
}

/**
 * When there are too many, the oldest of the address that has most has to go: who floods takes places from
 * itself, and a good peer elsewhere keeps its own.
 */
export class HandshakeGate {
  readonly #limit: number
  /** In order of arrival. */
  readonly #admitted = new Map<symbol, Admitted>()
  readonly #countByAddress = new Map<string, number>()

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#admitted.size
  }

  /** Lets a connection in; the result lets it out again and is idempotent. `evict` is called if it loses its place. */
  admit(address: string, evict: () => void): () => void {
    const key = Symbol()
    this.#admitted.set(key, { address, evict })
    this.#count(address, 1)
    if (this.#admitted.size > this.#limit) this.#evictOne()
    return () => this.#leave(key)
  }

  #leave(key: symbol): void {
    const admitted = this.#admitted.get(key)
    if (admitted === undefined) return
    this.#admitted.delete(key)
    this.#count(admitted.address, -1)
  }

  #evictOne(): void {
    let crowded = ''
    for (const [address, count] of this.#countByAddress) {
      if (count > (this.#countByAddress.get(crowded) ?? 0)) crowded = address
    }
    for (const [key, { address, evict }] of this.#admitted) {
      if (address !== crowded) continue
      this.#leave(key)
      evict()
      return
    }
  }

  #count(address: string, change: 1 | -1): void {
    const count = (this.#countByAddress.get(address) ?? 0) + change
    if (count === 0) this.#countByAddress.delete(address)
    else this.#countByAddress.set(address, count)
  }
}
