import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { BoxOwner } from '../region/box-owner.js'
import { encodeClaim, encodeFence, holdingOf, type Claim, type ClaimStep } from '../region/control.js'
import { control, controlPairOffset } from '../region/layout.js'
import { Machine } from '../region/testing/memory-region.js'
import { AdoptionNotes, noteStore, type AdoptionState } from './adoption-notes.js'
import { Victim } from './testing/victim.js'
import { decodeWritten, readWritten, stateByWitness, Witnesses, writtenIn, type Witness } from './witness.js'

const claim: Claim = { recoverer: 2, term: 1, step: 'adopted', generation: 1 }
const ofBox: Claim = { ...claim, generation: 5 }
const source = { node: 'first', incarnation: 7n, target: 'node' } as const
const held = { ...source, holding: holdingOf(claim), boxes: [{ box: 1, holding: holdingOf(ofBox) }] }
const numberOf = (node: string): number => ({ second: 2, third: 3 })[node] ?? 9

const witness = (state: AdoptionState, of = 'second'): Witness => ({
  of, ofIncarnation: 'a',
  note: { node: 'first', incarnation: '7', target: 'node', boxes: [1], holding: holdingOf(claim), holdings: [holdingOf(ofBox)], since: 3, state },
})

const daemonOf = (machine: Machine): BoxOwner => BoxOwner.take(machine.open(), { name: 'daemon', daemon: true })

describe('a witness', () => {
  it('tells of the claim that the note was written under, and of those of its boxes', () => {
    const told = [witness('adopting')]
    expect(stateByWitness(told, source, claim, numberOf)).toBe('adopting')
    expect(stateByWitness(told, source, { ...claim, term: 15 }, numberOf)).toBe('adopting')
    expect(stateByWitness(told, { ...source, target: 1 }, ofBox, numberOf)).toBe('adopting')
  })

  it.each<[string, Parameters<typeof stateByWitness>[1], Claim]>([
    ['of another holder', source, { ...claim, recoverer: 3 }],
    ['that is held anew', source, { ...claim, term: 16 }],
    ['of another generation', source, { ...claim, generation: 2 }],
    ['of another node', { ...source, node: 'third' }, claim],
    ['of another incarnation', { ...source, incarnation: 8n }, claim],
    ['of another box', { ...source, target: 2 }, ofBox],
    ['of the box by itself, under which the node\'s would be', { ...source, target: 1 }, claim],
  ])('tells nothing of a claim %s', (_, about, other) => {
    expect(stateByWitness([witness('adopting')], about, other, numberOf)).toBeUndefined()
  })

  it('stands once, whoever tells it, and with every region of the node that it is of', () => {
    const box = daemonOf(new Machine())
    const witnesses = new Witnesses(box)
    const written = { notes: [witness('adopting').note], witnessed: [witness('adopted', 'third')] }
    witnesses.bear({ node: 'second', incarnation: 10n }, written)
    witnesses.bear({ node: 'second', incarnation: 10n }, written)
    witnesses.tellOn([witness('adopting')])
    expect(witnesses.all()).toEqual([witness('adopting'), witness('adopted', 'third')])
    witnesses.bear({ node: 'second', incarnation: 11n }, { notes: written.notes, witnessed: [] })
    expect(witnesses.all()).toHaveLength(3)
    expect(new AdoptionNotes(box).all()).toEqual([])
  })

  it('is told on by the next region of the node that bore it, beside its own drafts', () => {
    const machine = new Machine()
    const box = daemonOf(machine)
    new AdoptionNotes(box).begin(held)
    new AdoptionNotes(box).begin({ ...held, incarnation: 8n })
    new AdoptionNotes(box).confirm({ ...source, incarnation: 8n }, true)
    new Witnesses(box).tellOn([witness('adopting')])
    const left = writtenIn(machine.open())
    expect(left.notes.map(({ incarnation }) => incarnation)).toEqual(['7'])
    expect(left.witnessed).toEqual([witness('adopting')])
  })

  it('that finds no room is none', () => {
    const box = daemonOf(new Machine())
    const store = box.sessions.store('full')
    for (let i = 0; i < box.region.header.plan.sessionsPerBox; i++) box.sessions.commit(store, `s${i}`, new Uint8Array(8), { ttlMs: 0, schemaVersion: 1 })
    const witnesses = new Witnesses(box)
    witnesses.tellOn([witness('adopting')])
    expect(witnesses.all()).toEqual([])
  })

  it('is not made of what is none', () => {
    const texts = ['', 'null', '{', '[]', JSON.stringify({ ...witness('adopting'), more: 1 }), JSON.stringify({ ...witness('adopting'), of: '' }), JSON.stringify({ of: 'second', ofIncarnation: 'a', note: {} })]
    expect(decodeWritten(texts.map((text) => Buffer.from(text)))).toEqual({ notes: [], witnessed: [] })
    expect(decodeWritten([Buffer.from(JSON.stringify(witness('adopting').note)), Buffer.from(JSON.stringify(witness('adopting')))])).toEqual({ notes: [witness('adopting').note], witnessed: [witness('adopting')] })
  })
})

