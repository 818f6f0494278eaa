import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import type { Conditions } from '../fabric/mock/conditions.js'
import { Simulation } from '../fabric/mock/simulation.js'
import { BoxOwner } from '../region/box-owner.js'
import { decodeClaim, recoverySteps } from '../region/control.js'
import { readHeader } from '../region/region-reader.js'
import { ControlWords } from '../region/region.js'
import { boxOffset } from '../region/layout.js'
import { codeOf } from '../region/testing/code-of.js'
import { safeguardsWithout, type Canary } from '../safeguards.js'
import { adoptInto } from './adopter.js'
import { recover, type RecoveredSession, type RecoveryOptions, type RecoveryReport, type RecoveryTarget } from './recover.js'
import { payloadOf, scratchRegion, smallGeometry, valueOf, Victim } from './testing/victim.js'

const seeds = Array.from({ length: 40 }, (_, i) => i + 1)
const header = (victim: Victim) => victim.region.header
const webBox = (victim: Victim): RecoveryTarget => ({ kind: 'box', box: victim.server.box, generation: victim.server.generation })

/** As it comes out of a dead node's box. */
const recovered = (id: string): RecoveredSession => ({
  store: 'carts', id, sequence: 7, schemaVersion: 1, committedAtMs: 1, ttlMs: 0, remainingMs: 0, stale: false, adoptedFrom: undefined,
  payload: payloadOf(id, 1), origin: { node: 'dead', incarnation: 1n, box: 1, sequence: 7 },
})

/** A recoverer that keeps what it adopted, and what it announced. */
class Recoverer {
  readonly adopted = new Map<string, RecoveredSession>()
  announced = false
  report: RecoveryReport | undefined
  error: unknown

  constructor(readonly number: number) {}

  options(victim: Victim, simulation: Simulation, target: RecoveryTarget, conditions: Partial<Conditions> = {}, canary?: Canary): RecoveryOptions {
    return {
      memory: victim.connect({ from: `recoverer ${this.number}`, conditions }),
      header: header(victim),
      target,
      recoverer: this.number,
      adopt: async (sessions) => {
        for (const session of sessions) this.adopted.set(session.id, session)
        return { adopted: sessions.length, known: 0, refused: 0 }
      },
      announce: async () => void (this.announced = true),
      nowMs: () => simulation.now() / 1000,
      safeguards: safeguardsWithout(canary),
    }
  }

  async run(options: RecoveryOptions): Promise<void> {
    try {
      this.report = await recover(options)
    } catch (error) {
      this.error = error
    }
  }
}

/** What breaks the promises: acknowledged but not recovered, never committed, or adopted twice. */
function violations(victim: Victim, recoverers: readonly Recoverer[]): string[] {
  const found: string[] = []
  const winners = recoverers.filter(({ announced }) => announced)
  if (winners.length !== 1) found.push(`${winners.length} recoverers announced`)
  for (const winner of winners) {
    for (const [id, acknowledged] of victim.acknowledged) {
      const session = winner.adopted.get(id)
      const value = session && valueOf(id, session.payload)
      if (session === undefined) found.push(`${id} lost`)
      else if (value === undefined || value > (victim.tried.get(id) ?? 0)) found.push(`${id} invented`)
      else if (value < acknowledged) found.push(`${id} lost: ${value} of ${acknowledged}`)
    }
  }
  return found
}

/** Two recoverers race for a server that goes on committing while it is being fenced; reads may be torn. */
async function race(seed: number, target: 'box' | 'node', canary?: Canary): Promise<{ found: string[]; hash: string }> {
  const simulation = new Simulation(seed)
  const victim = new Victim(simulation, 'a', { safeguards: safeguardsWithout(canary) })
  try {
    victim.keepCommitting(3000)
    const conditions = { delayUs: 2, jitterUs: 20, tearProbability: 0.5 }
    const recoverers = [new Recoverer(1), new Recoverer(2)]
    const chosen: RecoveryTarget = target === 'node' ? { kind: 'node' } : webBox(victim)
    const runs = recoverers.map(async (recoverer, i) => {
      await simulation.sleep(100 + i * simulation.random('start').integer(0, 40))
      await recoverer.run(recoverer.options(victim, simulation, chosen, conditions, canary))
    })
    await simulation.settle(Promise.all(runs))
    await simulation.run(4000)
    return { found: violations(victim, recoverers), hash: simulation.trace.hash }
  } finally {
    victim.close()
  }
}

