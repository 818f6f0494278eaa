/** What the contract suite needs of a backend, and how its tests wait on any of them. */
import { setTimeout as sleepMs } from 'node:timers/promises'
import { expect } from 'vitest'
import { BackdoorsError, type ErrorCode, type ErrorDetails } from '../../errors.js'
import type { RemoteMemory, Watch, WatchEvent, WatchPlan } from '../remote-memory.js'

/** How long the memory of a fixture has to be, in bytes. */
export const contractMemoryBytes = 4 * 1024 * 1024

/** A memory that is lent and reached, made anew for each test. */
export interface MemoryFixture {
  /** What is tested: `bytes`, reached by the backend. */
  readonly memory: RemoteMemory
  /** The same memory on its owner's side, writable: `contractMemoryBytes` zeros, their start 8-byte aligned. */
  readonly bytes: Uint8Array
  /** The one window that takes compare-and-swap; at least 4096 bytes, page-aligned, and not all of the memory. */
  readonly controlOffset: number
  readonly controlLength: number
  /** Another connection to the same memory by the same path, as another recoverer has it; closed by `close`. */
  connect(): Promise<RemoteMemory>
  /** Lets virtual time pass. Left out where time is real. */
  advance?(us: number): Promise<void>
  /** Makes the peer die, so that reads fail from now on. Left out where nothing can do that. */
  kill?(): Promise<void>
  close(): Promise<void>
}

export type MakeMemoryFixture = () => Promise<MemoryFixture>

const virtualStepUs = 1_000
const maxVirtualSteps = 30_000
const realPollMs = 2
const maxRealWaitMs = 20_000

/** Waits for a promise; where time is virtual it passes meanwhile. */
export async function settle<T>(fixture: MemoryFixture, promise: Promise<T>): Promise<T> {
  if (fixture.advance === undefined) return promise
  let settled = false
  const noteSettled = (): void => void (settled = true)
  const isSettled = (): boolean => settled
  promise.then(noteSettled, noteSettled)
  for (let step = 0; step < maxVirtualSteps; step += 1) {
    await fixture.advance(step === 0 ? 0 : virtualStepUs)
    if (isSettled()) return promise
  }
  throw new Error(`the promise has not settled in ${String(maxVirtualSteps * virtualStepUs)} µs of virtual time`)
}

/** Waits until `condition` holds; fails the test only after far longer than it can take. */
export async function waitUntil(fixture: MemoryFixture, what: string, condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + maxRealWaitMs
  for (let step = 0; !condition(); step += 1) {
    if (fixture.advance === undefined) {
      if (performance.now() > untilMs) throw new Error(`waited ${String(maxRealWaitMs)} ms in vain: ${what}`)
      await sleepMs(realPollMs)
    } else {
      if (step > maxVirtualSteps) throw new Error(`waited ${String(step * virtualStepUs)} µs of virtual time in vain: ${what}`)
      await fixture.advance(virtualStepUs)
    }
  }
}

/** Expects the operation to return a promise (not to throw) that rejects with this code, and these details. */
export async function expectRejection(
  fixture: MemoryFixture,
  operation: () => Promise<unknown>,
  code: ErrorCode,
  details: ErrorDetails = {},
): Promise<void> {
  const promise = operation()
  const outcome = await settle(fixture, promise.then((value) => ({ value }), (error: unknown) => ({ error })))
  if (!('error' in outcome)) throw new Error(`expected ${code}, but the operation succeeded`)
  expectError(outcome.error, code, details)
}

/** Expects the call itself to throw an error with this code, and these details. */
export function expectThrow(call: () => unknown, code: ErrorCode, details: ErrorDetails = {}): void {
  let thrown: unknown
  try {
    call()
  } catch (error) {
    thrown = error
  }
  expectError(thrown, code, details)
}

function expectError(error: unknown, code: ErrorCode, details: ErrorDetails): void {
  expect(error).toBeInstanceOf(BackdoorsError)
  const { code: found, details: about } = error as BackdoorsError
  expect({ code: found, ...about }).toMatchObject({ code, ...details })
}

/** A watch and all it has told. */
export class WatchLog {
  readonly events: WatchEvent[] = []
  readonly watch: Watch
  readonly #fixture: MemoryFixture

  constructor(fixture: MemoryFixture, plan: WatchPlan) {
    this.#fixture = fixture
    this.watch = fixture.memory.watch(plan, (event) => this.events.push(event))
  }

  of<K extends WatchEvent['kind']>(kind: K, cell?: number): Extract<WatchEvent, { kind: K }>[] {
    const isWanted = (event: WatchEvent): boolean => event.kind === kind && (cell === undefined || ('cell' in event && event.cell === cell))
    return this.events.filter(isWanted) as Extract<WatchEvent, { kind: K }>[]
  }

  /** Waits for the nth event of a kind (of a cell), counted from 1. */
  async next<K extends WatchEvent['kind']>(kind: K, cell?: number, nth = 1): Promise<Extract<WatchEvent, { kind: K }>> {
    await waitUntil(this.#fixture, `event ${kind}, number ${String(nth)}`, () => this.of(kind, cell).length >= nth)
    return this.of(kind, cell)[nth - 1] as Extract<WatchEvent, { kind: K }>
  }

  /** Waits until so many more rounds have been sampled. */
  async rounds(count: number): Promise<void> {
    const from = this.watch.state.rounds
    await waitUntil(this.#fixture, `${String(count)} rounds`, () => this.watch.state.rounds >= from + count)
  }
}
