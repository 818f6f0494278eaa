/**
 * A node fails while its daemon still holds a session that one of its servers has taken over already, and that server has a
 * recovery of its own: the session is that recovery's alone.
 */
import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { BoxOwner } from '../region/box-owner.js'
import { ClaimHolder, noSuccession, raiseFence } from './control-words.js'
import { recover, type RecoveredSession, type RecoveryReport, type RecoveryTarget } from './recover.js'
import { payloadOf, Victim } from './testing/victim.js'

const from = { node: 'a', incarnation: 7n, box: 1, sequence: 5 }
const plain = { ttlMs: 0, schemaVersion: 1 }

/** Node b: its daemon has adopted `moved` and `waiting` from a, and its server has taken `moved` and changed it. */
function setUp() {
  const simulation = new Simulation(1)
  const victim = new Victim(simulation, 'b', { sessions: 1 })
  const daemon = BoxOwner.take(victim.region, { name: 'daemon', daemon: true, nowMs: () => 0 })
  const adopt = (box: BoxOwner, id: string, value: number): void => box.sessions.commit(box.sessions.store('carts'), id, payloadOf(id, value), { ...plain, origin: { ...from, sequence: id.length } })
  adopt(daemon, 'moved', 1)
  adopt(daemon, 'waiting', 1)
  adopt(victim.server, 'moved', 1)
  victim.commit('moved', 2)
  const run = async (recoverer: number, target: RecoveryTarget): Promise<{ report: RecoveryReport; sessions: Map<string, RecoveredSession> }> => {
    const sessions = new Map<string, RecoveredSession>()
    const report = recover({
      memory: victim.connect({ from: `recoverer ${recoverer}` }), header: victim.region.header, target, recoverer,
      adopt: async (found) => {
        for (const session of found) sessions.set(session.id, session)
        return { adopted: found.length, known: 0, refused: 0 }
      },
      announce: async () => undefined,
      nowMs: () => simulation.now() / 1000,
      pause: (ms) => simulation.sleep(ms * 1000),
    })
    return { report: await simulation.settle(report), sessions }
  }
  const box: RecoveryTarget = { kind: 'box', box: victim.server.box, generation: victim.server.generation }
  return { simulation, victim, run, box }
}

describe('a session in the box of the daemon and in that of a server', () => {
  it('is recovered once, by who recovered the server, when the node fails later', async () => {
    const { run, box } = setUp()
    const first = await run(2, box)
    const second = await run(3, { kind: 'node' })
    expect([...first.sessions.keys()].sort()).toEqual(['moved', 's0'])
    expect([...second.sessions.keys()]).toEqual(['waiting'])
    expect(second.report).toMatchObject({ outcome: 'announced', found: 1 })
  })

  it('keeps its newer state where one node recovers both', async () => {
    const { run, box } = setUp()
    const first = await run(2, box)
    const second = await run(2, { kind: 'node' })
    expect(first.sessions.get('moved')?.payload).toEqual(payloadOf('moved', 2))
    expect(second.sessions.has('moved')).toBe(false)
  })

  it('is left to a recoverer that has claimed the server and has not said yet what it read', async () => {
    const { simulation, victim, run } = setUp()
    const memory = victim.connect({ from: 'recoverer 2' })
    const { box, generation } = victim.server
    await simulation.settle(raiseFence(memory, box, generation))
    await simulation.settle(ClaimHolder.take(memory, box, generation, { recoverer: 2, judge: noSuccession(2) }))
    expect([...(await run(3, { kind: 'node' })).sessions.keys()]).toEqual(['waiting'])
  })

  it('is in the newest state where the whole node is recovered at once', async () => {
    const { run } = setUp()
    const { sessions } = await run(3, { kind: 'node' })
    expect([...sessions.keys()].sort()).toEqual(['moved', 's0', 'waiting'])
    expect(sessions.get('moved')?.payload).toEqual(payloadOf('moved', 2))
  })
})
