import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { EveryEvent, type HostOfServers, type Serving } from './every-event.js'
import { Ledger, type Invariant } from './ledger.js'
import { payloadOf } from './payload.js'
import { RegionLife } from './region-life.js'
import type { HeldState } from './server.js'

interface Made {
  readonly host: HostOfServers
  readonly server: Serving & { running: boolean; isMidCommit: boolean; reads: number; readonly held: Map<string, HeldState> }
}

/** A cluster of servers that hold what is put into them: nobody tells the ledger of it. */
function setUp(): { simulation: Simulation; ledger: Ledger; condemned: string[]; make: (name: string) => Made; broken: () => Invariant[] } {
  const hosts: HostOfServers[] = []
  const servers: Serving[] = []
  const condemned: string[] = []
  const simulation = new Simulation(1, { afterEvent: () => everyEvent.check() })
  const ledger = new Ledger(simulation.now, () => servers)
  const everyEvent = new EveryEvent({ ledger, hosts: () => hosts, isCondemned: ({ host }, box, generation) => condemned.includes(`${host}/${box}/${generation}`) })
  const make = (name: string): Made => {
    const life = new RegionLife(simulation, name, BigInt(hosts.length + 1))
    const held = new Map<string, HeldState>()
    const server = {
      name, life, box: 1, generation: 1, alive: true, running: true, isMidCommit: false, reads: 0, held,
      holds: (id: string) => held.has(id),
      valueOf(id: string) {
        server.reads++
        return ledger.served(id, payloadOf(id, 2), server)
      },
    }
    const host = { life, servers: new Map([['web-0', server]]) }
    hosts.push(host)
    servers.push(server)
    return { host, server }
  }
  return { simulation, ledger, condemned, make, broken: () => ledger.violations.map(({ invariant }) => invariant) }
}

describe('after every event', () => {
  it('two that hold one session are found, though neither was seen to come to it', async () => {
    const { simulation, ledger, make, broken } = setUp()
    const [a, b] = [make('a'), make('b')]
    ledger.begin('s', a.host.life, 1)
    ledger.trying('s', 2)
    a.server.held.set('s', { current: {} })
    simulation.schedule(10, () => undefined)
    simulation.schedule(20, () => b.server.held.set('s', { current: {} }))
    await simulation.run(15)
    expect(broken()).toEqual([])
    await simulation.run()
    expect(ledger.violations).toEqual([{ invariant: 'served-twice', what: 's is served by a and b, and neither is fenced', atUs: 20 }])
  })

  it('a state that nobody tried is found before a client asks for it, and each state is read once', async () => {
    const { simulation, ledger, make, broken } = setUp()
    const { host, server } = make('a')
    ledger.begin('s', host.life, 1)
    ledger.trying('s', 2)
    server.held.set('s', { current: {} })
    for (const atUs of [10, 20]) simulation.schedule(atUs, () => undefined)
    await simulation.run()
    expect({ reads: server.reads, broken: broken() }).toEqual({ reads: 1, broken: [] })
    simulation.schedule(10, () => server.held.set('t', { current: {} }))
    await simulation.run()
    expect({ reads: server.reads, broken: broken() }).toEqual({ reads: 2, broken: ['never-committed'] })
  })

  it('what a stopped server has half written is read when it goes on, and all of it where bits have rotted', async () => {
    const { simulation, ledger, make } = setUp()
    const { host, server } = make('a')
    ledger.begin('s', host.life, 1)
    ledger.trying('s', 2)
    server.held.set('s', { current: {} })
    server.running = false
    const reads: number[] = []
    simulation.schedule(10, () => undefined)
    simulation.schedule(20, () => {
      reads.push(server.reads)
      server.running = true
    })
    simulation.schedule(30, () => {
      reads.push(server.reads)
      host.life.rot(1)
    })
    await simulation.run()
    expect([...reads, server.reads]).toEqual([0, 1, 2])
  })

  it('a server that was woken within a commit is read when it has written the rest', async () => {
    const { simulation, ledger, make } = setUp()
    const { host, server } = make('a')
    ledger.begin('s', host.life, 1)
    server.held.set('s', { current: {} })
    server.isMidCommit = true
    const reads: number[] = []
    simulation.schedule(10, () => undefined)
    simulation.schedule(20, () => {
      reads.push(server.reads)
      server.isMidCommit = false
    })
    await simulation.run()
    expect([...reads, server.reads]).toEqual([0, 1])
  })

  it('a fence that was raised without a verdict is found, of a box as of a node', async () => {
    const { simulation, ledger, condemned, make } = setUp()
    const [a, b] = [make('a').host.life, make('b').host.life]
    condemned.push('a/1/3')
    simulation.schedule(10, () => a.raiseFence(1, 3))
    await simulation.run()
    expect(ledger.violations).toEqual([])
    simulation.schedule(10, () => b.raiseFence('node', 1))
    await simulation.run()
    expect(ledger.violations).toEqual([{ invariant: 'no-evidence', what: 'the fence word of b (the node) is 1, and nobody had come to a verdict on it', atUs: 20 }])
  })
})
