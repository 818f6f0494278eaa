/** A recoverer stops at any of its steps, and another succeeds it: every session is served by one node, in its newest state. */
import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { decodeClaim } from '../region/control.js'
import { ControlWords } from '../region/region.js'
import { adoptInto } from './adopter.js'
import { noteStore } from './adoption-notes.js'
import type { RecoveredSession, RecoveryTarget } from './recover.js'
import type { Succession } from './succession.js'
import { box, closeAll, expectOneServer, Gate, lookOut, Node, recoverUntilOver, stepOf, stepsOf, stepsToAdopted, stopped, takeOverAfterMs } from './testing/succession-cluster.js'
import { payloadOf, smallGeometry } from './testing/victim.js'

describe.each([['a node', undefined], ['a box', box]] as const)('the recoverer of %s', async (_, target) => {
  const all = Array.from({ length: await stepsOf(target) + 1 }, (_, i) => i)
  const what = (a: Node): RecoveryTarget => target?.(a) ?? { kind: 'node' }

  it.each(all)('dies after %i steps and is recovered, before its recovery is taken over', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q, gate, first } = cluster
    q.sees(r, true)
    expect(await simulation.settle(q.recover(r))).toMatchObject({ outcome: 'announced' })
    await simulation.settle(recoverUntilOver(cluster, what(a)))
    expect(stepOf(cluster, what(a))).toBe('announced')
    gate.open()
    await simulation.settle(first)
    expectOneServer(cluster, 'q')
  })

  it.each(all)('dies after %i steps, and its recovery is taken over before it is recovered itself', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q, gate, first } = cluster
    q.sees(r, true)
    const before = await simulation.settle(q.recover(a, undefined, what(a)))
    expect(await simulation.settle(q.recover(r))).toMatchObject({ outcome: 'announced' })
    for (const unsettled of before?.unsettled ?? []) await simulation.settle(lookOut(cluster, unsettled))
    gate.open()
    await simulation.settle(first)
    expectOneServer(cluster, 'q')
  })

  it.each(all)('dies after %i steps; one node recovers it, and another takes its recovery over', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q, p, gate, first } = cluster
    q.sees(r, true)
    const [report] = await simulation.settle(Promise.all([p.recover(r), recoverUntilOver(cluster, what(a))]))
    expect(report).toMatchObject({ outcome: 'announced' })
    expect(report?.inherited).toEqual([...p.served.keys()].some((id) => a.victim.acknowledged.has(id)) ? ['n1'] : [])
    gate.open()
    await simulation.settle(first)
    expectOneServer(cluster)
  })

  it.each(all)('dies after %i steps; who recovers it cannot reach its claim, and who looks after the claim cannot read its memory', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q, p, gate, first } = cluster
    q.peers.set(r.number, { isDown: true, link: undefined })
    q.sees(p, false)
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    await simulation.settle(recoverUntilOver(cluster, what(a)))
    expect(stepOf(cluster, what(a))).toBe('announced')
    gate.open()
    await simulation.settle(first)
    expectOneServer(cluster)
  })

  it.each(all)('is merely slow after %i steps: it ends its recovery itself, or finds that it has lost it', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, gate, first } = cluster
    await simulation.settle(recoverUntilOver(cluster, what(a)))
    gate.open()
    await simulation.settle(first)
    await simulation.settle(lookOut(cluster, what(a)))
    const drafts = [...r.daemon.sessions.stores()].filter(({ name }) => name !== noteStore).reduce((count, { sessions }) => count + sessions.size, 0)
    expect(drafts).toBe(r.served.size)
    expectOneServer(cluster)
  })

  it.each(all)('is started anew after %i steps, and has forgotten', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q } = cluster
    // What its earlier life served it goes on serving; what it had drafted is gone.
    const was = [...r.served.keys()]
    r.restart()
    await simulation.settle(recoverUntilOver(cluster, what(a)))
    for (const id of was) expect(q.served.has(id)).toBe(false)
    expectOneServer(cluster)
  })
})

