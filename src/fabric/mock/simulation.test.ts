import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventQueue } from './event-queue.js'
import { Simulation } from './simulation.js'
import { Trace } from './trace.js'

describe('Simulation', () => {
  it('runs events by time, and those of one instant in the order they were scheduled', async () => {
    const simulation = new Simulation(1)
    const told: string[] = []
    const tell = (delayUs: number, what: string): void => void simulation.schedule(delayUs, () => told.push(`${what} at ${String(simulation.now())}`))
    tell(20, 'c')
    tell(10, 'a')
    tell(10, 'b')
    tell(0, 'first')
    await simulation.run()
    expect(told).toEqual(['first at 0', 'a at 10', 'b at 10', 'c at 20'])
  })

  it('lets all that an event woke run to its next wait before time moves on', async () => {
    const simulation = new Simulation(1)
    const told: string[] = []
    const longChain = async (): Promise<void> => {
      await simulation.sleep(10)
      for (let link = 0; link < 1_000; link += 1) await Promise.resolve()
      await new Promise<void>((resolve) => process.nextTick(resolve))
      told.push(`chain at ${String(simulation.now())}`)
    }
    void longChain()
    simulation.schedule(10, () => told.push('same instant'))
    simulation.schedule(11, () => told.push('next'))
    await simulation.run()
    expect(told).toEqual(['chain at 10', 'same instant', 'next'])
  })

  it('stops at the time it is told, with the rest left to happen', async () => {
    const simulation = new Simulation(1)
    const told: number[] = []
    for (const delayUs of [5, 10, 11]) simulation.schedule(delayUs, () => told.push(delayUs))
    await simulation.run(10)
    expect([told, simulation.now()]).toEqual([[5, 10], 10])
    await simulation.advance(5)
    expect([told, simulation.now()]).toEqual([[5, 10, 11], 15])
  })

  it('repeats until cancelled, and runs nothing that was cancelled', async () => {
    const simulation = new Simulation(1)
    const beats: number[] = []
    const beat = simulation.every(10, () => beats.push(simulation.now()))
    simulation.schedule(35, () => beat.cancel())
    simulation.schedule(40, () => beats.push(-1)).cancel()
    await simulation.run()
    expect(beats).toEqual([10, 20, 30])
  })

  it('stops repeating when it is cancelled by what it repeats', async () => {
    const simulation = new Simulation(1)
    let beats = 0
    const beat = simulation.every(10, () => {
      beats += 1
      if (beats === 2) beat.cancel()
    })
    await simulation.run()
    expect([beats, simulation.now()]).toEqual([2, 20])
  })

  it('settles a promise at its time, and throws its reason', async () => {
    const simulation = new Simulation(1)
    expect(await simulation.settle(simulation.sleep(100).then(() => 'slept'))).toBe('slept')
    expect(simulation.now()).toBe(100)
    const failing = simulation.sleep(5).then(() => Promise.reject(new Error('no')))
    await expect(simulation.settle(failing)).rejects.toThrow('no')
  })

  it('fails with TIMEOUT when nothing is left that could settle the promise, or its time has passed', async () => {
    const simulation = new Simulation(77)
    await expect(simulation.settle(new Promise(() => undefined))).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('seed 77') as string })
    simulation.every(10, () => undefined)
    await expect(simulation.settle(new Promise(() => undefined), 1_000)).rejects.toMatchObject({ code: 'TIMEOUT' })
    expect(simulation.now()).toBe(1_000)
  })

  it('throws what an event throws, and can be run on', async () => {
    const simulation = new Simulation(1)
    simulation.schedule(1, () => {
      throw new Error('broken')
    })
    await expect(simulation.run()).rejects.toThrow('broken')
    await simulation.run()
  })

  it('refuses with INVALID_ARGUMENT to be run within itself, and to schedule into the past', async () => {
    const simulation = new Simulation(1)
    const inner = simulation.sleep(1).then(() => simulation.run())
    await expect(simulation.settle(inner)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    for (const delayUs of [-1, NaN, Infinity]) {
      expect(() => simulation.schedule(delayUs, () => undefined)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })

  it('gives every stream of random numbers once', () => {
    const simulation = new Simulation(1)
    const first = simulation.random('node').uint32()
    expect(simulation.random('node').uint32()).not.toBe(first)
    expect(new Simulation(1).random('node').uint32()).toBe(first)
  })
})

describe('EventQueue', () => {
  it('gives events in the order of time and serial, without those that were cancelled', () => {
    const property = fc.property(fc.array(fc.record({ atUs: fc.nat(20), cancelled: fc.boolean() })), (wanted) => {
      const queue = new EventQueue()
      const pushed = wanted.map(({ atUs }) => queue.push(atUs, () => undefined))
      pushed.forEach((event, index) => (event.cancelled = wanted[index]?.cancelled ?? false))
      const expected = pushed.filter(({ cancelled }) => !cancelled).sort((left, right) => left.atUs - right.atUs || left.serial - right.serial)
      const popped = Array.from({ length: expected.length }, () => queue.pop())
      expect(popped).toEqual(expected)
      expect(queue.pop()).toBeUndefined()
    })
    fc.assert(property)
  })
})

describe('Trace', () => {
  it('keeps the last entries, and hashes all', () => {
    const [short, long] = [new Trace(10), new Trace(1_000)]
    for (let step = 0; step < 100; step += 1) for (const trace of [short, long]) trace.record(step, `step ${String(step)}`)
    expect(short.hash).toBe(long.hash)
    expect([short.count, long.count]).toEqual([100, 100])
    expect(short.entries.length).toBeLessThan(20)
    expect(short.entries.at(-1)).toEqual([99, 'step 99'])
    expect(short.story(1)).toMatch(/99 µs {2}step 99$/)
    long.record(100, 'more')
    expect(long.hash).not.toBe(short.hash)
  })
})
