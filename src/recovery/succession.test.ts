/** A recoverer stops at any of its steps, and another succeeds it: every session is served by one node, in its newest state. */
import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { isBackdoorsError } from '../errors.js'
import { BoxOwner } from '../region/box-owner.js'
import { decodeClaim, nodeGeneration } from '../region/control.js'
import { ControlWords } from '../region/region.js'
import { adoptInto } from './adopter.js'
import { AdoptionNotes, noteStore, type AdoptionSource } from './adoption-notes.js'
import { recover, type RecoveredSession, type RecoveryReport, type RecoveryTarget } from './recover.js'
import { lookAtClaim, Successions, type Predecessor, type Succession } from './succession.js'
import { payloadOf, smallGeometry, valueOf, Victim } from './testing/victim.js'

const takeOverAfterMs = 500

/** Lets so many steps pass; whoever takes another waits until it is opened. */
class Gate {
  taken = 0
  #open: (() => void) | undefined
  readonly #opened = new Promise<void>((resolve) => (this.#open = resolve))

  constructor(private readonly steps: number) {}

  async step(): Promise<void> {
    if (++this.taken > this.steps) await this.#opened
  }

  open(): void {
    this.#open?.()
  }
}

/** A node: its lent region, its daemon's box, and what it serves. */
class Node {
  readonly victim: Victim
  daemon: BoxOwner
  notes: AdoptionNotes
  readonly served = new Map<string, number>()
  readonly peers = new Map<number, Predecessor>()
  readonly errors: unknown[] = []
  readonly #simulation: Simulation
  #successions: Successions

  constructor(simulation: Simulation, readonly number: number, sessions: number, private readonly patienceMs = takeOverAfterMs) {
    this.#simulation = simulation
    this.victim = new Victim(simulation, `n${number}`, { sessions: 0 })
    for (let i = 0; i < sessions; i++) this.victim.commit(`n${number}-s${i}`, 1)
    this.daemon = this.#takeBox()
    this.notes = new AdoptionNotes(this.daemon)
    this.#successions = this.#makeSuccessions()
  }

  /** Another life of its daemon. */
  restart(): void {
    this.daemon.close()
    this.daemon = this.#takeBox()
    this.notes = new AdoptionNotes(this.daemon)
    this.#successions = this.#makeSuccessions()
    this.notes.giveUpAll()
  }

