/** A recoverer stops where its claim and its note do not say the same yet, and nobody reaches both: others bear witness. */
import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { decodeClaim, encodeClaim, type ClaimStep } from '../region/control.js'
import { control, controlPairOffset } from '../region/layout.js'
import { ControlWords } from '../region/region.js'
import { closeAll, expectOneServer, Gate, lookOut, Node, recoverUntilOver, stepOf, stepsToAdopted, stopped } from './testing/succession-cluster.js'
import { smallGeometry } from './testing/victim.js'
import { writtenIn } from './witness.js'

describe('a recoverer whose claim says adopted, and whose note does not', async () => {
  const steps = await stepsToAdopted()
  const ofItsRecoverer = await (async () => {
    const cluster = await stopped(steps)
    const gate = new Gate(Infinity)
    await cluster.simulation.settle(cluster.p.recover(cluster.r, gate))
    closeAll(cluster)
    return gate.taken
  })()

  it.each(Array.from({ length: ofItsRecoverer + 1 }, (_, i) => i))('is recovered by one that dies after %i steps; who looks after the claim can read neither, but who recovers them', async (stepsOfP) => {
    const cluster = await stopped(steps)
    const { simulation, r, q, p, s, gate, first } = cluster
    for (const dead of [r, p]) q.peers.set(dead.number, { isDown: true, link: undefined })
    q.sees(s, false)
    s.sees(p, true)
    s.sees(r, true)
    const gateOfP = new Gate(stepsOfP)
    const second = p.recover(r, gateOfP)
    await simulation.advance(100_000)
    expect(await simulation.settle(s.recover(p))).toMatchObject({ outcome: 'announced' })
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }, s, r))
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }))
    expect(stepOf(cluster, { kind: 'node' })).toBe('announced')
    gate.open()
    gateOfP.open()
    await simulation.settle(Promise.all([first, second]))
    expectOneServer(cluster)
  })

  it('is known by a witness to its own next life, which has lost all memory', async () => {
    const cluster = await stopped(steps)
    const { simulation, a, r, p } = cluster
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    const next = new Node(simulation, r.number, 0)
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }, next))
    expect(next.served.size).toBe(0)
    next.sees(p, false)
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }, next))
    expect(next.served.size).toBe(a.victim.acknowledged.size)
    expect(stepOf(cluster, { kind: 'node' })).toBe('announced')
    expect([...p.served.keys()].filter((id) => a.victim.acknowledged.has(id))).toEqual([])
    next.close()
    closeAll(cluster)
  })

  it('is waited for as long as nobody has recovered it', async () => {
    const cluster = await stopped(steps)
    const { simulation, a, r, q, p } = cluster
    q.peers.set(r.number, { isDown: true, link: undefined })
    q.sees(p, false)
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }))
    expect(await simulation.settle(q.look(a))).toBe('wait')
    expect(q.served.size).toBe(0)
    closeAll(cluster)
  })

  it.each([['adopted', steps], ['extracted', steps - 1]] as const)('at claim %s is not taken at the word of a witness in its next life, which holds the claim anew', async (claimSays, stepsOfR) => {
    const cluster = await stopped(stepsOfR)
    const { simulation, a, r, q, p } = cluster
    expect([stepOf(cluster, { kind: 'node' }), r.notes.all()[0]?.state]).toEqual([claimSays, 'adopting'])
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    const next = new Node(simulation, r.number, 0)
    next.notes.inherit(writtenIn(r.victim.region).notes)
    const gate = new Gate(Infinity)
    gate.step = async () => (next.notes.all()[0]?.state === 'adopted' ? await new Promise(() => undefined) : undefined)
    void next.recover(a, gate)
    await simulation.advance(100_000)
    expect([stepOf(cluster, { kind: 'node' }), next.served.size]).toEqual(['adopted', a.victim.acknowledged.size])
    q.peers.set(r.number, { isDown: true, link: undefined })
    q.sees(p, false)
    expect(await simulation.settle(q.look(a))).toBe('wait')
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }))
    expect(q.served.size).toBe(0)
    next.close()
    closeAll(cluster)
  })
})

describe('a recoverer that has adopted all, and stops before its claim says announced', async () => {
  const steps = await (async () => {
    for (let i = 0; ; i++) {
      const cluster = await stopped(i)
      const isThere = cluster.r.notes.all()[0]?.state === 'adopted'
      const step = stepOf(cluster, { kind: 'node' })
      closeAll(cluster)
      if (isThere) return step === 'adopted' ? i : expect.unreachable()
    }
  })()

  it('leaves a claim that waits for those of others on boxes of the same node', async () => {
    const cluster = await stopped(steps)
    const { simulation, a, r, q, p } = cluster
    const others = new BigUint64Array(a.victim.region.memory.buffer, controlPairOffset(3) + control.claim, 1)
    const claimed = (step: ClaimStep): void => void (others[0] = encodeClaim({ recoverer: 9, term: 1, step, generation: 1 }))
    q.sees(r, true)
    claimed('extracted')
    expect(await simulation.settle(q.look(a))).toBe('wait')
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    expect(await simulation.settle(q.look(a))).toBe('wait')
    expect(stepOf(cluster, { kind: 'node' })).toBe('adopted')
    claimed('announced')
    expect(await simulation.settle(q.look(a))).toBe('leave')
    expect(stepOf(cluster, { kind: 'node' })).toBe('announced')
    closeAll(cluster)
  })

  it('is known by a witness where its next life knows nothing of it', async () => {
    const cluster = await stopped(steps)
    const { simulation, a, r, q, p } = cluster
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    const next = new Node(simulation, r.number, 0)
    next.notes.inherit(writtenIn(r.victim.region).notes)
    q.sees(next, false)
    await simulation.settle(lookOut(cluster, { kind: 'node' }))
    expect(stepOf(cluster, { kind: 'node' })).toBe('adopted')
    q.sees(p, false)
    await simulation.settle(lookOut(cluster, { kind: 'node' }))
    expect(stepOf(cluster, { kind: 'node' })).toBe('announced')
    expect(p.served.size).toBe(a.victim.acknowledged.size + r.victim.acknowledged.size)
    next.close()
    closeAll(cluster)
  })

  it('leaves a claim that goes no further where some sessions found no room: they stand in the failed node alone', async () => {
    const simulation = new Simulation(1)
    const [a, r, q, p] = [new Node(simulation, 1, 6), new Node(simulation, 2, 0), new Node(simulation, 3, 0), new Node(simulation, 4, 0)]
    const store = r.daemon.sessions.store('full')
    for (let i = 0; i < smallGeometry.sessionsPerBox - 3; i++) r.daemon.sessions.commit(store, `s${i}`, new Uint8Array(8), { ttlMs: 0, schemaVersion: 1 })
    expect(await simulation.settle(r.recover(a))).toMatchObject({ outcome: 'announced', adopted: 2, refused: 4 })
    expect(r.notes.all()).toMatchObject([{ state: 'incomplete' }])
    // Run again, it refuses nothing any more, and keeps to what it said.
    expect(await simulation.settle(r.recover(a))).toMatchObject({ outcome: 'announced', refused: 0 })
    q.sees(r, true)
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    expect(await simulation.settle(q.look(a))).toBe('leave')
    expect(decodeClaim(new ControlWords(a.victim.region).claim('node'))?.step).toBe('adopted')
    for (const node of [a, r, q, p]) node.close()
  })
})
