/** Steps that are interrupted at every point: the database does each once, and the visit comes to the same end. */
import { describe, expect, it } from 'vitest'
import type { StepRun } from '../database/steps.js'
import { emptyVisit, findDone, type Step, type StepResult, type Visit } from './visit.js'
import { Visits } from './visits.js'

class Killed extends Error {}

/** What outlives a node: the recovered sessions, and the database. */
class World {
  readonly sessions = new Map<string, Visit>()
  readonly done = new Map<string, StepResult>()
  performed = 0
  finished: { key: string; wasDone: boolean }[] = []

  /** @param dieAt the how-manieth of all commits, of sessions and of the database, is the first that does not happen */
  node(dieAt = Infinity): Visits {
    let commits = 0
    const commit = (): void => {
      if (++commits >= dieAt) throw new Killed()
    }
    return new Visits({
      store: {
        get: (id) => this.sessions.get(id),
        ids: () => this.sessions.keys(),
        commit: (id, visit) => {
          commit()
          this.sessions.set(id, structuredClone(visit))
        },
      },
      run: async (step): Promise<StepRun> => {
        const known = this.done.get(step.key)
        if (known) return { result: known, wasDone: true }
        commit()
        this.performed++
        const result: StepResult = { kind: 'bid', isAccepted: true, highestCents: 900 }
        this.done.set(step.key, result)
        return { result, wasDone: false }
      },
      onFinished: ({ key }, { wasDone }) => void this.finished.push({ key, wasDone }),
    })
  }
}

const step: Step = { kind: 'bid', key: 'key-of-the-form-1', user: 1, item: 7, cents: 900 }
const before: Visit = { ...emptyVisit, user: { id: 1, name: 'user-1' }, drafts: [{ item: 7, cents: 900 }], watched: [3] }

/** What the router does with a form. */
const send = (visits: Visits): Promise<Visit> => visits.with('v', async (visit) => {
  if (visit === undefined) throw new Error('the visit is not there')
  return findDone(visit, step.key) ? visit : visits.step('v', visit, step)
})

describe('a step', () => {
  it.each([
    [1, 'before anything is committed', []],
    [2, 'when it is pending', [{ key: step.key, wasDone: false }]],
    [3, 'when the database has it', [{ key: step.key, wasDone: true }]],
    [Infinity, 'not at all', []],
  ])('interrupted at commit %s (%s) happens once, when its form is sent again', async (dieAt, _, finished) => {
    const world = new World()
    world.sessions.set('v', before)
    if (dieAt === Infinity) await send(world.node())
    else await expect(send(world.node(dieAt))).rejects.toThrow(Killed)
    const after = await send(world.node())
    expect(world.performed).toBe(1)
    expect(world.finished).toEqual(finished)
    expect(after).toEqual({ ...before, drafts: [], done: [{ key: step.key, outcome: 'accepted', notice: 'Your bid of € 9.00 is placed.', path: '/item/7' }] })
  })

  it('is finished where its visit is adopted, without its visitor', async () => {
    const world = new World()
    world.sessions.set('v', before)
    world.sessions.set('w', before)
    await expect(send(world.node(3))).rejects.toThrow(Killed)
    await world.node().finish(world.sessions.keys())
    expect(world.finished).toEqual([{ key: step.key, wasDone: true }])
    expect(world.sessions.get('v')).toMatchObject({ pending: null, drafts: [] })
    expect(world.sessions.get('w')).toEqual(before)
  })

  it('that two nodes finish one after the other happens once', async () => {
    const world = new World()
    world.sessions.set('v', before)
    await expect(send(world.node(2))).rejects.toThrow(Killed)
    await expect(send(world.node(2))).rejects.toThrow(Killed)
    expect(world.performed).toBe(1)
    await send(world.node())
    expect(world.performed).toBe(1)
  })
})

it('requests of one visit are served one after the other, whatever becomes of them', async () => {
  const visits = new World().node()
  visits.make('v')
  const order: string[] = []
  const work = (name: string, fails: boolean) => visits.with('v', async () => {
    order.push(`${name} begins`)
    await Promise.resolve()
    order.push(`${name} ends`)
    if (fails) throw new Error(name)
  })
  const [first, second] = await Promise.allSettled([work('first', true), work('second', false)])
  expect([first.status, second.status]).toEqual(['rejected', 'fulfilled'])
  expect(order).toEqual(['first begins', 'first ends', 'second begins', 'second ends'])
})
