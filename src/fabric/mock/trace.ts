/** What happened in a simulation: the last entries for people, and a hash over all of them for comparing runs. */
import { createHash } from 'node:crypto'

export type TraceEntry = readonly [atUs: number, what: string]

export class Trace {
  readonly #hash = createHash('sha256')
  readonly #keep: number
  #entries: TraceEntry[] = []
  #count = 0

  /** `keep`: how many of the last entries are kept at least; the hash covers those that were dropped, too. */
  constructor(keep: number) {
    this.#keep = keep
  }

  record(atUs: number, what: string): void {
    this.#hash.update(`${String(atUs)} ${what}\n`)
    this.#count += 1
    this.#entries.push([atUs, what])
    if (this.#entries.length >= 2 * this.#keep) this.#entries = this.#entries.slice(-this.#keep)
  }

  /** How many were recorded in all. */
  get count(): number {
    return this.#count
  }

  get entries(): readonly TraceEntry[] {
    return this.#entries
  }

  /** SHA-256 of everything recorded so far, in hexadecimal. Equal hashes mean equal runs. */
  get hash(): string {
    return this.#hash.copy().digest('hex')
  }

  /** The last entries, one a line, for the message of a failing test. */
  story(lines = 50): string {
    return this.#entries
      .slice(-lines)
      .map(([atUs, what]) => `${String(atUs).padStart(12)} µs  ${what}`)
      .join('\n')
  }
}
