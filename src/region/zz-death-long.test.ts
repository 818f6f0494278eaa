/**
 * The writer dies between any two of its stores, or within one: the reader, and the writer that is started anew,
 * find exactly the old or the new state of each session.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { Random } from '../fabric/mock/random.js'
import type { RegionHeader } from './header.js'
import type { SessionWriter } from './session-writer.js'
import { cutStores, StoreLog, type Store } from './testing/store-log.js'
import { heldBy, openWriter, payloadOf, readAll, tinyRegion } from './testing/writer-box.js'

type Operation =
  | { readonly kind: 'commit'; readonly id: string; readonly length: number; readonly ttlMs: number; readonly origin: boolean }
  | { readonly kind: 'delete'; readonly id: string }
  | { readonly kind: 'sweep' }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'restart' }

interface Known {
  readonly payload: Uint8Array
  readonly expiresAtMs: number
}
type State = ReadonlyMap<string, Known>

const ids = ['u-1', 'u-2', 'u-3', 'u-4', 'ü-5', 'u-6', 'u-7', 'u-8']
const origin = { node: 'elsewhere', incarnation: 77n, box: 3, sequence: 12 }

/** Runs operations on a box, and keeps a model of what has been acknowledged. */
class Box {
  readonly log = new StoreLog()
  readonly bytes: Uint8Array
  readonly header: RegionHeader
  nowMs = 1000
  #writer: SessionWriter
  #commits = 0
  state: State = new Map()

  constructor() {
    const { bytes, header } = tinyRegion()
    this.bytes = bytes
    this.header = header
    this.#writer = this.#open()
  }

  /** @returns the stores that were made, and the state before; `this.state` is the one after */
  run(operation: Operation): { stores: Store[]; before: State } {
    const before = this.state
    const next = new Map(before)
    const { stores, error } = this.log.during(() => this.#apply(operation, next))
    if (error !== undefined && !isBackdoorsError(error, 'BOX_FULL')) throw error
    // What has expired may have been swept to make room.
    for (const [id, known] of next) if (known.expiresAtMs <= this.nowMs && !this.#holds(id)) next.delete(id)
    this.state = next
    return { stores, before }
  }

  #apply(operation: Operation, next: Map<string, Known>): void {
    const store = this.#writer.store('carts')
    if (operation.kind === 'wait') this.nowMs += operation.ms
    else if (operation.kind === 'restart') this.#writer = this.#open()
    else if (operation.kind === 'sweep') this.#writer.sweep()
    else if (operation.kind === 'delete') {
      this.#writer.delete(store, operation.id)
      next.delete(operation.id)
    } else {
      const { id, length, ttlMs } = operation
      const payload = payloadOf(id, ++this.#commits, length)
      this.#writer.commit(store, id, payload, { ttlMs, schemaVersion: 1, ...(operation.origin ? { origin } : {}) })
      next.set(id, { payload, expiresAtMs: ttlMs === 0 ? Infinity : this.nowMs + ttlMs })
    }
  }

  #holds(id: string): boolean {
    return this.#writer.store('carts').sessions.has(id)
  }

  #open(): SessionWriter {
    return this.log.watch(this.bytes, (region) => openWriter(region, this.header, { nowMs: () => this.nowMs }))
  }
}

/** Throws where `found` is not, session by session, the old state or the new one. */
function checkOldOrNew(found: ReadonlyMap<string, Uint8Array>, before: State, after: State, nowMs: number, when: string): void {
  const equal = (known: Known | undefined, payload: Uint8Array): boolean => known !== undefined && Buffer.compare(known.payload, payload) === 0
  for (const [id, payload] of found) {
    if (!equal(before.get(id), payload) && !equal(after.get(id), payload)) {
      throw new Error(`${when}: session ${id} has ${payload.length} bytes that are neither the old state's nor the new one's`)
    }
  }
  for (const id of before.keys()) {
    const mayBeAbsent = !after.has(id) || (before.get(id) as Known).expiresAtMs <= nowMs
    if (!found.has(id) && !mayBeAbsent) throw new Error(`${when}: session ${id} is lost`)
  }
}

const payloads = (sessions: ReadonlyMap<string, { payload: Uint8Array }>): Map<string, Uint8Array> =>
  new Map([...sessions].map(([id, { payload }]) => [id, payload]))

