/** A watched node in simulated time: its processes beat, come, go and stop; the watcher tells what it sees. */
import { describe, expect, it } from 'vitest'
import { MockMemory } from '../fabric/mock/mock-memory.js'
import { SimulatedNode } from '../fabric/mock/simulated-node.js'
import { Simulation, type Scheduled } from '../fabric/mock/simulation.js'
import { BoxOwner, markExited } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { Machine } from '../region/testing/memory-region.js'
import { RegionWatch } from './region-watch.js'
import type { ControlConnection, Evidence, ObservedKernel } from './verdict.js'

const ms = 1000
const beatEveryUs = 2 * ms
const deadlineUs = 50 * ms
const refreshMs = 20
const unreachableAfterUs = 200 * ms

interface Told {
  readonly atUs: number
  /** Of a server by its name, otherwise of the node. */
  readonly subject: string
  readonly kind: string
  readonly evidence: Evidence
}

class Server {
  readonly owner: BoxOwner
  readonly #simulation: Simulation
  readonly #sensor
  #beating: Scheduled | undefined

  constructor(simulation: Simulation, region: Region, name: string, sensorName: string) {
    this.#simulation = simulation
    this.owner = BoxOwner.take(region, { name, ...(name === 'daemon' ? { daemon: true } : {}), nowMs: () => simulation.now() / 1000 })
    this.#sensor = this.owner.sensor({ name: sensorName, kind: 'progress', deadlineUs })
    this.start()
  }

  start(): void {
    this.#beating = this.#simulation.every(beatEveryUs, () => this.#sensor.beat())
  }

  stop(): void {
    this.#beating?.cancel()
  }

  idle(): void {
    this.#sensor.pending(0)
    this.stop()
  }
}

/** A node with a daemon and a server named web, watched for 100 ms already. */
async function watchedNode(seed = 1): Promise<{ simulation: Simulation; node: SimulatedNode; machine: Machine; region: Region; daemon: Server; web: Server; told: Told[]; troubles: unknown[]; control: { state: ControlConnection }; kernel: { says: ObservedKernel | undefined; asked: number }; watch: RegionWatch; memory: MockMemory }> {
  const simulation = new Simulation(seed)
  const machine = new Machine()
  const region = machine.open()
  const daemon = new Server(simulation, region, 'daemon', 'os')
  const web = new Server(simulation, machine.open(), 'web', 'event-loop')
  const node = new SimulatedNode(simulation, { name: 'a', buffer: machine.bytes.buffer as ArrayBuffer })
  const memory = new MockMemory(simulation, node)
  const told: Told[] = []
  const troubles: unknown[] = []
  const control = { state: 'none' as ControlConnection }
  const kernel = { says: undefined as ObservedKernel | undefined, asked: 0 }
  const watch = new RegionWatch({
    by: 'b', header: region.header, memory, intervalUs: ms, unreachableAfterUs, refreshMs,
    controlConnection: () => control.state,
    kernel: async () => {
      kernel.asked++
      return kernel.says
    },
    nowUs: simulation.now,
    every: (everyMs, run) => {
      const scheduled = simulation.every(everyMs * ms, run)
      return () => scheduled.cancel()
    },
    onVerdict: (verdict, evidence) => told.push({ atUs: simulation.now(), subject: 'box' in verdict ? verdict.name : 'node', kind: verdict.kind, evidence }),
    onTrouble: (error) => troubles.push(error),
  })
  await simulation.run(100 * ms)
  expect(told).toEqual([])
  return { simulation, node, machine, region, daemon, web, told, troubles, control, kernel, watch, memory }
}

const brief = (told: readonly Told[]): string[] => told.map(({ subject, kind }) => `${subject}: ${kind}`)

describe('a node that is well', () => {
  it('leads to no verdict, and shows its sensors', async () => {
    const { simulation, told, watch, troubles } = await watchedNode()
    await simulation.run(2000 * ms)
    expect({ told, troubles }).toEqual({ told: [], troubles: [] })
    expect(watch.observe()).toMatchObject({ reachable: true, osSensor: { name: 'os', stalled: false }, boxes: [{ box: 1, name: 'web', exited: false, sensors: [{ name: 'event-loop', stalled: false }] }] })
  })

  it('may have servers that have nothing to do', async () => {
    const { simulation, web, told } = await watchedNode()
    web.idle()
    await simulation.run(2000 * ms)
    expect(told).toEqual([])
  })
})

