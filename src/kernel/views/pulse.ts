/** The signs of life of a kernel: variables of its own that move while it lives, in one batch. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { sliceOf, wordOf } from '../slice.js'
import type { VirtualRange } from '../virtual-memory.js'
import { decodePanicState, panicRanges, type PanicState } from './panic-state.js'
import { isTickStopped, selectTick } from './tick.js'
import { timekeeperOf, timeOf } from './timekeeper.js'

export interface CpuPulse {
  readonly cpu: number
  /** It runs its idle task. */
  readonly isIdle: boolean
  /** Undefined where this kernel does not say. */
  readonly isTickStopped: boolean | undefined
  /** When its timer is to interrupt it, in nanoseconds of the kernel's `CLOCK_MONOTONIC`; undefined where it is not to, or it is not known. */
  readonly nextEventNs: bigint | undefined
  /** Numbers that only change while this CPU runs: switches between tasks, its run queue's clock, times by kind, interrupts. */
  readonly counters: readonly bigint[]
}

export interface Pulse {
  /** When it had been read, by the watcher's own monotonic clock, in microseconds. */
  readonly atUs: number
  readonly jiffies: bigint
  /** `CLOCK_MONOTONIC` when the kernel last looked at its clock, in nanoseconds. */
  readonly kernelTimeNs: bigint
  readonly panic: PanicState
  /** The CPUs that are online. */
  readonly cpus: readonly CpuPulse[]
}

/** `KTIME_MAX`: never. */
const never = (1n << 63n) - 1n

/** A structure, wherever it is. */
interface Place {
  readonly selection: Selection
  readonly address: bigint
}

interface CpuPlaces {
  readonly cpu: number
  /** In the order of `perCpuVariables`. */
  readonly variables: readonly Place[]
  /** The clock event device that the CPU had last: it seldom gets another. */
  device: bigint
}

/** Read for each CPU: the variable, its type, and members that every kernel has, and that not every kernel has. */
const perCpuVariables = [
  ['runqueues', 'rq', ['curr', 'idle', 'nr_switches', 'clock'], []],
  ['tick_cpu_device', 'tick_device', ['evtdev'], []],
  ['kernel_cpustat', 'kernel_cpustat', ['cpustat'], []],
  ['kstat', 'kernel_stat', ['irqs_sum'], []],
] as const

/** CPUs that come online while a pulse is read make it begin anew, so often at most. */
const mostAttempts = 3

/**
 * Reads pulses; where everything is was worked out before.
 *
 * @example
 * const reader = await PulseReader.prepare(image)
 * const pulse = await reader.read(() => performance.now() * 1000)
 */
export class PulseReader {
  readonly #image: KernelImage
  readonly #fixed: readonly VirtualRange[]
  readonly #timekeeper: Place
  readonly #variables: readonly { readonly symbol: string; readonly selection: Selection }[]
  readonly #event: Selection
  #cpus: CpuPlaces[] = []

