/** Machines that recover each other, of which one stops at a given step of its recovery. */
import { expect } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import { Simulation } from '../../fabric/mock/simulation.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { BoxOwner } from '../../region/box-owner.js'
import { decodeClaim, nodeGeneration, type ClaimStep } from '../../region/control.js'
import { ControlWords } from '../../region/region.js'
import { adoptInto } from '../adopter.js'
import { AdoptionNotes, noteStore, type AdoptionSource } from '../adoption-notes.js'
import { recover, type RecoveryReport, type RecoveryTarget } from '../recover.js'
import { lookAtClaim, Successions, type Predecessor, type ReadableRegion, type Succession } from '../succession.js'
import { Witnesses } from '../witness.js'
import { valueOf, Victim } from './victim.js'

export const takeOverAfterMs = 500

/** Lets so many steps pass; whoever takes another waits until it is opened. */
export class Gate {
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
export class Node {
  readonly victim: Victim
  daemon: BoxOwner
  notes: AdoptionNotes
  witnesses: Witnesses
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
    this.witnesses = new Witnesses(this.daemon)
    this.#successions = this.#makeSuccessions()
  }

  /** Another life of its daemon. */
  restart(): void {
    this.daemon.close()
    this.daemon = this.#takeBox()
    this.notes = new AdoptionNotes(this.daemon)
    this.witnesses = new Witnesses(this.daemon)
    this.#successions = this.#makeSuccessions()
    this.notes.giveUpAll()
  }

  #takeBox(): BoxOwner {
    return BoxOwner.take(this.victim.region, { name: 'daemon', daemon: true, nowMs: () => this.#simulation.now() / 1000 })
  }

  #makeSuccessions(): Successions {
    return new Successions({
      recoverer: this.number, notes: this.notes, witnesses: this.witnesses, takeOverAfterMs: this.patienceMs,
      predecessor: (number) => this.peers.get(number), readable: () => this.readable(),
      numberOf: (node) => Number(node.slice(1)), nowMs: () => this.#simulation.now() / 1000,
    })
  }

  readable(): ReadableRegion[] {
    return [...this.peers.values()].flatMap(({ link }) => link ?? [])
  }