describe('a server', () => {
  it('that stops is app-stalled: once, within its deadline and a look at the directory, with the sensor as evidence', async () => {
    const { simulation, web, told } = await watchedNode()
    web.stop()
    await simulation.run(2000 * ms)
    expect(brief(told)).toEqual(['web: app-stalled'])
    const [{ atUs, evidence }] = told as [Told]
    expect(atUs).toBeGreaterThanOrEqual(100 * ms + deadlineUs - beatEveryUs)
    expect(atUs).toBeLessThan(100 * ms + deadlineUs + 10 * ms)
    expect(evidence).toMatchObject({ by: 'b', atUs, sensor: { name: 'event-loop', stalled: true } })
  })

  it('that goes on after all is alive again', async () => {
    const { simulation, web, told } = await watchedNode()
    web.stop()
    await simulation.advance(200 * ms)
    web.start()
    await simulation.advance(200 * ms)
    expect(brief(told)).toEqual(['web: app-stalled', 'web: alive'])
  })

  it('that closes its box is left alone', async () => {
    const { simulation, web, told } = await watchedNode()
    web.stop()
    web.owner.close()
    await simulation.run(2000 * ms)
    expect(told).toEqual([])
  })

  it('whose process the daemon has marked as gone is app-exited, long before its deadline', async () => {
    const { simulation, region, web, told } = await watchedNode()
    web.stop()
    markExited(region, web.owner.box, web.owner.generation)
    await simulation.run(2000 * ms)
    expect(brief(told)).toEqual(['web: app-exited'])
    expect(told[0]?.atUs).toBeLessThanOrEqual(100 * ms + refreshMs * ms + ms)
  })

  it('that comes later is watched from then on', async () => {
    const { simulation, machine, told } = await watchedNode()
    const late = new Server(simulation, machine.open(), 'late', 'event-loop')
    await simulation.advance(100 * ms)
    late.stop()
    await simulation.advance(200 * ms)
    expect(brief(told)).toEqual(['late: app-stalled'])
  })

  it('that was judged is judged once more when that is asked for', async () => {
    const { simulation, web, told, watch } = await watchedNode()
    web.stop()
    await simulation.advance(200 * ms)
    watch.forget(web.owner.box, web.owner.generation)
    await simulation.advance(200 * ms)
    expect(brief(told)).toEqual(['web: app-stalled', 'web: app-stalled'])
  })
})

describe('a whole node', () => {
  it('that stops is os-stalled, and none of its servers is condemned for it, at whatever instant it stops', async () => {
    for (let phaseUs = 0; phaseUs < 20; phaseUs++) {
      const { simulation, daemon, web, told } = await watchedNode(phaseUs + 1)
      await simulation.advance(phaseUs * 137)
      daemon.stop()
      web.stop()
      await simulation.advance(500 * ms)
      expect(brief(told)).toEqual(['node: os-stalled'])
    }
  })

  it('whose daemon alone stops is daemon-stalled, and alive when it goes on', async () => {
    const { simulation, daemon, told } = await watchedNode()
    daemon.stop()
    await simulation.advance(500 * ms)
    daemon.start()
    await simulation.advance(500 * ms)
    expect(brief(told)).toEqual(['node: daemon-stalled', 'node: alive'])
  })

  it('whose servers have nothing to do is daemon-stalled where nothing else tells, and os-stalled once its kernel is seen to have stopped', async () => {
    const { simulation, daemon, web, told, kernel } = await watchedNode()
    web.idle()
    await simulation.advance(500 * ms)
    expect(kernel.asked).toBe(0)
    daemon.stop()
    await simulation.advance(500 * ms)
    expect(brief(told)).toEqual(['node: daemon-stalled'])
    kernel.says = { stalled: 'nothing has moved' }
    await simulation.advance(500 * ms)
    expect(brief(told)).toEqual(['node: daemon-stalled', 'node: os-stalled'])
    expect(told[1]?.evidence.seen).toContain('its kernel has stopped: nothing has moved')
  })

  it('whose kernel stops with it is os-stalled and nothing else, once that is seen', async () => {
    const { simulation, daemon, web, told, kernel } = await watchedNode()
    web.idle()
    kernel.says = { moves: 'its kernel moves', movedWithinUs: deadlineUs + refreshMs * ms }
    daemon.stop()
    await simulation.advance(2 * deadlineUs)
    expect(told).toEqual([])
    kernel.says = { stalled: 'nothing has moved' }
    await simulation.advance(2 * deadlineUs)
    expect(brief(told)).toEqual(['node: os-stalled'])
  })

  it('whose kernel goes on without its daemon is daemon-stalled, and alive when the daemon goes on', async () => {
    const { simulation, daemon, web, told, kernel } = await watchedNode()
    web.idle()
    kernel.says = { moves: 'its kernel moves', movedWithinUs: deadlineUs + refreshMs * ms }
    daemon.stop()
    await simulation.advance(500 * ms)
    daemon.start()
    await simulation.advance(500 * ms)
    expect(brief(told)).toEqual(['node: daemon-stalled', 'node: alive'])
    expect(told[0]?.evidence.seen).toContain('but its kernel moves')
  })

  it('that answers no read is unreachable, and alive when it answers again', async () => {
    const { simulation, node, told } = await watchedNode()
    node.die()
    await simulation.advance(1000 * ms)
    node.revive()
    await simulation.advance(500 * ms)
    expect(brief(told)).toEqual(['node: unreachable', 'node: alive'])
    expect(told[0]?.evidence.seen).toContain('WC_RETRY_EXC_ERR')
    expect(told[0]?.atUs).toBeGreaterThanOrEqual(100 * ms + unreachableAfterUs - ms)
  })

  it('is judged only when it is known whether the machine answers otherwise', async () => {
    const { simulation, node, told, control } = await watchedNode()
    control.state = 'unheard'
    node.die()
    await simulation.advance(1000 * ms)
    expect(told).toEqual([])
    control.state = 'reset'
    await simulation.advance(100 * ms)
    expect(brief(told)).toEqual(['node: daemon-lost'])
  })
})