describe.each(['box', 'node'] as const)('recovering a %s that is merely slow', (target) => {
  it.each(seeds)('loses no acknowledged commit, invents nothing, and is done by one (seed %i)', async (seed) => {
    expect((await race(seed, target)).found).toEqual([])
  })

  it('replays the same run from the same seed', async () => {
    expect((await race(7, target)).hash).toBe((await race(7, target)).hash)
    expect((await race(7, target)).hash).not.toBe((await race(8, target)).hash)
  })
})

describe('the safeguards', () => {
  it.each(['fence', 'claim'] as const)('are missed when %s is off', async (canary) => {
    const found = await Promise.all(seeds.slice(0, 10).map((seed) => race(seed, 'box', canary)))
    expect(found.flatMap((run) => run.found).length).toBeGreaterThan(0)
  })

  it.each([[undefined, 0], ['crc', 1]] as const)('of damaged memory: without %s, at least %i sessions are invented', async (canary, atLeast) => {
    const simulation = new Simulation(3)
    const victim = new Victim(simulation, 'a', { sessions: 16 })
    const { plan } = header(victim)
    const start = boxOffset(plan, victim.server.box)
    victim.node.rot(400, [{ offset: start + plan.heapInBox, length: 16 * 1024 }])
    const recoverer = new Recoverer(1)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, webBox(victim), {}, canary)))
    const invented = [...recoverer.adopted].filter(([id, session]) => valueOf(id, session.payload) === undefined)
    if (atLeast === 0) expect(invented).toEqual([])
    else expect(invented.length).toBeGreaterThanOrEqual(atLeast)
    const { corrupt = 0, stale = 0, found = 0 } = recoverer.report ?? {}
    expect(found + corrupt).toBe(16)
    if (atLeast === 0) expect(corrupt + stale).toBeGreaterThan(0)
    victim.close()
  })
})

describe('a commit that is caught by the fence halfway', () => {
  it('is not acknowledged, although it may be recovered', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const words = new BigUint64Array(victim.region.memory.buffer, 4096, 512)
    victim.midCommit = () => void (words[(victim.server.box + 1) * 2] = BigInt(victim.server.generation))
    victim.commit('s1', 2)
    expect(victim.fenced).toBe(true)
    expect(victim.acknowledged.get('s1')).toBe(1)
    const recoverer = new Recoverer(1)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, webBox(victim))))
    expect(violations(victim, [recoverer])).toEqual([])
    victim.close()
  })
})

