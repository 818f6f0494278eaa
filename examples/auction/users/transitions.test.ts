import { describe, expect, it } from 'vitest'
import { Random } from '../../../src/fabric/mock/random.js'
import { actions, isPossible, nextAction, transitions, type Action, type Situation } from './transitions.js'

const nothing: Situation = { isLoggedIn: true, drafts: 0, cart: 0, watched: 0, seesItems: false, seesCategories: false, canBuy: false, looksAtItem: false }
const everything: Situation = { isLoggedIn: true, drafts: 1, cart: 1, watched: 1, seesItems: true, seesCategories: true, canBuy: true, looksAtItem: true }

describe('the transition table', () => {
  it.each(actions)('gives what follows %s probabilities that sum to 1', (action) => {
    expect(Object.values(transitions[action]).reduce((sum, each) => sum + each, 0)).toBeCloseTo(1, 10)
  })

  it('leads from the login to every action', () => {
    const reached = new Set<Action>(['login'])
    for (const action of reached) for (const next of Object.keys(transitions[action]) as Action[]) reached.add(next)
    expect([...reached].sort()).toEqual([...actions].sort())
  })
})

describe('the next action', () => {
  it('is one that is possible, whatever the situation', () => {
    const random = new Random(1)
    for (let i = 0; i < 5000; i++) {
      const now: Situation = {
        isLoggedIn: random.chance(0.8), drafts: random.integer(0, 1), cart: random.integer(0, 1), watched: random.integer(0, 1),
        seesItems: random.chance(0.5), seesCategories: random.chance(0.5), canBuy: random.chance(0.5), looksAtItem: random.chance(0.5),
      }
      const next = nextAction(random.pick(actions), now, random)
      expect(isPossible(next, now), `${next} in ${JSON.stringify(now)}`).toBe(true)
    }
  })

  it('comes as often as the table says', () => {
    const random = new Random(2)
    const drawn = Array.from({ length: 20_000 }, () => nextAction('login', everything, random))
    for (const [action, probability] of Object.entries(transitions.login)) expect(drawn.filter((each) => each === action).length / drawn.length).toBeCloseTo(probability, 1)
  })

  it('is the same for the same seed', () => {
    const walk = (seed: number): Action[] => {
      const random = new Random(seed)
      const walked: Action[] = ['home']
      while (walked.length < 50) walked.push(nextAction(walked.at(-1) as Action, everything, random))
      return walked
    }
    expect(walk(3)).toEqual(walk(3))
    expect(walk(3)).not.toEqual(walk(4))
  })

  it('is to go home where nothing else is possible, or to log in', () => {
    expect(nextAction('categories', nothing, new Random(1))).toBe('home')
    expect(nextAction('me', { ...nothing, isLoggedIn: false }, new Random(1))).not.toBe('sell')
    expect(nextAction('checkout', { ...nothing, isLoggedIn: false }, new Random(1))).toBe('categories')
    expect(nextAction('enter-bid', { ...nothing, isLoggedIn: false }, new Random(1))).toBe('categories')
    expect(nextAction('logout', { ...nothing, isLoggedIn: false }, new Random(1))).toBe('login')
  })
})