  /** What it knows of another one. */
  sees(other: Node, isDown: boolean, gate?: Gate): void {
    this.peers.set(other.number, { isDown, link: { memory: this.#connect(other, gate), header: other.victim.region.header } })
  }

  #connect(other: Node, gate = new Gate(Infinity)): RemoteMemory {
    return gated(other.victim.connect({ from: `n${this.number}` }), gate)
  }

  async look(other: Node, target: RecoveryTarget = { kind: 'node' }): Promise<Succession> {
    const { node, incarnation } = other.victim.region.header
    const source: AdoptionSource = { node, incarnation, target: target.kind === 'node' ? 'node' : target.box }
    return await lookAtClaim({ memory: this.#connect(other), header: other.victim.region.header }, source, target.kind === 'node' ? nodeGeneration : target.generation, (...held) => this.#successions.judge(...held))
  }

  async recover(other: Node, gate = new Gate(Infinity), target: RecoveryTarget = { kind: 'node' }): Promise<RecoveryReport | undefined> {
    const { daemon, notes, witnesses } = this
    try {
      return await recover({
        memory: this.#connect(other, gate), header: other.victim.region.header, target, recoverer: this.number, notes, witnesses,
        judgeClaim: (...held) => this.#successions.judge(...held),
        adopt: async (sessions) => {
          const half = sessions.length >> 1
          const [first, second] = [await adoptInto(daemon, sessions.slice(0, half)), (await gate.step(), await adoptInto(daemon, sessions.slice(half)))]
          return { adopted: first.adopted + second.adopted, known: first.known + second.known, refused: first.refused + second.refused }
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

export interface Cluster {
  readonly simulation: Simulation
  readonly a: Node
  readonly r: Node
  readonly q: Node
  /** Recovers R in some of the tests. */
  readonly p: Node
  /** And recovers P. */
  readonly s: Node
  readonly gate: Gate
  /** The first recovery, which goes on when the gate is opened. */
  readonly first: Promise<RecoveryReport | undefined>
}

/** A has failed; R recovers it, and stops after so many steps. */
export async function stopped(steps: number, target: (a: Node) => RecoveryTarget = () => ({ kind: 'node' }), patienceMs = takeOverAfterMs): Promise<Cluster> {
  const simulation = new Simulation(Number.isFinite(steps) ? steps : 0)
  const [a, r, q, p, s] = [new Node(simulation, 1, 6), new Node(simulation, 2, 2), new Node(simulation, 3, 0, patienceMs), new Node(simulation, 4, 0), new Node(simulation, 5, 0)] as const
  q.sees(r, false)
  r.sees(q, false)
  const gate = new Gate(steps)
  const first = r.recover(a, gate, target(a))
  await simulation.advance(100_000)
  return { simulation, a, r, q, p, s, gate, first }
}

/** How many steps a recovery has that nothing stops. */
export async function stepsOf(target?: (a: Node) => RecoveryTarget): Promise<number> {
  const cluster = await stopped(Infinity, target)
  expect(await cluster.simulation.settle(cluster.first)).toMatchObject({ outcome: 'announced' })
  closeAll(cluster)
  return cluster.gate.taken
}

export function closeAll({ a, r, q, p, s }: Cluster): void {
  for (const node of [a, r, q, p, s]) node.close()
}

/** Each of A's sessions, by who serves it; and those of R, once R is fenced. */
function servers({ a, ...others }: Cluster): Record<string, string[]> {
  const ids = [...a.victim.acknowledged.keys(), ...(others.r.daemon.fenced ? others.r.victim.acknowledged.keys() : [])]
  const serving = (['r', 'q', 'p', 's'] as const).filter((name) => !others[name].daemon.fenced)
  return Object.fromEntries(ids.map((id) => [id, serving.filter((name) => others[name].served.has(id))]))
}

export const box = (a: Node): RecoveryTarget => ({ kind: 'box', box: a.victim.server.box, generation: a.victim.server.generation })

/** As a daemon does it: tries, and looks out for what others have not come to an end with. */
export async function recoverUntilOver(cluster: Cluster, target: RecoveryTarget, by = cluster.q, of = cluster.a): Promise<void> {
  const report = await by.recover(of, undefined, target)
  for (const unsettled of report?.unsettled ?? []) await lookOut(cluster, unsettled, by, of)
}

export async function lookOut(cluster: Cluster, target: RecoveryTarget, by = cluster.q, of = cluster.a): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await cluster.simulation.sleep(takeOverAfterMs * 200)
    const succession = await by.look(of, target)
    if (succession === 'leave') return
    if (succession === 'take-over') return await recoverUntilOver(cluster, target, by, of)
  }
}

/** Does nobody need A's memory any more, by its claim? */
export function stepOf({ a }: Cluster, target: RecoveryTarget): ClaimStep | undefined {
  return decodeClaim(new ControlWords(a.victim.region).claim(target.kind === 'node' ? 'node' : target.box))?.step
}

export function expectOneServer(cluster: Cluster, only?: string): void {
  const { a, r, q, p, s, gate } = cluster
  for (const [id, by] of Object.entries(servers(cluster))) expect(by, `${id}, stopped after ${gate.taken} steps`).toEqual(only ? [only] : [expect.any(String)])
  for (const [id, value] of [...q.served, ...p.served, ...s.served]) expect(value).toBe(a.victim.acknowledged.get(id) ?? r.victim.acknowledged.get(id))
  for (const error of [...r.errors, ...q.errors, ...p.errors, ...s.errors]) expect(isBackdoorsError(error) && error.code).toBeOneOf(r.daemon.fenced ? ['CLAIM_LOST', 'FENCED'] : ['CLAIM_LOST'])
  closeAll(cluster)
}

/** How many steps R takes until its claim says `adopted`, and its note does not yet. */
export async function stepsToAdopted(): Promise<number> {
  for (let steps = 0; ; steps++) {
    const cluster = await stopped(steps)
    const isThere = stepOf(cluster, { kind: 'node' }) === 'adopted'
    const state = cluster.r.notes.all()[0]?.state
    closeAll(cluster)
    if (!isThere) continue
    if (state !== 'adopting') throw new Error(`its note says ${String(state)} already`)
    return steps
  }
}
