/** One native sampler thread for many watches: it is started by the first, and hands each its own events. */
import { verbsAddon } from '../../native/load.js'
import { samplerEventFields, samplerEventKinds, type SamplerCell } from '../../native/memory.js'
import type { VerbsSampler, WorkBatch } from '../../native/verbs.js'
import type { WatchEvent } from '../remote-memory.js'

export interface SampledBatch {
  readonly batch: WorkBatch
  readonly cells: readonly SamplerCell[]
  readonly intervalUs: number
  readonly unreachableAfterUs: number
}

type Deliver = (event: WatchEvent) => void

export class SharedSampler {
  #native: VerbsSampler | undefined
  readonly #targets = new Map<number, Deliver>()

  /** Samples from now on. @returns the target's number */
  add({ batch, cells, intervalUs, unreachableAfterUs }: SampledBatch, deliver: Deliver): number {
    this.#native ??= new (verbsAddon().Sampler)((events, statuses) => {
      this.#deliver(events, statuses)
    })
    const target = this.#native.add(batch, cells, intervalUs, unreachableAfterUs)
    this.#targets.set(target, deliver)
    return target
  }

  update(target: number, { batch, cells, intervalUs, unreachableAfterUs }: SampledBatch): void {
    this.#native?.update(target, batch, cells, intervalUs, unreachableAfterUs)
  }

  /** Delivers nothing more of this target. Idempotent. */
  remove(target: number): void {
    if (this.#targets.delete(target)) this.#native?.remove(target)
  }

  /** Packed as `Sampler.state` of the memory target. Undefined once the sampler is closed. */
  state(target: number): Float64Array | undefined {
    return this.#targets.has(target) ? this.#native?.state(target) : undefined
  }

  /** Idempotent. A watch that comes later starts a new thread. */
  close(): void {
    this.#targets.clear()
    this.#native?.close()
    this.#native = undefined
  }

  #deliver(packed: Float64Array, statuses: readonly string[]): void {
    for (let at = 0; at < packed.length; at += samplerEventFields) {
      const [kind = 0, target = 0, cell = 0, counter = 0, sinceUs = 0, atUs = 0, status = 0] = packed.subarray(at, at + samplerEventFields)
      // A listener may have closed the watch since these events were taken.
      this.#targets.get(target)?.(unpack(samplerEventKinds[kind], { cell, counter, sinceUs, atUs, status: statuses[status] ?? 'TIMEOUT' }))
    }
  }
}

interface Fields {
  readonly cell: number
  readonly counter: number
  readonly sinceUs: number
  readonly atUs: number
  readonly status: string
}

function unpack(kind: (typeof samplerEventKinds)[number] | undefined, { cell, counter, sinceUs, atUs, status }: Fields): WatchEvent {
  switch (kind) {
    case 'stalled':
      return { kind, cell, counter, lastChangeUs: sinceUs, atUs }
    case 'moved':
      return { kind, cell, counter, atUs }
    case 'unreachable':
      return { kind, status, sinceUs, atUs }
    default:
      return { kind: 'reachable', atUs }
  }
}
