/** Simulated remote memory: a node's bytes, seen through a connection whose conditions are drawn from a seed. */
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange, PreparedRead, RemoteMemory, Watch, WatchEvent, WatchPlan } from '../remote-memory.js'
import { checkAccess, checkAligned, checkPlan, checkRange, checkWord, type CheckedMemory } from '../checks.js'
import { calmConditions, type Conditions } from './conditions.js'
import { type Execution, MockConnection } from './mock-connection.js'
import { MockWatch } from './mock-watch.js'
import type { SimulatedNode } from './simulated-node.js'
import type { Simulation } from './simulation.js'

export interface MockMemoryOptions {
  /** Who reads; for the trace. Default `watcher`. */
  readonly from?: string
  readonly conditions?: Partial<Conditions>
}

/** The range that an error about several ranges names: the first. */
const firstOf = (ranges: readonly MemoryRange[]): MemoryRange => ranges[0] ?? { offset: 0, length: 0 }

/**
 * One connection to a simulated node. Several operations may be under way, and may complete in another order.
 *
 * @example
 * const simulation = new Simulation(7)
 * const node = new SimulatedNode(simulation, { name: 'b', buffer: new ArrayBuffer(65536) })
 * const memory = new MockMemory(simulation, node, { conditions: { tearProbability: 0.3, failProbability: 0.01 } })
 * const bytes = await simulation.settle(memory.read(0, 64))
 */
export class MockMemory implements RemoteMemory {
  readonly peer: string
  readonly length: number
  readonly #simulation: Simulation
  readonly #node: SimulatedNode
  readonly #checked: CheckedMemory
  readonly #connection: MockConnection
  readonly #watches = new Set<MockWatch>()
  #watcherHeldUntilUs = 0
  #closed = false

  constructor(simulation: Simulation, node: SimulatedNode, { from = 'watcher', conditions = {} }: MockMemoryOptions = {}) {
    this.peer = node.name
    this.length = node.bytes.length
    this.#simulation = simulation
    this.#node = node
    this.#checked = { peer: this.peer, length: this.length, windows: node.windows }
    this.#connection = new MockConnection(simulation, node, from, { ...calmConditions, ...conditions })
  }

  get conditions(): Conditions {
    return this.#connection.conditions
  }

  /** Changes some of the conditions, for operations that are posted from now on; `cut` for those under way, too. */
  setConditions(changes: Partial<Conditions>): void {
    this.#connection.conditions = { ...this.#connection.conditions, ...changes }
    this.#simulation.record(`conditions at ${this.peer} ${JSON.stringify(changes)}`)
  }

  /** Holds up this memory's watches, but nothing else: their next wake-up is late, and completions wait for it. */
  holdWatcher(us: number): void {
    this.#watcherHeldUntilUs = Math.max(this.#watcherHeldUntilUs, this.#simulation.now() + us)
    this.#simulation.record(`watcher of ${this.peer} is held for ${String(us)} µs`)
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const [bytes] = await this.readMany([{ offset, length }])
    return bytes as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    this.#checkReads('read', ranges)
    const targets = ranges.map(({ length }) => new Uint8Array(length))
    await this.#readInto(ranges, targets)
    return targets
  }

  prepareRead(ranges: readonly MemoryRange[]): PreparedRead {
    this.#checkReads('prepare to read', ranges)
    const kept = ranges.map(({ offset, length }) => ({ offset, length }))
    return new MockPreparedRead(kept, this.peer, (views) => {
      this.#checkOpen('read', firstOf(kept))
      return this.#readInto(kept, views)
    })
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const range = { offset, length: bytes.length }
    this.#checkOpen('write', range)
    checkRange(this.#checked, 'write', range)
    checkAccess(this.#checked, 'write', range, ['write'])
    const copy = bytes.slice()
    await this.#post('write', range, (finished) => {
      this.#node.bytes.set(copy, offset)
      finished()
    })
  }

  async compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const range = { offset, length: 8 }
    this.#checkOpen('compare-and-swap', range)
    checkRange(this.#checked, 'compare-and-swap', range)
    checkAligned(this.#checked, 'compare-and-swap', range)
    checkAccess(this.#checked, 'compare-and-swap', range, ['atomic', 'write'])
    checkWord(this.#checked, 'expected', expected)
    checkWord(this.#checked, 'desired', desired)
    const word = new BigUint64Array(this.#node.bytes.buffer, offset, 1)
    let before = 0n
    await this.#post('compare-and-swap', range, (finished) => {
      before = Atomics.compareExchange(word, 0, expected, desired)
      finished()
    })
    return before
  }

  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    this.#checkOpen('watch', { offset: 0, length: this.length })
    checkPlan(this.#checked, plan)
    const watch: MockWatch = new MockWatch(plan, listener, {
      simulation: this.#simulation,
      connection: this.#connection,
      peer: this.peer,
      check: (next) => checkPlan(this.#checked, next),
      heldUntilUs: () => this.#watcherHeldUntilUs,
      hold: (us) => this.holdWatcher(us),
      closed: () => void this.#watches.delete(watch),
    })
    this.#watches.add(watch)
    return watch
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      for (const watch of [...this.#watches]) watch.close()
      this.#connection.close()
    }
    return Promise.resolve()
  }

  #checkOpen(doing: string, range: MemoryRange): void {
    if (this.#closed) throw this.#connection.failure('CLOSED', doing, range)
  }

  #checkReads(doing: string, ranges: readonly MemoryRange[]): void {
    this.#checkOpen(doing, firstOf(ranges))
    for (const range of ranges) checkRange(this.#checked, doing, range)
  }

  async #readInto(ranges: readonly MemoryRange[], targets: readonly Uint8Array[]): Promise<void> {
    if (ranges.length === 0) return
    await this.#post('read', firstOf(ranges), (finished, isOver) => this.#connection.copy(ranges, targets, finished, isOver))
  }

  #post(doing: string, range: MemoryRange, execute: Execution): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#connection.post(doing, range, execute, (failure) => (failure === undefined ? resolve() : reject(failure)))
    })
  }
}

class MockPreparedRead implements PreparedRead {
  readonly ranges: readonly MemoryRange[]
  readonly views: readonly Uint8Array[]
  readonly #peer: string
  readonly #read: (views: readonly Uint8Array[]) => Promise<void>
  #running = false
  #closed = false

  constructor(ranges: readonly MemoryRange[], peer: string, read: (views: readonly Uint8Array[]) => Promise<void>) {
    this.ranges = ranges
    this.views = ranges.map(({ length }) => new Uint8Array(length))
    this.#peer = peer
    this.#read = read
  }

  async run(): Promise<void> {
    const details = { peer: this.#peer, ...firstOf(this.ranges) }
    if (this.#closed) throw new BackdoorsError('CLOSED', `read from ${this.#peer}: this prepared read has been closed`, details)
    if (this.#running) {
      throw new BackdoorsError('INVALID_ARGUMENT', `read from ${this.#peer}: this prepared read is running; wait for it`, details)
    }
    this.#running = true
    try {
      await this.#read(this.views)
    } finally {
      this.#running = false
    }
  }

  close(): void {
    this.#closed = true
  }
}
