/**
 * Records every store that is made into a region, in program order, so that a test can stop the world between any
 * two of them.
 *
 * Block writes (`set`, `fill`) are seen by a subclass of Uint8Array; word writes by a proxy around the Uint32Array
 * that the code under test makes over the region; barriers by `Atomics.add`.
 */

export interface Store {
  /** In the region, in bytes. */
  readonly offset: number
  readonly bytes: Uint8Array
  /** Counts the barriers that were passed before it. */
  readonly epoch: number
}

export class StoreLog {
  #stores: Store[] = []
  #epoch = 0

  /** Whatever `make` builds over the region it is given writes into this log, now and later. */
  watch<T>(region: Uint8Array, make: (region: Uint8Array) => T): T {
    const log = (offset: number, bytes: Uint8Array): void => void this.#stores.push({ offset, bytes, epoch: this.#epoch })
    const realWords = globalThis.Uint32Array
    globalThis.Uint32Array = new Proxy(realWords, {
      construct: (target, args: ConstructorParameters<typeof Uint32Array>) => {
        const words = new target(...args)
        return words.buffer === region.buffer ? recordingWords(words, log) : words
      },
    })
    try {
      return make(new RecordingBytes(region.buffer as ArrayBuffer, region.byteOffset, region.length, log))
    } finally {
      globalThis.Uint32Array = realWords
    }
  }

  /** @returns the stores that `run` made, and what it threw */
  during(run: () => void): { stores: Store[]; error: unknown } {
    this.#stores = []
    this.#epoch = 0
    const realAdd = Atomics.add
    Object.defineProperty(Atomics, 'add', {
      value: (...args: Parameters<typeof realAdd>) => {
        this.#epoch++
        return realAdd(...args)
      },
      configurable: true,
      writable: true,
    })
    let error: unknown
    try {
      run()
    } catch (thrown) {
      error = thrown
    } finally {
      Object.defineProperty(Atomics, 'add', { value: realAdd, configurable: true, writable: true })
    }
    return { stores: this.#stores, error }
  }
}

type Log = (offset: number, bytes: Uint8Array) => void

class RecordingBytes extends Uint8Array {
  static get [Symbol.species](): Uint8ArrayConstructor {
    return Uint8Array
  }

  readonly #log: Log

  constructor(buffer: ArrayBuffer, byteOffset: number, length: number, log: Log) {
    super(buffer, byteOffset, length)
    this.#log = log
  }

  override set(from: ArrayLike<number>, at = 0): void {
    super.set(from, at)
    this.#log(this.byteOffset + at, this.slice(at, at + from.length))
  }

  override fill(value: number, start = 0, end = this.length): this {
    super.fill(value, start, end)
    this.#log(this.byteOffset + start, this.slice(start, end))
    return this
  }
}

function recordingWords(words: Uint32Array, log: Log): Uint32Array {
  return new Proxy(words, {
    get: (target, key) => Reflect.get(target, key, target) as unknown,
    set: (target, key, value: number) => {
      const index = Number(key)
      target[index] = value
      log(target.byteOffset + index * 4, new Uint8Array(target.buffer.slice(target.byteOffset + index * 4, target.byteOffset + index * 4 + 4)))
      return true
    },
  })
}

/** The stores cut where a processor or a network card may stop: at each aligned 8 bytes. In program order. */
export function cutStores(stores: readonly Store[]): Store[] {
  return stores.flatMap(({ offset, bytes, epoch }) => {
    const pieces: Store[] = []
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + 8 - ((offset + at) % 8))
      pieces.push({ offset: offset + at, bytes: bytes.subarray(at, end), epoch })
      at = end
    }
    return pieces
  })
}
