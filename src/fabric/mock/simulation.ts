/**
 * Virtual time, in whole microseconds, and an event queue: asynchronous code runs in it deterministically.
 *
 * Between two events all microtasks are drained: `run` awaits a turn of Node's event loop (`setImmediate`), and
 * Node empties the microtask and `nextTick` queues before such a turn. So every continuation that an event woke has
 * run to its next wait before time moves on. This holds for code that waits for the simulation only; whoever
 * waits for real timers, sockets, files or other threads leaves it, and is not replayed.
 */
import { setImmediate } from 'node:timers'
import { BackdoorsError } from '../../errors.js'
import { EventQueue } from './event-queue.js'
import { Random } from './random.js'
import { Trace } from './trace.js'

/** So many events at one instant mean that the code under test waits in a loop without letting time pass. */
const maxEventsPerInstant = 1_000_000

/**
 * What an action returns to say that it woke no asynchronous code: it settled no promise, and called nothing that
 * might have. The turn after it is then saved; most events of a simulation are a sampler's, and such.
 */
export const quiet = Symbol('quiet')

export interface Scheduled {
  /** Idempotent; does nothing once the action has run. */
  cancel(): void
}

export interface SimulationOptions {
  /** How many of the last trace entries are kept. Default 10,000. */
  readonly keepTrace?: number
  /** Called after each event, once all that it woke has run to its next wait. What it does must leave no trace in the simulation. */
  readonly afterEvent?: () => void
}

/** One turn of the real event loop, after which no microtask is left to run. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * @example
 * const simulation = new Simulation(42)
 * const node = new SimulatedNode(simulation, { name: 'b', buffer: new ArrayBuffer(65536) })
 * const memory = new MockMemory(simulation, node)
 * const bytes = await simulation.settle(memory.read(0, 64))  // lets virtual time pass until the read is done
 */
export class Simulation {
  readonly seed: number
  readonly trace: Trace
  readonly #random: Random
  readonly #forks = new Map<string, number>()
  readonly #queue = new EventQueue()
  readonly #afterEvent: (() => void) | undefined
  #nowUs = 0
  #running = false

  constructor(seed: number, { keepTrace = 10_000, afterEvent }: SimulationOptions = {}) {
    this.seed = seed
    this.#afterEvent = afterEvent
    this.#random = new Random(seed)
    this.trace = new Trace(keepTrace)
  }

  /** Virtual time since the beginning, in microseconds. A function value: it may be handed out as a clock. */
  readonly now = (): number => this.#nowUs

  /** Waits in virtual time. A function value: it may be handed out as a sleeper. */
  readonly sleep = (us: number): Promise<void> => new Promise((resolve) => this.schedule(us, resolve))

  /** A stream of random numbers of its own; the second stream asked for under a label differs from the first. */
  random(label: string): Random {
    const number = (this.#forks.get(label) ?? 0) + 1
    this.#forks.set(label, number)
    return this.#random.fork(`${label}#${String(number)}`)
  }

  record(what: string): void {
    this.trace.record(this.#nowUs, what)
  }

  /** Runs `action` after `delayUs` (rounded up); actions of one instant run in the order they were scheduled. */
  schedule(delayUs: number, action: () => unknown): Scheduled {
    if (!(delayUs >= 0) || !Number.isSafeInteger(Math.ceil(delayUs))) {
      throw new BackdoorsError('INVALID_ARGUMENT', `an event cannot be scheduled after ${String(delayUs)} µs`, { field: 'delayUs' })
    }
    const event = this.#queue.push(this.#nowUs + Math.ceil(delayUs), action)
    return { cancel: () => void (event.cancelled = true) }
  }

  /** Runs `action` every `intervalUs`, the first time after one interval, until cancelled. */
  every(intervalUs: number, action: () => void): Scheduled {
    if (!(intervalUs > 0)) throw new BackdoorsError('INVALID_ARGUMENT', 'an interval is greater than 0', { field: 'intervalUs' })
    let cancelled = false
    const again = (): Scheduled =>
      this.schedule(intervalUs, () => {
        if (!cancelled) action()
        if (!cancelled) next = again()
      })
    let next = again()
    return {
      cancel: () => {
        cancelled = true
        next.cancel()
      },
    }
  }

  /**
   * Runs events in order until none is left, or up to and including `untilUs`, at which time it then is.
   * Without `untilUs` it does not return while anything repeats (a watch, `every`).
   * @throws whatever an event's action throws.
   */
  async run(untilUs = Infinity): Promise<void> {
    await this.#steps(untilUs, () => false)
    if (Number.isFinite(untilUs)) this.#nowUs = Math.max(this.#nowUs, Math.floor(untilUs))
  }

  advance(us: number): Promise<void> {
    return this.run(this.#nowUs + us)
  }

  /**
   * Runs events until the promise settles, and gives its value or throws its reason.
   * @throws BackdoorsError TIMEOUT when it has not settled `withinUs` later, or when nothing is left to happen.
   */
  async settle<T>(promise: Promise<T>, withinUs = Infinity): Promise<T> {
    let settled = false
    const noteSettled = (): void => void (settled = true)
    promise.then(noteSettled, noteSettled)
    const isSettled = (): boolean => settled
    await this.#steps(this.#nowUs + withinUs, isSettled)
    if (!isSettled()) {
      const why = this.#queue.peek() === undefined ? 'nothing is left to happen in the simulation' : `${String(withinUs)} µs have passed`
      throw new BackdoorsError('TIMEOUT', `the promise has not settled, and ${why} (seed ${String(this.seed)})`)
    }
    return promise
  }

  async #steps(untilUs: number, isDone: () => boolean): Promise<void> {
    if (this.#running) {
      throw new BackdoorsError('INVALID_ARGUMENT', 'the simulation is being run already: events and code under test wait with sleep()')
    }
    this.#running = true
    try {
      await turn()
      let eventsNow = 0
      while (!isDone()) {
        const next = this.#queue.peek()
        if (next === undefined || next.atUs > untilUs) return
        this.#queue.pop()
        eventsNow = next.atUs === this.#nowUs ? eventsNow + 1 : 0
        if (eventsNow > maxEventsPerInstant) throw new Error(`time stands still at ${String(this.#nowUs)} µs:\n${this.trace.story(10)}`)
        this.#nowUs = next.atUs
        const outcome = next.action()
        if (outcome !== quiet) await turn()
        this.#afterEvent?.()
      }
    } finally {
      this.#running = false
    }
  }
}