describe('a recovery', () => {
  it('goes through its steps in their order, and leaves them in the claim word', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const recoverer = new Recoverer(9)
    const steps: string[] = []
    await simulation.settle(recoverer.run({ ...recoverer.options(victim, simulation, { kind: 'node' }), onStep: (step) => void steps.push(step) }))
    expect(steps).toEqual([...recoverySteps])
    const memory = victim.connect()
    const claim = decodeClaim(await simulation.settle(memory.compareAndSwap(4096 + 8, 0n, 0n)))
    expect(claim).toEqual({ recoverer: 9, term: 1, step: 'announced', generation: 1 })
    victim.close()
  })

  it('leaves a box alone whose server closed it', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const target = webBox(victim)
    victim.server.close()
    const recoverer = new Recoverer(1)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, target)))
    expect(recoverer.report?.outcome).toBe('closed')
    expect(recoverer.announced).toBe(false)
    victim.region.memory.close()
  })

  it('leaves a server alone that restarted before the fence', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const target = webBox(victim)
    victim.server.close()
    const restarted = BoxOwner.take(victim.region, { name: 'web' })
    const recoverer = new Recoverer(1)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, target)))
    expect(recoverer.report?.outcome).toBe('superseded')
    expect(restarted.sessions.get(restarted.sessions.store('carts'), 's0')).toBeDefined()
    expect(restarted.fenced).toBe(false)
    victim.region.memory.close()
  })

  it('can be run again by who claimed it, and takes up where it stopped', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const recoverer = new Recoverer(1)
    const failing = { ...recoverer.options(victim, simulation, { kind: 'node' }), adopt: () => Promise.reject(new Error('the daemon stops here')) }
    await simulation.settle(recoverer.run(failing))
    expect(recoverer.announced).toBe(false)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, { kind: 'node' })))
    expect(recoverer.report?.outcome).toBe('announced')
    expect(violations(victim, [recoverer])).toEqual([])
    victim.close()
  })

  it('of one box tells its machine how far it read, and keeps to that when it is run again', async () => {
    const simulation = new Simulation(1)
    // What a commit does that has passed its first look at the fence: a server that never looks does it at any time.
    const victim = new Victim(simulation, 'a', { safeguards: safeguardsWithout('fence') })
    const recoverer = new Recoverer(1)
    const words = new ControlWords(victim.region)
    const { box, generation } = victim.server
    const told = victim.server.sessions.sequence
    const failing = { ...recoverer.options(victim, simulation, webBox(victim)), adopt: () => Promise.reject(new Error('the daemon stops here')) }
    await simulation.settle(recoverer.run(failing))
    expect(decodeClaim(words.claim(box))?.step).toBe('extracted')
    expect([words.fence(box), words.extracted(box)]).toEqual([generation, told])
    victim.commit('s3', 2)
    victim.commit('late', 1)
    await simulation.settle(recoverer.run(recoverer.options(victim, simulation, webBox(victim))))
    expect(recoverer.report?.outcome).toBe('announced')
    expect(recoverer.adopted.has('late')).toBe(false)
    expect(valueOf('s3', recoverer.adopted.get('s3')?.payload ?? new Uint8Array())).toBe(1)
    expect(words.extracted(box)).toBe(told)
    victim.close()
  })

  it('says MEMORY_LOST when the memory vanishes midway, and never hangs', async () => {
    for (const seed of seeds) {
      const simulation = new Simulation(seed)
      const victim = new Victim(simulation, 'a')
      const recoverer = new Recoverer(1)
      simulation.schedule(simulation.random('death').integer(1, 60), () => victim.node.die())
      await simulation.settle(recoverer.run(recoverer.options(victim, simulation, { kind: 'node' }, { delayUs: 3 })))
      if (recoverer.error !== undefined) expect(isBackdoorsError(recoverer.error, 'MEMORY_LOST')).toBe(true)
      else expect(recoverer.report?.outcome).toBe('announced')
      victim.close()
    }
  })

  it('adopts with the origin, so that a second failure recovers the same state, and nothing twice', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const second = scratchRegion('b')
    const daemonBox = BoxOwner.take(second, { name: 'daemon', daemon: true })
    const recoverer = new Recoverer(1)
    const options = { ...recoverer.options(victim, simulation, { kind: 'node' }), adopt: (sessions: readonly RecoveredSession[]) => adoptInto(daemonBox, sessions) }
    await simulation.settle(recoverer.run(options))
    expect(recoverer.report).toMatchObject({ found: 8, adopted: 8, known: 0 })
    expect(daemonBox.sessions.get(daemonBox.sessions.store('carts'), 's3')?.origin).toMatchObject({ node: 'a', incarnation: header(victim).incarnation, box: victim.server.box })
    const sessions = [...recoverer.adopted.values()]
    expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: 0, known: 0, refused: 0 })
    victim.close()
    daemonBox.close()
    second.memory.close()
  })

  describe.each([
    ['SESSION_ID_INVALID', { id: 'a\0b' }],
    ['INVALID_ARGUMENT for its store', { store: 'x'.repeat(65) }],
    ['INVALID_ARGUMENT for its time to live', { remainingMs: 2 ** 32 }],
    ['SESSION_TOO_LARGE', { payload: new Uint8Array(200 << 10) }],
  ] as const)('of which one session is %s', (_, wrong) => {
    it('adopts its neighbours, and counts that one as refused', async () => {
      const region = scratchRegion('b')
      const daemonBox = BoxOwner.take(region, { name: 'daemon', daemon: true })
      const sessions = [recovered('s1'), { ...recovered('s2'), ...wrong }, recovered('s3')]
      expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: 2, known: 0, refused: 1 })
      expect([...daemonBox.sessions.store('carts').sessions.keys()]).toEqual(['s1', 's3'])
      daemonBox.close()
      region.memory.close()
    })
  })

  it('counts what finds no room as refused, and knows the others when it is run again', async () => {
    const region = scratchRegion('b')
    const daemonBox = BoxOwner.take(region, { name: 'daemon', daemon: true })
    const sessions = Array.from({ length: smallGeometry.sessionsPerBox + 3 }, (_, i) => recovered(`s${i}`))
    expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: smallGeometry.sessionsPerBox, known: 0, refused: 3 })
    expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: 0, known: smallGeometry.sessionsPerBox, refused: 3 })
    daemonBox.close()
    region.memory.close()
  })

  it('puts a session in the place of one that has been damaged here', async () => {
    const region = scratchRegion('b')
    const daemonBox = BoxOwner.take(region, { name: 'daemon', daemon: true })
    const sessions = [recovered('s1'), recovered('s2'), recovered('s3')]
    expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: 3, known: 0, refused: 0 })
    const carts = daemonBox.sessions.store('carts')
    const { offset, length } = daemonBox.sessions.locate(carts, 's2') as { offset: number; length: number }
    region.bytes[offset + length - 1] = (region.bytes[offset + length - 1] as number) ^ 1
    expect(codeOf(() => daemonBox.sessions.get(carts, 's2'))).toBe('RECORD_CORRUPT')
    expect(await adoptInto(daemonBox, sessions)).toEqual({ adopted: 1, known: 2, refused: 0 })
    expect(valueOf('s2', daemonBox.sessions.get(carts, 's2')?.payload ?? new Uint8Array())).toBe(1)
    daemonBox.close()
    region.memory.close()
  })

  it('ends with FENCED where the adopting node is fenced, and with CLOSED where it has closed its box', async () => {
    const codeOfAdoption = (box: BoxOwner): Promise<unknown> => adoptInto(box, [recovered('s1')]).catch((error: unknown) => isBackdoorsError(error) && error.code)
    for (const code of ['FENCED', 'CLOSED'] as const) {
      const region = scratchRegion('b')
      const daemonBox = BoxOwner.take(region, { name: 'daemon', daemon: true })
      if (code === 'FENCED') new BigUint64Array(region.memory.buffer, 4096, 1)[0] = 1n
      else daemonBox.close()
      expect(await codeOfAdoption(daemonBox)).toBe(code)
      daemonBox.close()
      region.memory.close()
    }
  })

  it('finds the region of a peer by its header alone', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    expect(await simulation.settle(readHeader(victim.connect()))).toEqual(header(victim))
    victim.close()
  })
})

