import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Heap } from './heap.js'
import type { Slot } from './session-index.js'

const unitBytes = 64
const totalUnits = 96
const heapBytes = totalUnits * unitBytes

/** The model: who has each unit of the heap. */
class Model {
  readonly slots: Slot[] = []
  readonly #taken = new Array<boolean>(totalUnits).fill(false)

  add(slot: Slot, bytes: number): void {
    expect(slot.bytes).toBeGreaterThanOrEqual(bytes)
    expect(slot.offset % unitBytes).toBe(0)
    expect(slot.bytes % unitBytes).toBe(0)
    expect(slot.offset + slot.bytes).toBeLessThanOrEqual(heapBytes)
    for (const unit of unitsOf(slot)) {
      expect(this.#taken[unit], `unit ${unit} is taken already`).toBe(false)
      this.#taken[unit] = true
    }
    this.slots.push(slot)
  }

  remove(which: number): Slot | undefined {
    const [slot] = this.slots.splice(which % Math.max(1, this.slots.length), 1)
    if (slot) for (const unit of unitsOf(slot)) this.#taken[unit] = false
    return slot
  }

  /** The longest run of free units, in bytes. */
  get longestFree(): number {
    let longest = 0
    let run = 0
    for (const taken of this.#taken) {
      run = taken ? 0 : run + 1
      longest = Math.max(longest, run)
    }
    return longest * unitBytes
  }
}

function unitsOf({ offset, bytes }: Slot): number[] {
  return Array.from({ length: bytes / unitBytes }, (_, i) => offset / unitBytes + i)
}

const commands = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('allocate' as const), bytes: fc.integer({ min: 1, max: heapBytes / 3 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('free' as const), which: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('replace' as const), which: fc.nat(), bytes: fc.integer({ min: 1, max: heapBytes / 2 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  ),
  { maxLength: 60 },
)

describe('the heap', () => {
  it('never gives a unit twice, and refuses only what does not fit', () => {
    fc.assert(
      fc.property(commands, (run) => {
        const model = new Model()
        let heap = new Heap(heapBytes)
        for (const command of run) {
          if (command.kind === 'restart') heap = new Heap(heapBytes, model.slots)
          else if (command.kind === 'free') {
            const freed = model.remove(command.which)
            if (freed) heap.free(freed)
          } else {
            const old = command.kind === 'replace' ? model.remove(command.which) : undefined
            const { longestFree } = model
            const slot = old ? heap.replace(old, command.bytes) : heap.allocate(command.bytes)
            if (slot) model.add(slot, command.bytes)
            else expect(longestFree).toBeLessThan(command.bytes)
            if (slot === undefined && old) model.add(old, 0)
          }
        }
        while (model.slots.length > 0) heap.free(model.remove(0) as Slot)
        expect(heap.allocate(heapBytes)).toEqual({ offset: 0, bytes: heapBytes })
      }),
      { numRuns: 600 },
    )
  })

  it('gives the same room after a restart', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 20 }), (sizes) => {
        const heap = new Heap(heapBytes)
        const slots = sizes.flatMap((bytes) => heap.allocate(bytes) ?? [])
        const kept = slots.filter((_, i) => i % 2 === 0)
        for (const slot of slots) if (!kept.includes(slot)) heap.free(slot)
        const restarted = new Heap(heapBytes, kept)
        for (let bytes = heapBytes; bytes >= unitBytes; bytes -= unitBytes) {
          const [a, b] = [heap.allocate(bytes), restarted.allocate(bytes)]
          expect(b?.bytes).toBe(a?.bytes)
        }
      }),
    )
  })

  it('wastes at most a fifth of a slot while there is room', () => {
    for (let bytes = 1; bytes < 1 << 20; bytes = Math.ceil(bytes * 1.07)) {
      const slot = new Heap(8 << 20).allocate(bytes) as Slot
      const needed = Math.ceil(bytes / unitBytes) * unitBytes
      expect(slot.bytes - needed, `${bytes}`).toBeLessThanOrEqual(slot.bytes / 5)
    }
  })
})
