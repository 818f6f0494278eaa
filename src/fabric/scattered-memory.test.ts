import { expect, it } from 'vitest'
import { MockMemory } from './mock/mock-memory.js'
import { SimulatedNode } from './mock/simulated-node.js'
import { Simulation } from './mock/simulation.js'
import { ScatteredMemory } from './scattered-memory.js'

const pageBytes = 4096

function scattered(pages: readonly number[], length?: number) {
  const simulation = new Simulation(1)
  const buffer = new ArrayBuffer(8 * pageBytes)
  const bytes = new Uint8Array(buffer)
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i >> 12) * 16 + (i % 13)
  const base = new MockMemory(simulation, new SimulatedNode(simulation, { name: 'b', buffer, windows: [{ offset: 0, length: buffer.byteLength, access: 'read' }, { offset: 2 * pageBytes, length: pageBytes, access: 'atomic' }] }))
  const memory = new ScatteredMemory({ base, pages: pages.map((page) => page * pageBytes), pageBytes, ...(length === undefined ? {} : { length }) })
  const at = (offset: number): number => bytes[(pages[Math.floor(offset / pageBytes)] as number) * pageBytes + (offset % pageBytes)] as number
  const expected = (offset: number, count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => at(offset + i))
  return { simulation, memory, bytes, expected }
}

it('reads across pages that lie in any order', async () => {
  const { simulation, memory, expected } = scattered([5, 1, 2, 7])
  const ranges = [{ offset: 4000, length: 200 }, { offset: 0, length: 4 * pageBytes }, { offset: 8190, length: 4 }, { offset: 12_288, length: 1 }]
  const read = await simulation.settle(memory.readMany(ranges))
  expect(read).toEqual(ranges.map(({ offset, length }) => expected(offset, length)))
})

it('a prepared read shows at each run what is there by then', async () => {
  const { simulation, memory, bytes, expected } = scattered([5, 1])
  const read = memory.prepareRead([{ offset: 4090, length: 12 }, { offset: 8, length: 8 }])
  await simulation.settle(read.run())
  expect(read.views).toEqual([expected(4090, 12), expected(8, 8)])
  bytes.fill(0xee, 5 * pageBytes, 6 * pageBytes)
  await simulation.settle(read.run())
  expect(read.views).toEqual([expected(4090, 12), expected(8, 8)])
})

it('swaps a word on the page where it lies', async () => {
  const { simulation, memory, bytes } = scattered([5, 2])
  const word = new DataView(bytes.buffer)
  const before = word.getBigUint64(2 * pageBytes + 16, true)
  expect(await simulation.settle(memory.compareAndSwap(pageBytes + 16, before, 42n))).toBe(before)
  expect(word.getBigUint64(2 * pageBytes + 16, true)).toBe(42n)
})

it('watches cells on the pages where they lie', async () => {
  const { simulation, memory, bytes } = scattered([5, 1])
  const events: string[] = []
  const watch = memory.watch({ cells: [{ counterOffset: pageBytes + 64, deadlineUs: 500 }], intervalUs: 100, unreachableAfterUs: 1000 }, ({ kind }) => events.push(kind))
  await simulation.advance(1000)
  bytes[pageBytes + 64]! += 1
  await simulation.advance(300)
  expect(events).toEqual(['stalled', 'moved'])
  watch.close()
})

it('has as many bytes as it is told, and no more pages than it needs', async () => {
  const { simulation, memory } = scattered([5, 1], 5000)
  await expect(simulation.settle(memory.read(4990, 11))).rejects.toMatchObject({ code: 'OUT_OF_RANGE', details: { offset: 4990, length: 11 } })
  expect(() => scattered([5], 5000)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
})