  private constructor(image: KernelImage) {
    const { types } = image
    this.#image = image
    this.#fixed = [{ address: image.addressOf('jiffies_64'), length: 8 }, ...panicRanges(image)]
    this.#timekeeper = timekeeperOf(image)
    this.#variables = [
      ...perCpuVariables.map(([symbol, type, members, optional]) => ({ symbol, selection: new Selection(types, type, members, optional) })),
      { symbol: 'tick_cpu_sched', selection: selectTick(image) },
    ]
    this.#event = new Selection(types, 'clock_event_device', ['next_event'])
  }

  /** @throws BackdoorsError KERNEL_UNSUPPORTED, KERNEL_DATA_CORRUPT, NOT_MAPPED, and what reading throws */
  static async prepare(image: KernelImage): Promise<PulseReader> {
    const reader = new PulseReader(image)
    await reader.read(() => 0)
    return reader
  }

  /**
   * One batch; one more where a CPU has come online, or has got another timer, since the last.
   * @param nowUs the watcher's own monotonic clock
   * @throws BackdoorsError KERNEL_DATA_CORRUPT, NOT_MAPPED, and what reading throws: a pulse is whole, or there is none
   */
  async read(nowUs: () => number): Promise<Pulse> {
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const { jiffies, panic, timekeeper, cpus } = await this.#readOnce()
      const known = new Set(this.#cpus.map(({ cpu }) => cpu))
      const fresh = panic.onlineCpus.filter((cpu) => !known.has(cpu))
      if (fresh.length > 0) {
        await this.#learn(fresh)
        continue
      }
      const online = new Set(panic.onlineCpus)
      const running = cpus.filter(({ places }) => online.has(places.cpu))
      await this.#followDevices(running)
      return { atUs: nowUs(), jiffies, kernelTimeNs: timeOf(timekeeper).monotonicNs, panic, cpus: running.map(cpuPulseOf) }
    }
    throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The CPUs of ${this.#image.peer} that are online are others at each read.`, { peer: this.#image.peer, field: '__cpu_online_mask' })
  }

  async #readOnce(): Promise<{ jiffies: bigint; panic: PanicState; timekeeper: KernelObject; cpus: CpuRead[] }> {
    const { memory } = this.#image
    const places = [this.#timekeeper, ...this.#cpus.flatMap(({ variables, device }) => [...variables, { selection: this.#event, address: device }])]
    const read = await memory.tryReadMany([...this.#fixed, ...places.flatMap(({ selection, address }) => selection.ranges(address))])
    const fixed = read.slice(0, this.#fixed.length).map(sound)
    let next = fixed.length
    const take = ({ selection, address }: Place): KernelObject | BackdoorsError => {
      const parts = read.slice(next, (next += selection.pieces.length))
      const failed = parts.find((part) => part instanceof BackdoorsError)
      return failed ?? new KernelObject(selection, address, (parts as Uint8Array[]).map(sliceOf))
    }
    const timekeeper = sound(take(this.#timekeeper))
    const cpus = this.#cpus.map((cpu): CpuRead => {
      const variables = cpu.variables.map((place) => sound(take(place)))
      return { places: cpu, variables, event: take({ selection: this.#event, address: cpu.device }) }
    })
    const [jiffies, ...masks] = fixed as [Uint8Array, ...Uint8Array[]]
    return { jiffies: wordOf(jiffies), panic: decodePanicState(this.#image, masks), timekeeper, cpus }
  }

  async #learn(cpus: readonly number[]): Promise<void> {
    const addresses = await Promise.all(this.#variables.map(({ symbol }) => this.#image.perCpu(symbol, cpus)))
    const learned = cpus.map((cpu, i) => ({ cpu, variables: this.#variables.map(({ selection }, variable) => ({ selection, address: addresses[variable]?.[i] as bigint })), device: 0n }))
    this.#cpus = [...this.#cpus, ...learned].sort((a, b) => a.cpu - b.cpu)
  }

  /** CPUs whose device is not the one that was read: theirs is read now. */
  async #followDevices(cpus: readonly CpuRead[]): Promise<void> {
    const moved = cpus.filter(({ places, variables }) => variables[1]?.pointer('evtdev') !== places.device)
    for (const { places, variables } of moved) places.device = variables[1]?.pointer('evtdev') ?? 0n
    const events = await this.#image.readObjects(this.#event, moved.map(({ places }) => places.device))
    for (const [i, cpu] of moved.entries()) cpu.event = events[i] as KernelObject | BackdoorsError
  }
}

/** What was read of one CPU. */
interface CpuRead {
  readonly places: CpuPlaces
  /** In the order of `perCpuVariables`, and its tick. */
  readonly variables: readonly KernelObject[]
  event: KernelObject | BackdoorsError
}

function cpuPulseOf({ places: { cpu }, variables, event }: CpuRead): CpuPulse {
  const [queue, , times, interrupts, tick] = variables as [KernelObject, KernelObject, KernelObject, KernelObject, KernelObject]
  const at = event instanceof KernelObject ? event.signed('next_event') : never
  return {
    cpu,
    isIdle: queue.pointer('curr') === queue.pointer('idle'),
    isTickStopped: isTickStopped(tick),
    nextEventNs: at > 0n && at < never ? at : undefined,
    counters: [queue.unsigned('nr_switches'), queue.unsigned('clock'), interrupts.unsigned('irqs_sum'), ...wordsOf(times.bytes('cpustat'))],
  }
}

const wordsOf = (bytes: Uint8Array): bigint[] => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: Math.floor(bytes.length / 8) }, (_, i) => view.getBigUint64(i * 8, true))
}

/** @throws BackdoorsError that it is */
function sound<T>(read: T | BackdoorsError): T {
  if (read instanceof BackdoorsError) throw read
  return read
}
