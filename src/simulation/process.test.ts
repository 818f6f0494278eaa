import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { Process, ProcessDied } from './process.js'

function setUp(): { simulation: Simulation; process: Process; done: string[]; note: (what: string) => () => void } {
  const simulation = new Simulation(1)
  const done: string[] = []
  return { simulation, process: new Process(simulation, 'p'), done, note: (what) => () => void done.push(`${what} ${simulation.now()}`) }
}

describe('a simulated process', () => {
  it('that is stopped does what it missed when it goes on, and not before', async () => {
    const { simulation, process, done, note } = setUp()
    process.later(10, note('timer'))
    process.stop(100)
    process.whenRunning(note('message'))
    await simulation.run(50)
    expect({ done, running: process.running, alive: process.alive }).toEqual({ done: [], running: false, alive: true })
    await simulation.run()
    expect(done).toEqual(['message 100', 'timer 100'])
  })

  it('may be woken sooner, and stopped for longer', async () => {
    const { simulation, process, done, note } = setUp()
    process.stop(100)
    process.stop(50)
    void process.gate().then(note('gate'))
    simulation.schedule(60, () => process.wake())
    await simulation.run()
    expect(done).toEqual(['gate 60'])
  })

  it('makes up for one of the turns that it missed', async () => {
    const { simulation, process, done, note } = setUp()
    const cancel = process.every(10, note('turn'))
    simulation.schedule(15, () => process.stop(30))
    await simulation.run(60)
    cancel()
    await simulation.run()
    expect(done).toEqual(['turn 10', 'turn 45', 'turn 55'])
  })

  it('that is dead does nothing any more, and its end is told once', async () => {
    const { simulation, process, done, note } = setUp()
    process.onEnd(note('end'))
    process.later(10, note('timer'))
    void process.gate().then(() => process.kill())
    await simulation.run(5)
    process.kill()
    process.whenRunning(note('message'))
    await simulation.run()
    expect(done).toEqual(['end 0'])
  })

  it('dies where it looks at the clock, if it is told to', () => {
    const { process, done, note } = setUp()
    process.dieAtLook(2, () => {
      note('dies')()
      process.kill()
    })
    expect(process.nowMs()).toBe(0)
    expect(process.nowMs).toThrow(ProcessDied)
    expect(process.nowMs).toThrow(ProcessDied)
    expect(done).toEqual(['dies 0'])
  })
})
