import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import { MockMemory } from '../mock/mock-memory.js'
import { Random } from '../mock/random.js'
import { SimulatedNode } from '../mock/simulated-node.js'
import { Simulation } from '../mock/simulation.js'
import { describeRemoteMemoryContract } from '../testing/contract.js'
import { contractMemoryBytes } from '../testing/memory-fixture.js'
import { withSeeds } from '../testing/with-seed.js'
import { CorruptingMemory } from './corrupting-memory.js'
import { DelayingMemory } from './delaying-memory.js'
import { FailingMemory } from './failing-memory.js'
import { TearingMemory } from './tearing-memory.js'
import { makeTrigger, type Trigger } from './trigger.js'

interface Stage {
  readonly simulation: Simulation
  readonly node: SimulatedNode
  readonly inner: MockMemory
}

function makeStage(seed = 1, lengthBytes = 65_536): Stage {
  const simulation = new Simulation(seed)
  const windows = [{ offset: 4_096, length: 4_096, access: 'atomic' as const }]
  const node = new SimulatedNode(simulation, { name: 'b', buffer: new ArrayBuffer(lengthBytes), windows })
  return { simulation, node, inner: new MockMemory(simulation, node) }
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(() => 'ok', (error: unknown) => (isBackdoorsError(error) ? error.code : String(error)))

const countOnes = (bytes: Uint8Array): number => bytes.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)

describeRemoteMemoryContract('all decorators, none of which strikes, over mock', () => {
  const { simulation, node, inner } = makeStage(1, contractMemoryBytes)
  const never = { strike: { probability: 0 }, random: simulation.random('faults') }
  const others: MockMemory[] = []
  const failing = new FailingMemory(inner, never)
  const delaying = new DelayingMemory(failing, { ...never, minDelayUs: 0, maxDelayUs: 10, sleep: simulation.sleep })
  const tearing = new TearingMemory(delaying, { ...never, maxSpreadUs: 10, sleep: simulation.sleep })
  return Promise.resolve({
    memory: new CorruptingMemory(tearing, never),
    bytes: node.bytes,
    controlOffset: 4_096,
    controlLength: 4_096,
    connect: () => {
      const other = new MockMemory(simulation, node)
      others.push(other)
      return Promise.resolve(other)
    },
    advance: (us: number) => simulation.advance(us),
    kill: () => Promise.resolve(node.die()),
    close: async () => {
      for (const each of [inner, ...others]) await each.close()
    },
  })
})