  #takeBox(): BoxOwner {
    return BoxOwner.take(this.victim.region, { name: 'daemon', daemon: true, nowMs: () => this.#simulation.now() / 1000 })
  }

  #makeSuccessions(): Successions {
    return new Successions({ recoverer: this.number, notes: this.notes, predecessor: (number) => this.peers.get(number), takeOverAfterMs: this.patienceMs, nowMs: () => this.#simulation.now() / 1000 })
  }

  /** What it knows of another one. */
  sees(other: Node, isDown: boolean): void {
    this.peers.set(other.number, { isDown, link: { memory: this.#connect(other), header: other.victim.region.header } })
  }

  #connect(other: Node, gate = new Gate(Infinity)): RemoteMemory {
    return gated(other.victim.connect({ from: `n${this.number}` }), gate)
  }

  async look(other: Node, target: RecoveryTarget = { kind: 'node' }): Promise<Succession> {
    const { node, incarnation } = other.victim.region.header
    const source: AdoptionSource = { node, incarnation, target: target.kind === 'node' ? 'node' : target.box }
    return await lookAtClaim(this.#connect(other), source, target.kind === 'node' ? nodeGeneration : target.generation, (...held) => this.#successions.judge(...held))
  }

  async recover(other: Node, gate = new Gate(Infinity), target: RecoveryTarget = { kind: 'node' }): Promise<RecoveryReport | undefined> {
    const { daemon, notes } = this
    try {
      return await recover({
        memory: this.#connect(other, gate), header: other.victim.region.header, target, recoverer: this.number, notes,
        judgeClaim: (...held) => this.#successions.judge(...held),
        adopt: async (sessions) => {
          const half = sessions.length >> 1
          const [first, second] = [await adoptInto(daemon, sessions.slice(0, half)), (await gate.step(), await adoptInto(daemon, sessions.slice(half)))]
          return { adopted: first.adopted + second.adopted, known: first.known + second.known, refused: 0 }
        },
        announce: async ({ boxes }) => {
          this.#serve(other, boxes)
          await gate.step()
        },
        nowMs: () => this.#simulation.now() / 1000,
        pause: (ms) => this.#simulation.sleep(ms * 1000),
      })
    } catch (error) {
      this.errors.push(error)
      return undefined
    }
  }

  /** As servers take sessions over: what is fenced meanwhile they do not get. */
  #serve(other: Node, boxes: readonly number[]): void {
    if (this.daemon.fenced) return
    for (const store of this.daemon.sessions.stores()) {
      if (store.name === noteStore) continue
      for (const id of store.sessions.keys()) {
        const version = this.daemon.sessions.get(store, id)
        if (version?.origin?.node !== other.victim.region.header.node || !boxes.includes(version.origin.box)) continue
        this.served.set(id, valueOf(id, version.payload) ?? -1)
      }
    }
  }

  close(): void {
    this.victim.close()
  }
}

function gated(memory: RemoteMemory, gate: Gate): RemoteMemory {
  return new Proxy(memory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return async (...args: unknown[]): Promise<unknown> => {
        await gate.step()
        const result: unknown = await (value as (...given: unknown[]) => unknown).apply(target, args)
        await gate.step()
        return result
      }
    },
  })
}

interface Cluster {
  readonly simulation: Simulation
  readonly a: Node
  readonly r: Node
  readonly q: Node
  /** Recovers R in some of the tests. */
  readonly p: Node
  readonly gate: Gate
  /** The first recovery, which goes on when the gate is opened. */
  readonly first: Promise<RecoveryReport | undefined>
}

/** A has failed; R recovers it, and stops after so many steps. */
async function stopped(steps: number, target: (a: Node) => RecoveryTarget = () => ({ kind: 'node' })): Promise<Cluster> {
  const simulation = new Simulation(Number.isFinite(steps) ? steps : 0)
  const [a, r, q, p] = [new Node(simulation, 1, 6), new Node(simulation, 2, 2), new Node(simulation, 3, 0), new Node(simulation, 4, 0)] as const
  q.sees(r, false)
  r.sees(q, false)
  const gate = new Gate(steps)
  const first = r.recover(a, gate, target(a))
  await simulation.advance(100_000)
  return { simulation, a, r, q, p, gate, first }
}

/** How many steps a recovery has that nothing stops. */
async function stepsOf(target?: (a: Node) => RecoveryTarget): Promise<number> {
  const { simulation, a, r, q, p, gate, first } = await stopped(Infinity, target)
  expect(await simulation.settle(first)).toMatchObject({ outcome: 'announced' })
  for (const node of [a, r, q, p]) node.close()
  return gate.taken
}

/** Each of A's sessions, by who serves it; and those of R, once R is fenced. */
function servers({ a, r, q, p }: Cluster): Record<string, string[]> {
  const isOut = r.daemon.fenced
  const ids = [...a.victim.acknowledged.keys(), ...(isOut ? r.victim.acknowledged.keys() : [])]
  return Object.fromEntries(ids.map((id) => [id, [...(!isOut && r.served.has(id) ? ['r'] : []), ...(q.served.has(id) ? ['q'] : []), ...(p.served.has(id) ? ['p'] : [])]]))
}

const box = (a: Node): RecoveryTarget => ({ kind: 'box', box: a.victim.server.box, generation: a.victim.server.generation })

/** As a daemon does it: tries, and looks out for what others have not come to an end with. */
async function recoverUntilOver(cluster: Cluster, target: RecoveryTarget): Promise<void> {
  const report = await cluster.q.recover(cluster.a, undefined, target)
  for (const unsettled of report?.unsettled ?? []) await lookOut(cluster, unsettled)
}

async function lookOut(cluster: Cluster, target: RecoveryTarget): Promise<void> {
  const { simulation, a, q } = cluster
  for (let i = 0; i < 10; i++) {
    await simulation.sleep(takeOverAfterMs * 200)
    const succession = await q.look(a, target)
    if (succession === 'leave') return
    if (succession === 'take-over') return await recoverUntilOver(cluster, target)
  }
}

function expectOneServer(cluster: Cluster, only?: string): void {
  const { a, r, q, p, gate } = cluster
  for (const [id, by] of Object.entries(servers(cluster))) expect(by, `${id}, stopped after ${gate.taken} steps`).toEqual(only ? [only] : [expect.any(String)])
  for (const [id, value] of [...q.served, ...p.served]) expect(value).toBe(a.victim.acknowledged.get(id) ?? r.victim.acknowledged.get(id))
  for (const error of [...r.errors, ...q.errors, ...p.errors]) expect(isBackdoorsError(error) && error.code).toBeOneOf(r.daemon.fenced ? ['CLAIM_LOST', 'FENCED'] : ['CLAIM_LOST'])
  for (const node of [a, r, q, p]) node.close()
}

describe.each([['a node', undefined], ['a box', box]] as const)('the recoverer of %s', async (_, target) => {
  const all = Array.from({ length: await stepsOf(target) + 1 }, (_, i) => i)
  const what = (a: Node): RecoveryTarget => target?.(a) ?? { kind: 'node' }

  it.each(all)('dies after %i steps and is recovered, before its recovery is taken over', async (steps) => {
    const cluster = await stopped(steps, target)
    const { simulation, a, r, q, gate, first } = cluster
    q.sees(r, true)
    expect(await simulation.settle(q.recover(r))).toMatchObject({ outcome: 'announced' })
    await simulation.settle(recoverUntilOver(cluster, what(a)))
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

describe('a note', () => {
  it('makes drafts of what is adopted after it only', async () => {
    const simulation = new Simulation(1)
    const r = new Node(simulation, 2, 0)
    const session = (id: string): RecoveredSession => ({
      store: 'carts', id, sequence: 7, schemaVersion: 1, committedAtMs: 1, ttlMs: 0, remainingMs: 0, stale: false, adoptedFrom: undefined,
      payload: payloadOf(id, 1), origin: { node: 'n1', incarnation: 1n, box: 1, sequence: 7 },
    })
    await adoptInto(r.daemon, [session('earlier')])
    r.notes.begin({ node: 'n1', incarnation: 1n, target: 1 }, [1])
    await adoptInto(r.daemon, [session('draft')])
    r.notes.begin({ node: 'n1', incarnation: 1n, target: 1 }, [1])
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
  it('shows that it is at work, and is not taken over', async () => {
    const simulation = new Simulation(1)
    const patienceMs = 2500
    const [a, r, q] = [new Node(simulation, 1, 6), new Node(simulation, 2, 0), new Node(simulation, 3, 0, patienceMs)]
    q.sees(r, false)
    const slow = new Gate(Infinity)
    slow.step = () => simulation.sleep(300_000)
    const recovery = r.recover(a, slow)
    const looks: Succession[] = []
    const looking = (async () => {
      for (let i = 0; i < 100; i++) {
        await simulation.sleep(200_000)
        looks.push(await q.look(a))
      }
    })()
    await simulation.settle(Promise.all([recovery, looking]))
    expect(await recovery).toMatchObject({ outcome: 'announced', adopted: 6 })
    expect(looks).not.toContain('take-over')
    for (const node of [a, r, q]) node.close()
  })
})
