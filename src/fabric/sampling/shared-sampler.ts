/** One native sampler thread for many watches, of either target of the addon: it hands each watch its own events. */
import { type SamplerCell, samplerEventFields, samplerEventKinds, type SamplerListener, type SamplerOptions } from '../../native/memory.js'
import type { WatchEvent } from '../remote-memory.js'

/** What the samplers of both targets have in common. `Source` are the arguments that say what to read. */
export interface NativeSampler<Source extends readonly unknown[]> {
  add(...plan: [...source: Source, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number]): number
  update(target: number, ...plan: [...source: Source, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number]): void
  remove(target: number): void
  state(target: number): Float64Array
  histograms(target: number): Float64Array
  readonly warnings: readonly string[]
  close(): void
}

/** A plan as the native sampler takes it. */
export interface SampledPlan<Source extends readonly unknown[]> {
  readonly source: Source
  readonly cells: readonly SamplerCell[]
  readonly intervalUs: number
  readonly unreachableAfterUs: number
}

/** How the thread runs, and who is told, in words fit for a log, what of that was not permitted. */
export interface SamplerSettings extends SamplerOptions {
  readonly onWarning?: (warning: string) => void
}

type Deliver = (event: WatchEvent) => void

/** The thread is started by the first watch. While there are watches, it keeps the process alive. */
export class SharedSampler<Source extends readonly unknown[]> {
  readonly #make: (listener: SamplerListener) => NativeSampler<Source>
  readonly #onWarning: ((warning: string) => void) | undefined
  #native: NativeSampler<Source> | undefined
  #hasWarned = false
  readonly #targets = new Map<number, Deliver>()

  constructor(make: (listener: SamplerListener) => NativeSampler<Source>, { onWarning }: SamplerSettings = {}) {
    this.#make = make
    this.#onWarning = onWarning
  }

  /** Samples from now on. @returns the target's number */
  add({ source, cells, intervalUs, unreachableAfterUs }: SampledPlan<Source>, deliver: Deliver): number {
    this.#native ??= this.#make((events, statuses) => {
      this.#deliver(events, statuses)
    })
    const target = this.#native.add(...source, cells, intervalUs, unreachableAfterUs)
    this.#targets.set(target, deliver)
    if (!this.#hasWarned) for (const warning of this.#native.warnings) this.#onWarning?.(warning)
    this.#hasWarned = true
    return target
  }

  update(target: number, { source, cells, intervalUs, unreachableAfterUs }: SampledPlan<Source>): void {
    if (this.#targets.has(target)) this.#native?.update(target, ...source, cells, intervalUs, unreachableAfterUs)
  }

  /** Delivers nothing more of this target. Idempotent. */
  remove(target: number): void {
    if (this.#targets.delete(target)) this.#native?.remove(target)
  }

  /** Packed, as the native sampler gives it. Undefined where the target has been removed. */
  state(target: number): Float64Array | undefined {
    return this.#targets.has(target) ? this.#native?.state(target) : undefined
  }

  /** Packed, as the native sampler gives them. Undefined where the target has been removed. */
  histograms(target: number): Float64Array | undefined {
    return this.#targets.has(target) ? this.#native?.histograms(target) : undefined
  }

  /** Idempotent. Its watches tell nothing more; one that comes later starts a new thread. */
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