describe('a trigger', () => {
  const struck = (strike: Trigger, seed = 1): number[] => {
    const strikes = makeTrigger({ strike, random: new Random(seed) })
    const numbers = Array.from({ length: 100 }, (_, index) => index + 1)
    return numbers.filter((number) => strikes({ kind: 'read', ranges: [{ offset: number, length: 8 }], number }))
  }

  it('strikes every nth operation', () => {
    expect(struck({ every: 30 })).toEqual([30, 60, 90])
  })

  it('strikes those that a predicate picks', () => {
    expect(struck({ when: ({ ranges }) => ranges[0]?.offset === 7 })).toEqual([7])
  })

  it('strikes with a probability, the same ones with the same seed', () => {
    expect(struck({ probability: 0.2 })).toEqual(struck({ probability: 0.2 }))
    expect(struck({ probability: 0.2 })).not.toEqual(struck({ probability: 0.2 }, 2))
    expect(struck({ probability: 0.2 }).length).toBeGreaterThan(5)
    expect([struck({ probability: 0 }).length, struck({ probability: 1 }).length]).toEqual([0, 100])
  })

  it.each([{ every: 0 }, { every: 1.5 }, { probability: -0.1 }, { probability: 1.1 }, { probability: NaN }])('refuses %o with INVALID_ARGUMENT', (strike) => {
    expect(() => makeTrigger({ strike, random: new Random(1) })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('FailingMemory', () => {
  it('fails reads of every kind with the wanted code, and says of what', async () => {
    const { simulation, inner } = makeStage()
    const memory = new FailingMemory(inner, { strike: { every: 2 }, random: new Random(1), code: 'WC_REM_OP_ERR' })
    const prepared = memory.prepareRead([{ offset: 8, length: 16 }])
    const codes: string[] = []
    for (const run of [() => memory.read(0, 8), () => prepared.run(), () => memory.readMany([{ offset: 0, length: 8 }]), () => prepared.run()]) {
      codes.push(await simulation.settle(codeOf(run())))
    }
    expect(codes).toEqual(['ok', 'WC_REM_OP_ERR', 'ok', 'WC_REM_OP_ERR'])
    await simulation.settle(memory.read(0, 8))
    await expect(memory.read(32, 8)).rejects.toMatchObject({ code: 'WC_REM_OP_ERR', details: { peer: 'b', offset: 32, length: 8 } })
  })

  it.each([[false, 0], [true, 7]])('fails a compare-and-swap before or after it is done (afterwards: %o)', async (afterwards, word) => {
    const { simulation, node, inner } = makeStage()
    const strike: Trigger = { when: ({ kind }) => kind === 'compareAndSwap' }
    const memory = new FailingMemory(inner, { strike, random: new Random(1), afterwards })
    expect(await simulation.settle(codeOf(memory.compareAndSwap(4_096, 0n, 7n)))).toBe('WC_RETRY_EXC_ERR')
    expect(node.bytes[4_096]).toBe(word)
  })
})

describe('DelayingMemory', () => {
  it('makes operations late by a time from its range, and changes nothing else', async () => {
    await withSeeds(1, 20, async (seed) => {
      const { simulation, node, inner } = makeStage(seed)
      inner.setConditions({ delayUs: 0, jitterUs: 0 })
      node.bytes.fill(5, 0, 8)
      const options = { strike: { probability: 1 }, random: simulation.random('delays'), minDelayUs: 100, maxDelayUs: 200, sleep: simulation.sleep }
      const bytes = await simulation.settle(new DelayingMemory(inner, options).read(0, 8))
      expect(bytes).toEqual(new Uint8Array(8).fill(5))
      expect(simulation.now()).toBeGreaterThanOrEqual(100)
      expect(simulation.now()).toBeLessThanOrEqual(200)
    })
  })
})

describe('TearingMemory', () => {
  it('mixes bytes from before and after a write, whole by 8 aligned bytes', async () => {
    let torn = 0
    await withSeeds(1, 30, async (seed) => {
      const { simulation, node, inner } = makeStage(seed)
      const options = { strike: { probability: 1 }, random: simulation.random('tears'), maxSpreadUs: 100, sleep: simulation.sleep }
      const memory = new TearingMemory(inner, options)
      const prepared = memory.prepareRead([{ offset: 8_195, length: 60 }])
      simulation.schedule(20, () => node.bytes.fill(1, 8_192, 8_300))
      await simulation.settle(prepared.run())
      const [view] = prepared.views as [Uint8Array]
      for (let word = 8_192; word < 8_256; word += 8) {
        expect(new Set(view.subarray(Math.max(0, word - 8_195), word + 8 - 8_195)).size).toBeLessThanOrEqual(1)
      }
      if (new Set(view).size === 2) torn += 1
    })
    expect(torn).toBeGreaterThan(10)
  })
})

describe('CorruptingMemory', () => {
  it('flips as many bits as it is told in what was read, and none in the memory', async () => {
    const { simulation, node, inner } = makeStage()
    const memory = new CorruptingMemory(inner, { strike: { probability: 1 }, random: new Random(1), bits: 3 })
    const bytes = await simulation.settle(memory.read(0, 64))
    const [first, second] = await simulation.settle(memory.readMany([{ offset: 0, length: 8 }, { offset: 8, length: 8 }]))
    expect(countOnes(bytes)).toBe(3)
    expect(countOnes(first as Uint8Array) + countOnes(second as Uint8Array)).toBe(3)
    expect(countOnes(node.bytes)).toBe(0)
  })
})
