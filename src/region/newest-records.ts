import type { FoundRecord } from './found-record.js'

/** A session is looked for in so many places. Honest ones are found in the first few; for the others there is a map. */
const mostPlaces = 32

/**
 * The newest version of each session, whatever was found in which order. Places in a table by hash: a string for each session, and a map of
 * such, would take longer than reading the sessions.
 */
export class NewestRecords {
  readonly all: FoundRecord[] = []
  /** One more than the position in `all`; 0 where there is none. */
  #places: Int32Array
  /** Those that have no place, because as many others had the same ones: made to be so, most likely. */
  readonly #displaced = new Map<string, number>()

  /** @param expected more than so many cost no more than time */
  constructor(expected: number) {
    this.#places = new Int32Array(placesFor(expected))
  }

  put(found: FoundRecord): void {
    const mask = this.#places.length - 1
    for (let i = 0; i < mostPlaces; i++) {
      const place = (mixed(found.hash) + i) & mask
      const there = (this.#places[place] as number) - 1
      if (there < 0) {
        this.#places[place] = this.all.push(found)
        if (this.all.length * 2 > this.#places.length) this.#grow()
        return
      }
      if ((this.all[there] as FoundRecord).isOf(found)) return this.#keepNewer(there, found)
    }
    const key = keyOf(found)
    const displaced = this.#displaced.get(key)
    if (displaced === undefined) this.#displaced.set(key, this.all.push(found) - 1)
    else this.#keepNewer(displaced, found)
  }

  #keepNewer(position: number, found: FoundRecord): void {
    if ((this.all[position] as FoundRecord).sequence < found.sequence) this.all[position] = found
  }

  #place(found: FoundRecord, position: number): void {
    const mask = this.#places.length - 1
    for (let i = 0; i < mostPlaces; i++) {
      const place = (mixed(found.hash) + i) & mask
      if (this.#places[place] !== 0) continue
      this.#places[place] = position + 1
      return
    }
    this.#displaced.set(keyOf(found), position)
  }

  #grow(): void {
    this.#places = new Int32Array(2 * this.#places.length)
    this.#displaced.clear()
    for (let i = 0; i < this.all.length; i++) this.#place(this.all[i] as FoundRecord, i)
  }
}

/** A power of two, at least twice as many. */
const placesFor = (expected: number): number => 2 ** Math.ceil(Math.log2(Math.max(32, 2 * expected)))

/** The low bits of a hash decide the place, and should depend on all of them. */
const mixed = (hash: number): number => (hash ^ (hash >>> 15)) >>> 0

const keyOf = ({ store, id }: FoundRecord): string => `${store}\0${id}`
