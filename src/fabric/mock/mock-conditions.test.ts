import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import type { RemoteMemory, WatchEvent, WatchPlan } from '../remote-memory.js'
import { withSeeds } from '../testing/with-seed.js'
import type { Conditions } from './conditions.js'
import { MockMemory } from './mock-memory.js'
import { SimulatedNode } from './simulated-node.js'
import { Simulation } from './simulation.js'

interface Stage {
  readonly simulation: Simulation
  readonly node: SimulatedNode
  readonly memory: MockMemory
}

const windows = [{ offset: 0, length: 4_096, access: 'atomic' as const }, { offset: 4_096, length: 4_096, access: 'write' as const }]

function makeStage(seed: number, conditions: Partial<Conditions> = {}): Stage {
  const simulation = new Simulation(seed)
  const node = new SimulatedNode(simulation, { name: 'b', buffer: new ArrayBuffer(65_536), windows })
  return { simulation, node, memory: new MockMemory(simulation, node, { conditions }) }
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(() => 'ok', (error: unknown) => (isBackdoorsError(error) ? error.code : String(error)))

function watch(memory: RemoteMemory, cells: WatchPlan['cells'] = [{ counterOffset: 8_192, deadlineUs: 1_000 }]): WatchEvent[] {
  const events: WatchEvent[] = []
  memory.watch({ cells, intervalUs: 100, unreachableAfterUs: 3_000 }, (event) => events.push(event))
  return events
}

/** A life with everything in it: writers, readers, racing swaps, deaths, watches. */
async function liveThroughAll(seed: number): Promise<Simulation> {
  const conditions = { failProbability: 0.05, loseProbability: 0.02, tearProbability: 0.3, lateProbability: 0.05, lateUs: 500, jitterUs: 20 }
  const { simulation, node, memory } = makeStage(seed, conditions)
  const other = new MockMemory(simulation, node, { from: 'other', conditions })
  const random = simulation.random('life')
  simulation.every(70, () => node.bytes.fill(random.integer(0, 255), 8_192, 8_256))
  watch(memory)
  const read = async (from: MockMemory): Promise<void> => {
    for (let count = 0; count < 30; count += 1) {
      const outcome = await from.read(8_192, 64).then((bytes) => bytes.join(), (error: unknown) => String(error))
      simulation.record(outcome)
      await from.compareAndSwap(0, BigInt(count), BigInt(count + 1)).catch(() => undefined)
    }
  }
  simulation.schedule(10_000, () => node.die())
  simulation.schedule(20_000, () => node.revive())
  simulation.schedule(25_000, () => node.rot(10))
  const readers = Promise.all([read(memory), read(other)])
  await simulation.settle(readers)
  await simulation.run(simulation.now() + 10_000)
  return simulation
}

describe('a simulated run', () => {
  it('is the same again with the same seed, and another with another', async () => {
    const [first, again, other] = [await liveThroughAll(1), await liveThroughAll(1), await liveThroughAll(2)]
    expect(again.trace.entries).toEqual(first.trace.entries)
    expect([again.trace.hash, again.now()]).toEqual([first.trace.hash, first.now()])
    expect(other.trace.hash).not.toBe(first.trace.hash)
    expect(first.trace.count).toBeGreaterThan(100)
  })
})

describe('operations under bad conditions', () => {
  it('fail with one of the wanted codes, at the wanted rate', async () => {
    const { simulation, memory } = makeStage(3, { failProbability: 0.2, failures: ['WC_REM_OP_ERR', 'WC_RNR_RETRY_EXC_ERR'] })
    const codes = await simulation.settle(Promise.all(Array.from({ length: 1_000 }, () => codeOf(memory.read(0, 8)))))
    expect(new Set(codes)).toEqual(new Set(['ok', 'WC_REM_OP_ERR', 'WC_RNR_RETRY_EXC_ERR']))
    const failed = codes.filter((code) => code !== 'ok').length
    expect(failed).toBeGreaterThan(150)
    expect(failed).toBeLessThan(250)
  })

  it('end in TIMEOUT at their own deadline where they never come back', async () => {
    const { simulation, memory } = makeStage(1, { loseProbability: 1, timeoutUs: 700 })
    expect(await simulation.settle(codeOf(memory.read(16, 8)))).toBe('TIMEOUT')
    expect(simulation.now()).toBe(700)
  })

  it('take as long as the connection takes, both ways', async () => {
    const { simulation, memory } = makeStage(1, { delayUs: 50, jitterUs: 0 })
    await simulation.settle(memory.read(0, 8))
    expect(simulation.now()).toBe(100)
  })

  it('leave in doubt whether a failed compare-and-swap was done', async () => {
    const words = new Set<string>()
    await withSeeds(1, 30, async (seed) => {
      const { simulation, node, memory } = makeStage(seed, seed % 2 === 0 ? { failProbability: 1 } : { loseProbability: 1 })
      const code = await simulation.settle(codeOf(memory.compareAndSwap(0, 0n, 1n)))
      words.add(`${code} ${String(node.bytes[0])}`)
    })
    expect([...words].sort()).toEqual(['TIMEOUT 0', 'TIMEOUT 1', 'WC_RETRY_EXC_ERR 0', 'WC_RETRY_EXC_ERR 1'])
  })

  it('fail with WC_RETRY_EXC_ERR at a dead peer and a cut link, and go on after', async () => {
    const { simulation, node, memory } = makeStage(1, { retryUs: 4_000 })
    node.die()
    expect(await simulation.settle(codeOf(memory.read(0, 8)))).toBe('WC_RETRY_EXC_ERR')
    expect(simulation.now()).toBeGreaterThanOrEqual(4_000)
    node.revive()
    expect(await simulation.settle(codeOf(memory.read(0, 8)))).toBe('ok')
    memory.setConditions({ cut: true })
    expect(await simulation.settle(codeOf(memory.read(0, 8)))).toBe('WC_RETRY_EXC_ERR')
    memory.setConditions({ cut: false })
    expect(await simulation.settle(codeOf(memory.read(0, 8)))).toBe('ok')
  })

  it('are not answered by a peer that died meanwhile, even if it is back', async () => {
    const { simulation, node, memory } = makeStage(1, { delayUs: 10, jitterUs: 0, tearProbability: 1, tearSpreadUs: 50 })
    const code = codeOf(memory.read(8_192, 64))
    simulation.schedule(30, () => node.die())
    simulation.schedule(31, () => node.revive())
    expect(await simulation.settle(code)).toBe('WC_RETRY_EXC_ERR')
  })

  it('end the connection with their first failure where it breaks, but not other connections', async () => {
    const { simulation, node, memory } = makeStage(1, { breaksOnFailure: true, retryUs: 100 })
    node.die()
    const first = codeOf(memory.read(0, 8))
    await simulation.advance(50)
    const second = codeOf(memory.read(0, 8))
    expect(await simulation.settle(Promise.all([first, second]))).toEqual(['WC_RETRY_EXC_ERR', 'WC_RETRY_EXC_ERR'])
    expect(simulation.now()).toBeLessThan(150)
    node.revive()
    expect(await simulation.settle(codeOf(memory.read(0, 8)))).toBe('WC_RETRY_EXC_ERR')
    expect(await simulation.settle(codeOf(new MockMemory(simulation, node).read(0, 8)))).toBe('ok')
  })

  it('fail with CLOSED, at once, when the memory is closed meanwhile', async () => {
    const { simulation, node, memory } = makeStage(1, { delayUs: 50 })
    const codes = Promise.all([codeOf(memory.read(0, 8)), codeOf(memory.compareAndSwap(0, 0n, 1n))])
    await simulation.advance(10)
    await memory.close()
    expect(await codes).toEqual(['CLOSED', 'CLOSED'])
    await simulation.run()
    expect(node.bytes[0]).toBe(0)
  })

  it('write where memory is lent for that', async () => {
    const { simulation, node, memory } = makeStage(1)
    const bytes = new Uint8Array([1, 2, 3])
    const written = memory.write(5_000, bytes)
    bytes.fill(9)
    await simulation.settle(written)
    expect([...node.bytes.subarray(4_999, 5_004)]).toEqual([0, 1, 2, 3, 0])
  })

  it('refuse a second run of a prepared read beside the first with INVALID_ARGUMENT', async () => {
    const { simulation, memory } = makeStage(1)
    const prepared = memory.prepareRead([{ offset: 0, length: 8 }])
    const first = codeOf(prepared.run())
    expect(await codeOf(prepared.run())).toBe('INVALID_ARGUMENT')
    expect(await simulation.settle(first)).toBe('ok')
    expect(await simulation.settle(codeOf(prepared.run()))).toBe('ok')
  })
})

describe('torn reads', () => {
  it('mix bytes from before and after a write, whole only by 8 aligned bytes', async () => {
    let torn = 0
    await withSeeds(1, 50, async (seed) => {
      const { simulation, node, memory } = makeStage(seed, { tearProbability: 1, tearSpreadUs: 100, delayUs: 10, jitterUs: 0 })
      simulation.schedule(60, () => node.bytes.fill(1, 8_192, 8_320))
      const bytes = await simulation.settle(memory.read(8_195, 100))
      const words = new Map<number, Set<number>>()
      bytes.forEach((byte, index) => {
        const word = Math.floor((8_195 + index) / 8)
        words.set(word, (words.get(word) ?? new Set()).add(byte))
      })
      expect([...words.values()].every((values) => values.size === 1)).toBe(true)
      if (new Set(bytes).size === 2) torn += 1
    })
    expect(torn).toBeGreaterThan(10)
  })

  it('are whole where tearing is off', async () => {
    await withSeeds(1, 20, async (seed) => {
      const { simulation, node, memory } = makeStage(seed, { delayUs: 50, jitterUs: 20 })
      simulation.schedule(60, () => node.bytes.fill(1, 8_192, 8_320))
      const bytes = await simulation.settle(memory.read(8_192, 128))
      expect(new Set(bytes).size).toBe(1)
    })
  })
})

describe('a watch in simulated time', () => {
  it('tells of a still counter between its deadline and one interval and a round trip more', async () => {
    const { simulation, node, memory } = makeStage(1, { delayUs: 5, jitterUs: 0 })
    const beats = simulation.every(50, () => new DataView(node.bytes.buffer).setUint32(8_192, simulation.now(), true))
    const events = watch(memory)
    await simulation.advance(10_000)
    expect(events).toEqual([])
    beats.cancel()
    await simulation.advance(5_000)
    expect(events).toMatchObject([{ kind: 'stalled', counter: 10_000 }])
    const [{ atUs }] = events as [WatchEvent]
    expect(atUs).toBeGreaterThanOrEqual(11_000)
    expect(atUs).toBeLessThanOrEqual(11_000 + 2 * 100 + 10)
  })

  it('is patient for as long as it was itself held up', async () => {
    const { simulation, memory } = makeStage(1)
    const events = watch(memory)
    await simulation.advance(500)
    memory.holdWatcher(50_000)
    await simulation.advance(50_400)
    expect(events).toEqual([])
    await simulation.advance(1_000)
    expect(events).toMatchObject([{ kind: 'stalled' }])
    expect((events as [WatchEvent])[0].atUs).toBeGreaterThan(50_900)
  })

  it('is as patient where its plan is replaced while it is held up', async () => {
    const { simulation, memory } = makeStage(1)
    const plan = { cells: [{ counterOffset: 8_192, deadlineUs: 1_000 }], intervalUs: 100, unreachableAfterUs: 3_000 }
    const events: WatchEvent[] = []
    const running = memory.watch(plan, (event) => events.push(event))
    await simulation.advance(500)
    memory.holdWatcher(50_000)
    await simulation.advance(40_000)
    running.update(plan)
    await simulation.advance(10_400)
    expect(events).toEqual([])
    await simulation.advance(1_000)
    expect(events).toMatchObject([{ kind: 'stalled' }])
  })

  it('condemns nobody for its own lateness, however often it is late', async () => {
    await withSeeds(1, 20, async (seed) => {
      const { simulation, node, memory } = makeStage(seed, { lateProbability: 0.2, lateUs: 20_000 })
      simulation.every(500, () => new DataView(node.bytes.buffer).setUint32(8_192, simulation.now(), true))
      const events = watch(memory)
      await simulation.advance(1_000_000)
      expect(events).toEqual([])
    })
  })

  it('tells that a dead peer is unreachable, and that it is back', async () => {
    const { simulation, node, memory } = makeStage(1, { retryUs: 1_000 })
    const events = watch(memory, [{ counterOffset: 8_192, deadlineUs: 1_000_000 }])
    simulation.schedule(1_050, () => node.die())
    simulation.schedule(20_000, () => node.revive())
    await simulation.advance(30_000)
    expect(events).toMatchObject([{ kind: 'unreachable', status: 'WC_RETRY_EXC_ERR' }, { kind: 'reachable' }])
    const [{ atUs }] = events as [WatchEvent]
    expect(atUs).toBeGreaterThanOrEqual(4_000)
    expect(atUs).toBeLessThan(6_000)
  })

  it('tells that reads do not come back', async () => {
    const { simulation, memory } = makeStage(1, { loseProbability: 1, timeoutUs: 1_000_000 })
    const events = watch(memory)
    await simulation.advance(5_000)
    expect(events).toMatchObject([{ kind: 'unreachable', status: 'TIMEOUT', sinceUs: 0, atUs: 3_000 }])
  })

  it('watches whether a memory can be reached where there is nothing else to watch', async () => {
    const { simulation, node, memory } = makeStage(1)
    const events = watch(memory, [])
    await simulation.advance(5_000)
    node.die()
    await simulation.advance(10_000)
    expect(events).toMatchObject([{ kind: 'unreachable' }])
  })

  it('numbers events by the plan that a listener has just made', async () => {
    const { simulation, memory } = makeStage(1)
    const [first, second] = [{ counterOffset: 8_192, deadlineUs: 1_000 }, { counterOffset: 8_256, deadlineUs: 1_000 }]
    const plan = { intervalUs: 100, unreachableAfterUs: 3_000 }
    const told: unknown[] = []
    const running = memory.watch({ ...plan, cells: [first, second] }, (event) => {
      told.push(event)
      running.update({ ...plan, cells: [second] })
    })
    await simulation.advance(5_000)
    expect(told).toMatchObject([{ kind: 'stalled', cell: 0 }, { kind: 'stalled', cell: 0 }])
  })
})

describe('a simulated node', () => {
  it('rots by as many bits as it is told, within the ranges', () => {
    const { node } = makeStage(1)
    node.rot(9, [{ offset: 100, length: 4 }])
    const ones = [...node.bytes].reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
    expect(ones).toBe(9)
    expect(node.bytes.subarray(100, 104).some((byte) => byte !== 0)).toBe(true)
  })

  it('refuses with OUT_OF_RANGE to lend more than it has', () => {
    const windowsBeyond = [{ offset: 4_096, length: 1, access: 'read' as const }]
    const make = (): SimulatedNode => new SimulatedNode(new Simulation(1), { name: 'b', buffer: new ArrayBuffer(4_096), windows: windowsBeyond })
    expect(make).toThrow(expect.objectContaining({ code: 'OUT_OF_RANGE' }))
  })
})