describe('the watcher\'s own trouble', () => {
  it('condemns nobody: it was late itself', async () => {
    const { simulation, told, memory } = await watchedNode()
    for (let i = 0; i < 20; i++) {
      memory.holdWatcher(300 * ms)
      await simulation.advance(500 * ms)
    }
    expect(told).toEqual([])
  })

  it('condemns nobody: reads fail now and then, and come torn', async () => {
    const { simulation, told, memory } = await watchedNode()
    memory.setConditions({ failProbability: 0.2, tearProbability: 0.5 })
    await simulation.advance(5000 * ms)
    expect(told).toEqual([])
  })

  it('is heard of where the directory cannot be read', async () => {
    const { simulation, memory, troubles } = await watchedNode()
    memory.setConditions({ failProbability: 0.5 })
    await simulation.advance(500 * ms)
    expect(troubles[0]).toMatchObject({ code: 'WC_RETRY_EXC_ERR' })
  })
})

describe('a watch that is closed', () => {
  it('tells nothing any more', async () => {
    const { simulation, watch, daemon, web, told } = await watchedNode()
    daemon.stop()
    web.stop()
    watch.close()
    watch.close()
    await simulation.advance(1000 * ms)
    expect(told).toEqual([])
  })
})

describe('a level past its limit', () => {
  it('is a condition of the node or server that it is of, told once it lasts, and no verdict', async () => {
    const { simulation, node, region, daemon, web, told, watch } = await watchedNode()
    watch.close()
    const changes: string[] = []
    const memory = new MockMemory(simulation, node)
    const conditions = new RegionWatch({
      by: 'b', header: region.header, memory, intervalUs: ms, unreachableAfterUs, refreshMs,
      controlConnection: () => 'none',
      nowUs: simulation.now,
      every: (everyMs, run) => {
        const scheduled = simulation.every(everyMs * ms, run)
        return () => scheduled.cancel()
      },
      onVerdict: (verdict) => told.push({ atUs: simulation.now(), subject: 'node', kind: verdict.kind, evidence: { by: 'b', atUs: 0, seen: verdict.seen } }),
      conditions: { rule: { raiseAfterUs: 100 * ms, clearAfterUs: 100 * ms, clearBelow: 0.9 }, onChange: ({ server, sensor }, raised) => changes.push(`${server ?? 'node'} ${sensor} ${raised}`) },
      onTrouble: () => undefined,
    })
    const used = daemon.owner.sensor({ name: 'mem-used-bytes', kind: 'level', deadlineUs: 0 })
    const files = daemon.owner.sensor({ name: `${web.owner.box}/open-fds`, kind: 'level', deadlineUs: 0 })
    used.level(11, 10)
    files.level(5, 10)
    await simulation.advance(90 * ms)
    expect(changes).toEqual([])
    await simulation.advance(100 * ms)
    expect(changes).toEqual(['node mem-used-bytes true'])
    files.level(12, 10)
    used.level(1, 10)
    await simulation.advance(200 * ms)
    expect(changes.slice(1).sort()).toEqual(['node mem-used-bytes false', 'web open-fds true'])
    expect(conditions.conditions).toMatchObject([{ server: 'web', sensor: 'open-fds', value: 12, limit: 10 }])
    expect(told).toEqual([])
    conditions.close()
  })
})
