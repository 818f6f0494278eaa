/**
 * Seeded random numbers: xoshiro128** 1.1 by Blackman and Vigna, its state filled by splitmix64, as its authors
 * advise (https://prng.di.unimi.it). Only integer arithmetic, so that a seed means the same everywhere.
 */
import { BackdoorsError } from '../../errors.js'

const mask64 = (1n << 64n) - 1n

/** The splitmix64 generator: each call gives the next 64 bits. */
export function splitmix64(seed: bigint): () => bigint {
  let state = seed & mask64
  return () => {
    state = (state + 0x9e3779b97f4a7c15n) & mask64
    let z = state
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64
    return z ^ (z >> 31n)
  }
}

/** FNV-1a of the label's UTF-16 code units, 64 bits: gives every fork a seed of its own. */
function hashLabel(label: string): bigint {
  let hash = 0xcbf29ce484222325n
  for (let at = 0; at < label.length; at += 1) hash = ((hash ^ BigInt(label.charCodeAt(at))) * 0x100000001b3n) & mask64
  return hash
}

const rotateLeft = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits))

function checkSeed(seed: number): bigint {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new BackdoorsError('INVALID_ARGUMENT', `a seed is a whole number from 0 to 2^53 - 1, not ${String(seed)}`, { field: 'seed' })
  }
  return BigInt(seed)
}

/**
 * A stream of random numbers.
 *
 * @example
 * const random = new Random(42)
 * random.integer(1, 6)           // the same throw at every run
 * const faults = random.fork('faults')  // a stream that draws elsewhere do not disturb
 */
export class Random {
  readonly #seed: bigint
  readonly #state: Uint32Array

  constructor(seed: number | bigint) {
    this.#seed = typeof seed === 'bigint' ? seed & mask64 : checkSeed(seed)
    const next = splitmix64(this.#seed)
    this.#state = new Uint32Array(new BigUint64Array([next(), next()]).buffer)
  }

  /** A generator in a known state of four words, for comparing with published outputs. */
  static fromState(words: readonly [number, number, number, number]): Random {
    const random = new Random(0)
    random.#state.set(words)
    return random
  }

  /** A stream of its own, fixed by this one's seed and the label, whatever was drawn before. */
  fork(label: string): Random {
    return new Random(splitmix64(this.#seed ^ hashLabel(label))())
  }

  /** The next 32 bits. */
  uint32(): number {
    const state = this.#state
    const [s0, s1, s2, s3] = state as unknown as [number, number, number, number]
    const result = Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0
    const mixed2 = s2 ^ s0
    const mixed3 = s3 ^ s1
    state[0] = s0 ^ mixed3
    state[1] = s1 ^ mixed2
    state[2] = mixed2 ^ (s1 << 9)
    state[3] = rotateLeft(mixed3, 11)
    return result
  }

  /** From 0, inclusive, to 1, exclusive, with 53 random bits. */
  float(): number {
    return ((this.uint32() >>> 5) * 0x4000000 + (this.uint32() >>> 6)) / 2 ** 53
  }

  /** A whole number from `min` to `max`, both inclusive. */
  integer(min: number, max: number): number {
    if (!Number.isSafeInteger(min) || !Number.isSafeInteger(max) || max < min) {
      throw new BackdoorsError('INVALID_ARGUMENT', `no whole numbers lie from ${String(min)} to ${String(max)}`)
    }
    return min + Math.floor(this.float() * (max - min + 1))
  }

  /** True with the given probability. Draws nothing for 0 and for 1, so that an unused fault changes no run. */
  chance(probability: number): boolean {
    if (probability <= 0) return false
    return probability >= 1 || this.float() < probability
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new BackdoorsError('INVALID_ARGUMENT', 'nothing to pick from')
    return items[this.integer(0, items.length - 1)] as T
  }

  fill(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const whole = bytes.length - (bytes.length % 4)
    for (let at = 0; at < whole; at += 4) view.setUint32(at, this.uint32(), true)
    for (let at = whole, word = this.uint32(); at < bytes.length; at += 1, word >>>= 8) bytes[at] = word
  }
}