describe('a recoverer that dies when its claim says adopted, and its note does not yet', async () => {
  const steps = await stepsToAdopted()

  it('is succeeded soon once it is up again, and says that it has given up: nobody waits for as long as for one that says nothing', async () => {
    const cluster = await stopped(steps, undefined, 3_600_000)
    const { simulation, a, r, q } = cluster
    expect(await simulation.settle(q.look(a))).toBe('wait')
    r.restart()
    await simulation.settle(simulation.sleep(2_000_000))
    expect(await simulation.settle(q.look(a))).toBe('take-over')
    await simulation.settle(recoverUntilOver(cluster, { kind: 'node' }))
    expectOneServer(cluster, 'q')
  })

  it('is waited for from the first look on, whether it seemed to be down at that or not', async () => {
    const cluster = await stopped(steps)
    const { simulation, a, r, q, p } = cluster
    q.peers.set(r.number, { isDown: true, link: undefined })
    expect(await simulation.settle(q.look(a))).toBe('wait')
    q.peers.set(r.number, { isDown: false, link: undefined })
    expect(await simulation.settle(p.recover(r))).toMatchObject({ outcome: 'announced' })
    q.sees(p, false)
    await simulation.settle(simulation.sleep(takeOverAfterMs * 1000))
    expect(await simulation.settle(q.look(a))).toBe('take-over')
    closeAll(cluster)
  })
})

describe('a note', () => {
  it('makes drafts of what is adopted after it only', async () => {
    const simulation = new Simulation(1)
    const r = new Node(simulation, 2, 0)
    const session = (id: string): RecoveredSession => ({
      store: 'carts', id, sequence: 7, schemaVersion: 1, committedAtMs: 1, ttlMs: 0, remainingMs: 0, stale: false, adoptedFrom: undefined,
      payload: payloadOf(id, 1), origin: { node: 'n1', incarnation: 1n, box: 1, sequence: 7 },
    })
    await adoptInto(r.daemon, [session('earlier')])
    r.notes.begin({ node: 'n1', incarnation: 1n, target: 1, holding: 1, boxes: [{ box: 1, holding: 1 }] })
    await adoptInto(r.daemon, [session('draft')])
    r.notes.begin({ node: 'n1', incarnation: 1n, target: 1, holding: 1, boxes: [{ box: 1, holding: 1 }] })
    r.restart()
    expect([...r.daemon.sessions.store('carts').sessions.keys()]).toEqual(['earlier'])
    expect(r.notes.all()).toMatchObject([{ state: 'abandoned' }])
    r.close()
  })

  it('that finds no room makes a refusal of every session, which is told, and their memory is kept', async () => {
    const simulation = new Simulation(1)
    const [a, r] = [new Node(simulation, 1, 6), new Node(simulation, 2, 0)]
    const store = r.daemon.sessions.store('full')
    for (let i = 0; i < smallGeometry.sessionsPerBox; i++) r.daemon.sessions.commit(store, `s${i}`, new Uint8Array(8), { ttlMs: 0, schemaVersion: 1 })
    expect(await simulation.settle(r.recover(a))).toMatchObject({ outcome: 'announced', found: 6, adopted: 0, refused: 6 })
    expect(r.errors).toEqual([])
    expect(decodeClaim(new ControlWords(a.victim.region).claim('node'))?.step).toBe('adopted')
    a.close()
    r.close()
  })
})

describe('a recovery that takes long', () => {
  it('shows that it is at work, and is not taken over, nor is what it adopted read to ask it', async () => {
    const simulation = new Simulation(1)
    const patienceMs = 2500
    const [a, r, q] = [new Node(simulation, 1, 6), new Node(simulation, 2, 0), new Node(simulation, 3, 0, patienceMs)]
    const asked = new Gate(Infinity)
    q.sees(r, false, asked)
    const slow = new Gate(Infinity)
    slow.step = () => simulation.sleep(300_000)
    const recovery = r.recover(a, slow)
    const looks: Succession[] = []
    let looksAtAdopted = 0
    const looking = (async () => {
      for (let i = 0; i < 100; i++) {
        await simulation.sleep(200_000)
        if (decodeClaim(new ControlWords(a.victim.region).claim('node'))?.step === 'adopted') looksAtAdopted++
        looks.push(await q.look(a))
      }
    })()
    await simulation.settle(Promise.all([recovery, looking]))
    expect(await recovery).toMatchObject({ outcome: 'announced', adopted: 6 })
    expect(looks).not.toContain('take-over')
    expect(looksAtAdopted).toBeGreaterThan(1)
    expect(asked.taken).toBe(0)
    for (const node of [a, r, q]) node.close()
  })
})
