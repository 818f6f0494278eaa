/**
 * Registered buffers for reads that were not prepared: registering memory takes far longer than reading does. A
 * buffer whose read timed out stays the device's, so it is not lent again before the device is done with it.
 */
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import { workRowFields } from '../../native/verbs.js'
import { closeTarget, makeTarget, type ReadTarget } from './prepared-read.js'
import type { RcEndpoint } from './rc-endpoint.js'

/** In bytes. */
export const pooledLength = 1 << 20
/** Requests per buffer. */
export const pooledRequests = 512
/** Enough to keep the wire busy while the last ones' bytes are copied out; more callers wait for their turn. */
const bufferLimit = 8
/** Reads that time out this often leave a peer that answers nothing; its queue pair ends soon. */
const abandonedLimit = 32

export interface PooledBuffer extends ReadTarget {
  /** Scratch for the rows of the batch. */
  readonly rows: Float64Array
}

interface Waiter {
  resolve(buffer: PooledBuffer): void
  reject(error: Error): void
}

export class BufferPool {
  readonly #endpoint: RcEndpoint
  readonly #peer: string
  readonly #free: PooledBuffer[] = []
  /** Lent or free. */
  readonly #all = new Set<PooledBuffer>()
  /** Given back while the device still owned them. */
  #abandoned: PooledBuffer[] = []
  readonly #waiting: Waiter[] = []
  #limit = bufferLimit
  #closed = false

  constructor(endpoint: RcEndpoint, peer: string) {
    this.#endpoint = endpoint
    this.#peer = peer
  }

  /** A buffer at once, or undefined where one has to be waited for. @throws BackdoorsError CLOSED, QUEUE_FULL; MEMLOCK_LIMIT where there is none yet */
  takeNow(): PooledBuffer | undefined {
    if (this.#closed) throw this.#closedError()
    return this.#free.pop() ?? (this.#all.size < this.#limit ? this.#makeAnother() : undefined)
  }

  /** @throws BackdoorsError as `takeNow` */
  async take(): Promise<PooledBuffer> {
    return this.takeNow() ?? new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  give(buffer: PooledBuffer): void {
    if (this.#closed) return
    if (buffer.batch.busy) {
      this.#abandoned.push(buffer)
      this.#all.delete(buffer)
      this.#serve()
      return
    }
    const waiter = this.#waiting.shift()
    if (waiter === undefined) this.#free.push(buffer)
    else waiter.resolve(buffer)
  }

  /** Idempotent. Those who wait fail with CLOSED. */
  close(): void {
    this.#closed = true
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#closedError())
    for (const buffer of [...this.#all, ...this.#abandoned]) closeTarget(buffer)
    this.#all.clear()
    this.#free.length = 0
    this.#abandoned = []
  }

  /** Where no more memory can be locked, those that are there have to do. */
  #makeAnother(): PooledBuffer | undefined {
    try {
      return this.#make()
    } catch (error) {
      if (this.#all.size === 0 || !isBackdoorsError(error, 'MEMLOCK_LIMIT')) throw error
      this.#limit = this.#all.size
      return undefined
    }
  }

  #make(): PooledBuffer {
    this.#abandoned = this.#abandoned.filter((buffer) => {
      if (!buffer.batch.busy) closeTarget(buffer)
      return buffer.batch.busy
    })
    if (this.#abandoned.length >= abandonedLimit) {
      const message = `${this.#abandoned.length} reads of ${this.#peer}'s memory have timed out and still own their buffers`
      throw new BackdoorsError('QUEUE_FULL', message, { peer: this.#peer })
    }
    const target = makeTarget(this.#endpoint, pooledLength, pooledRequests)
    const buffer = { ...target, rows: new Float64Array(pooledRequests * workRowFields) }
    this.#all.add(buffer)
    return buffer
  }

  /** A place has become free that no buffer fills: the first who waits gets a new one. */
  #serve(): void {
    const waiter = this.#waiting.shift()
    if (waiter === undefined) return
    try {
      waiter.resolve(this.#make())
    } catch (error) {
      for (const each of [waiter, ...this.#waiting.splice(0)]) each.reject(error as Error)
    }
  }

  #closedError(): BackdoorsError {
    return new BackdoorsError('CLOSED', `the connection to ${this.#peer} is closed`, { peer: this.#peer })
  }
}
