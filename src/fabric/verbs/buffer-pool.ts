/**
 * Registered buffers for reads that were not prepared: registering memory takes far longer than reading does. A
 * buffer whose read timed out stays the device's, so it is not lent again before the device is done with it.
 */
import { BackdoorsError } from '../../errors.js'
import { workRowFields } from '../../native/verbs.js'
import { closeTarget, makeTarget, type ReadTarget } from './prepared-read.js'
import type { RcEndpoint } from './rc-endpoint.js'

/** In bytes. */
export const pooledLength = 256 * 1024
/** Requests per buffer. */
export const pooledRequests = 512
/** Enough to keep the wire busy while the last ones' bytes are copied out; more callers wait for their turn. */
const bufferLimit = 8

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
  readonly #all = new Set<PooledBuffer>()
  readonly #waiting: Waiter[] = []
  #closed = false

  constructor(endpoint: RcEndpoint, peer: string) {
    this.#endpoint = endpoint
    this.#peer = peer
  }

  /** A buffer at once, or undefined where one has to be waited for. @throws BackdoorsError CLOSED, MEMLOCK_LIMIT */
  takeNow(): PooledBuffer | undefined {
    if (this.#closed) throw this.#closedError()
    const free = this.#free.pop()
    if (free !== undefined || this.#waiting.length > 0) return free
    if (this.#all.size >= bufferLimit) this.#reclaim()
    if (this.#free.length > 0) return this.#free.pop()
    if (this.#all.size >= bufferLimit) return undefined
    const target = makeTarget(this.#endpoint, pooledLength, pooledRequests)
    const buffer = { ...target, rows: new Float64Array(pooledRequests * workRowFields) }
    this.#all.add(buffer)
    return buffer
  }

  async take(): Promise<PooledBuffer> {
    const buffer = this.takeNow()
    if (buffer !== undefined) return buffer
    if ([...this.#all].every((each) => this.#abandoned.has(each))) throw this.#exhaustedError()
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  give(buffer: PooledBuffer): void {
    if (this.#closed) return
    if (buffer.batch.busy) {
      this.#abandoned.add(buffer)
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
    for (const buffer of this.#all) closeTarget(buffer)
    this.#all.clear()
    this.#free.length = 0
  }

  /** Given back while the device still owned them. */
  readonly #abandoned = new Set<PooledBuffer>()

  #reclaim(): void {
    for (const buffer of this.#abandoned) {
      if (buffer.batch.busy) continue
      this.#abandoned.delete(buffer)
      this.#free.push(buffer)
    }
  }

  #closedError(): BackdoorsError {
    return new BackdoorsError('CLOSED', `the connection to ${this.#peer} is closed`, { peer: this.#peer })
  }

  #exhaustedError(): BackdoorsError {
    const message = `every buffer for reads from ${this.#peer} is still owned by a read that timed out`
    return new BackdoorsError('QUEUE_FULL', message, { peer: this.#peer })
  }
}