describe('sessions that found no room', () => {
  it.each([[0, 'announced'], [1, 'adopted']] as const)('%i of them leave the claim at %s, for the memory they are in is needed still', async (refused, step) => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    const recoverer = new Recoverer(1)
    const options = recoverer.options(victim, simulation, { kind: 'node' })
    await simulation.settle(recoverer.run({ ...options, adopt: async (sessions) => ({ adopted: sessions.length - refused, known: 0, refused }) }))
    expect(recoverer.report).toMatchObject({ outcome: 'announced', refused })
    expect(recoverer.announced).toBe(true)
    expect(decodeClaim(new ControlWords(victim.region).claim('node'))?.step).toBe(step)
    victim.close()
  })
})

describe('further fencing', () => {
  it('is not asked for a node that another has recovered already', async () => {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'a')
    try {
      const [first, later] = [new Recoverer(1), new Recoverer(2)]
      let fenced = 0
      const fenceExternally = (): Promise<void> => Promise.resolve(void fenced++)
      const run = (recoverer: Recoverer): Promise<void> => recoverer.run({ ...recoverer.options(victim, simulation, { kind: 'node' }), fenceExternally })
      await simulation.settle(run(first))
      await simulation.settle(run(later))
      expect([first.report?.outcome, later.report?.outcome, fenced]).toEqual(['announced', 'claimed-by-other', 1])
      // Who recovered it may go on with it.
      await simulation.settle(run(first))
      expect([first.report?.outcome, fenced]).toEqual(['announced', 2])
    } finally {
      victim.close()
    }
  })
})