describe('what a node has written', () => {
  /** Its daemon, and the words that others write. */
  function node() {
    const simulation = new Simulation(1)
    const victim = new Victim(simulation, 'second', { sessions: 0 })
    const box = BoxOwner.take(victim.region, { name: 'daemon', daemon: true })
    const notes = new AdoptionNotes(box)
    notes.begin(held)
    const word = (of: 'node' | number, at: number) => (value: bigint): void => {
      new BigUint64Array(victim.region.memory.buffer, controlPairOffset(of) + at, 1)[0] = value
    }
    const claimed = (step: ClaimStep): void => word(0, control.claim)(encodeClaim({ recoverer: 9, term: 1, step, generation: 1 }))
    return { simulation, victim, box, notes, claimed, fence: word('node', control.fence), fenceBox: word(0, control.fence), memory: victim.connect(), header: victim.region.header }
  }

  it('may change as long as nobody has read all of it for ever', async () => {
    const { simulation, victim, fence, fenceBox, claimed, memory, header } = node()
    const look = () => simulation.settle(readWritten(memory, header))
    expect(await look()).toMatchObject({ isFenced: false, isFinal: false, notes: [{ state: 'adopting' }] })
    fence(1n)
    fenceBox(encodeFence(1, 0))
    claimed('claimed')
    expect(await look()).toMatchObject({ isFenced: true, isFinal: false })
    claimed('extracted')
    expect(await look()).toMatchObject({ isFenced: true, isFinal: true })
    victim.close()
  })

  it.each([['before', 0, 'adopting'], ['after', 1, 'adopted']] as const)('is what its recoverer found, who came %s the last commit', async (_, commits, state) => {
    const { simulation, victim, box, notes, fence, fenceBox, claimed, memory, header } = node()
    const found = box.sessions.sequence
    // The first of the two versions of a note that is confirmed.
    const store = box.sessions.store(noteStore)
    box.sessions.commit(store, [...store.sessions.keys()][0] as string, Buffer.from(JSON.stringify({ ...notes.find(source), state: 'adopted' })), { ttlMs: 0, schemaVersion: 1 })
    fence(1n)
    fenceBox(encodeFence(1, found + commits))
    claimed('extracted')
    expect(await simulation.settle(readWritten(memory, header))).toMatchObject({ isFinal: true, notes: [{ state }] })
    victim.close()
  })

  it('is borne witness of once it cannot change, by whoever watches the node', async () => {
    const { simulation, victim, fence, fenceBox, claimed, memory, header } = node()
    const watcher = daemonOf(new Machine())
    const witnesses = new Witnesses(watcher)
    await simulation.settle(witnesses.read(memory, header))
    fence(1n)
    fenceBox(encodeFence(1, 100))
    claimed('claimed')
    await simulation.settle(witnesses.read(memory, header))
    expect(witnesses.all()).toEqual([])
    claimed('extracted')
    await simulation.settle(witnesses.read(memory, header))
    expect(witnesses.all()).toMatchObject([{ of: 'second', note: { node: 'first', state: 'adopting' } }])
    expect([...watcher.sessions.store(noteStore).sessions.keys()]).toHaveLength(1)
    victim.close()
  })
})