/** Whoever starts on these bytes finds the same, and the commits that follow cost no other session anything. */
function checkRestart(image: Uint8Array, box: Box, before: State, when: string): void {
  const bytes = image.slice()
  const writer = openWriter(bytes, box.header, { nowMs: () => box.nowMs })
  const found = heldBy(writer)
  checkOldOrNew(found, before, box.state, box.nowMs, `${when}, restarted`)
  const store = writer.store('carts')
  for (const id of ids) {
    for (const length of [found.get(id)?.length ?? 50, 90, 10, 700]) {
      const payload = payloadOf(id, length, length)
      try {
        writer.commit(store, id, payload, { ttlMs: 0, schemaVersion: 1 })
        found.set(id, payload)
      } catch (error) {
        if (!isBackdoorsError(error, 'BOX_FULL')) throw error
      }
    }
  }
  const now = heldBy(openWriter(bytes, box.header, { nowMs: () => 0 }))
  for (const [id, payload] of found) {
    const held = now.get(id)
    const expired = held === undefined && (before.get(id) ?? box.state.get(id))?.expiresAtMs !== Infinity
    if (!expired && (held === undefined || Buffer.compare(held, payload) !== 0)) throw new Error(`${when}, restarted and written on: session ${id} is lost or mixed`)
  }
}

const operationArbitrary: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('commit' as const),
      id: fc.constantFrom(...ids),
      length: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 60, max: 200 }), fc.integer({ min: 200, max: 1100 })),
      ttlMs: fc.constantFrom(0, 0, 0, 5),
      origin: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), id: fc.constantFrom(...ids) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sweep' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(3, 10) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
)
const operationsArbitrary = fc.array(operationArbitrary, { minLength: 1, maxLength: 14 })

describe('a writer that dies', () => {
  it('leaves the old or the new state of each session, wherever within its stores it stops', async () => {
    await fc.assert(
      fc.asyncProperty(operationsArbitrary, async (operations) => {
        const box = new Box()
        for (const [step, operation] of operations.entries()) {
          const image = box.bytes.slice()
          const { stores, before } = box.run(operation)
          let word = 0
          for (const [cut, { offset, bytes }] of cutStores(stores).entries()) {
            const when = `operation ${step} (${operation.kind}), after ${cut} of its pieces`
            checkOldOrNew(payloads(await readAll(image, box.header)), before, box.state, box.nowMs, when)
            if (bytes.length < 8 || word++ % 16 === 0) checkRestart(image, box, before, when)
            image.set(bytes, offset)
          }
          checkOldOrNew(payloads(await readAll(image, box.header)), box.state, box.state, box.nowMs, `after operation ${step}`)
          expect(Buffer.compare(image, box.bytes)).toBe(0)
        }
      }),
      { numRuns: 2500 },
    )
  })

  it('leaves the old or the new state also where stores become visible in any order up to a barrier', async () => {
    await fc.assert(
      fc.asyncProperty(operationsArbitrary, fc.nat(), async (operations, seed) => {
        const random = new Random(seed)
        const choose = (below: number): number => random.integer(0, below - 1)
        const box = new Box()
        for (const [step, operation] of operations.entries()) {
          const start = box.bytes.slice()
          const { stores, before } = box.run(operation)
          const pieces = cutStores(stores)
          const epochs = (pieces.at(-1)?.epoch ?? 0) + 1
          for (let attempt = 0; attempt < 12; attempt++) {
            const epoch = choose(epochs)
            const density = choose(4)
            const image = start.slice()
            for (const piece of pieces) {
              if (piece.epoch < epoch || (piece.epoch === epoch && choose(4) <= density)) image.set(piece.bytes, piece.offset)
            }
            const when = `operation ${step} (${operation.kind}), some of its stores after barrier ${epoch}`
            checkOldOrNew(payloads(await readAll(image, box.header)), before, box.state, box.nowMs, when)
            checkRestart(image, box, before, when)
          }
        }
      }),
      { numRuns: 2500 },
    )
  })

  it('may be at any store of its last operation while the recoverer reads', async () => {
    await fc.assert(
      fc.asyncProperty(operationsArbitrary, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 }), async (operations, progress) => {
        const box = new Box()
        for (const [step, operation] of operations.entries()) {
          const start = box.bytes.slice()
          const { stores, before } = box.run(operation)
          const instants = [...progress].sort((a, b) => a - b).map((part) => Math.round(part * stores.length))
          const images = instants.map((count) => {
            const image = start.slice()
            for (const { offset, bytes } of stores.slice(0, count)) image.set(bytes, offset)
            return image
          })
          // A restart is no operation in flight: its owner has looked at the fence before it touches the box.
          if (operation.kind === 'restart') continue
          const found = await readAll((call) => images[Math.max(0, Math.min(call - 1, images.length - 1))] as Uint8Array, box.header)
          checkOldOrNew(payloads(found), before, box.state, box.nowMs, `operation ${step} (${operation.kind}), read at its stores ${instants.join(', ')} of ${stores.length}`)
        }
      }),
      { numRuns: 30000 },
    )
  })
})
