import { describe, expect, it } from 'vitest'
import { Simulation } from '../../fabric/mock/simulation.js'
import type { Opinion, SecondOpinion } from '../../monitor/second-opinion.js'
import type { Evidence, NodeVerdict } from '../../monitor/verdict.js'
import { UnreachableInquiry } from './unreachable-inquiry.js'

/** Answers what the test says, when the test says. */
class ScriptedOpinion implements SecondOpinion {
  readonly asked: string[] = []
  readonly #answers: ((opinions: readonly Opinion[]) => void)[] = []

  ask(peer: string): Promise<readonly Opinion[]> {
    this.asked.push(peer)
    return new Promise((resolve) => this.#answers.push(resolve))
  }

  async answer(...opinions: Opinion[]): Promise<void> {
    this.#answers.shift()?.(opinions)
    await new Promise(setImmediate)
  }
}

const says = (by: string, sees: Opinion['sees']): Opinion => ({ by, sees })
const evidence: Evidence = { by: 'b', atUs: 7, seen: 'reads fail' }
const unreachable: NodeVerdict = { kind: 'unreachable', seen: 'reads fail' }

interface StageOptions {
  readonly canAsk?: boolean
  /** Asked anew each time. */
  readonly others?: () => number | undefined
  /** Undefined: fencing is not configured. */
  readonly fence?: () => Promise<void>
}

function stage({ canAsk = true, others = () => 2, fence }: StageOptions = {}) {
  const simulation = new Simulation(1)
  const observers = new ScriptedOpinion()
  const concluded: { verdict: NodeVerdict; evidence: Evidence }[] = []
  const fenced: unknown[] = []
  const inquiry = new UnreachableInquiry({
    peer: 'a',
    observers: canAsk ? observers : undefined,
    others,
    conclude: (verdict, seen) => concluded.push({ verdict, evidence: seen }),
    fence,
    onFenced: (_, error) => fenced.push(error),
    after: (us, run) => {
      const scheduled = simulation.schedule(us, run)
      return () => scheduled.cancel()
    },
  })
  return { simulation, observers, concluded, fenced, inquiry }
}

const kinds = (concluded: readonly { verdict: NodeVerdict }[]): string[] => concluded.map(({ verdict }) => verdict.kind)

describe('a node that does not answer', () => {
  it('is not told of before others have been asked, and then with what each says', async () => {
    const { observers, concluded, inquiry } = stage()
    inquiry.follow(unreachable, evidence)
    expect({ asked: observers.asked, concluded, isAsking: inquiry.isAsking }).toEqual({ asked: ['a'], concluded: [], isAsking: true })
    const opinions = [says('c', 'sees-unreachable'), says('d', 'no-answer')]
    await observers.answer(...opinions)
    expect(inquiry.isAsking).toBe(false)
    expect(concluded).toMatchObject([{ verdict: { kind: 'unreachable' }, evidence: { by: 'b', atUs: 7, seen: 'reads fail; c cannot reach it either', opinions } }])
  })

  it('and answers again meanwhile was never anything but alive', async () => {
    const { observers, concluded, inquiry } = stage()
    inquiry.follow(unreachable, evidence)
    inquiry.follow({ kind: 'alive', seen: 'it moves' }, { ...evidence, seen: 'it moves' })
    await observers.answer(says('c', 'sees-unreachable'))
    expect(kinds(concluded)).toEqual(['alive'])
  })

  it('behind a cut link is link-cut, and unreachable once it has died there', async () => {
    const { simulation, observers, concluded, inquiry } = stage()
    inquiry.follow(unreachable, evidence)
    await observers.answer(says('c', 'sees-alive'))
    await simulation.advance(5_000_000)
    await observers.answer(says('c', 'undecided'))
    // Sooner, as somebody does not know yet.
    await simulation.advance(500_000)
    await observers.answer(says('c', 'sees-unreachable'))
    expect(kinds(concluded)).toEqual(['link-cut', 'unreachable', 'unreachable'])
    expect(observers.asked).toHaveLength(3)
  })

  it('is asked about no more when it is alive, or nobody watches it any more', async () => {
    const { simulation, observers, inquiry } = stage()
    inquiry.follow(unreachable, evidence)
    await observers.answer()
    inquiry.follow({ kind: 'alive', seen: 'it moves' }, evidence)
    await simulation.advance(60_000_000)
    inquiry.follow(unreachable, evidence)
    await inquiry.close()
    await observers.answer(says('c', 'sees-unreachable'))
    await simulation.advance(60_000_000)
    expect(observers.asked).toHaveLength(2)
  })

  it('where nobody can be asked is told of at once', () => {
    const { concluded, inquiry } = stage({ canAsk: false })
    inquiry.follow(unreachable, evidence)
    expect(concluded).toMatchObject([{ verdict: { kind: 'unreachable' }, evidence: { opinions: [] } }])
  })

  it('every other verdict goes by untouched', () => {
    const { observers, concluded, inquiry } = stage()
    for (const kind of ['alive', 'os-panicked', 'os-stalled', 'daemon-stalled', 'daemon-lost'] as const) inquiry.follow({ kind, seen: kind }, evidence)
    expect(concluded.every((each) => each.evidence === evidence)).toBe(true)
    expect([kinds(concluded), observers.asked]).toEqual([['alive', 'os-panicked', 'os-stalled', 'daemon-stalled', 'daemon-lost'], []])
  })
})

describe('fencing it from outside', () => {
  it('runs once when another agrees, however often others are asked', async () => {
    let runs = 0
    const { simulation, observers, fenced, inquiry } = stage({ fence: async () => void runs++ })
    inquiry.follow(unreachable, evidence)
    await observers.answer(says('c', 'no-answer'))
    expect(runs).toBe(0)
    for (let i = 0; i < 3; i++) {
      await simulation.advance(5_000_000)
      await observers.answer(says('c', 'sees-unreachable'))
    }
    expect([runs, fenced]).toEqual([1, [undefined]])
  })

  it('never runs behind a cut link', async () => {
    const { observers, inquiry } = stage({ fence: () => Promise.reject(new Error('must not run')) })
    inquiry.follow(unreachable, evidence)
    await observers.answer(says('c', 'sees-unreachable'), says('d', 'sees-alive'))
    await inquiry.close()
  })

  it('runs at once in a cluster of two, and is tried again when it failed', async () => {
    const failure = new Error('no such plug')
    let runs = 0
    const { simulation, fenced, inquiry } = stage({ canAsk: false, others: () => 0, fence: () => (runs++ === 0 ? Promise.reject(failure) : Promise.resolve()) })
    inquiry.follow(unreachable, evidence)
    await new Promise(setImmediate)
    expect(fenced).toEqual([failure])
    await simulation.advance(5_000_000)
    await new Promise(setImmediate)
    expect(fenced).toEqual([failure, undefined])
  })

  it('does not run where others are and nobody can be asked', () => {
    const { inquiry, concluded } = stage({ canAsk: false, others: () => 1, fence: () => Promise.reject(new Error('must not run')) })
    inquiry.follow(unreachable, evidence)
    expect(kinds(concluded)).toEqual(['unreachable'])
  })

  it('does not run before it is known who the others are, and then does', async () => {
    const cluster: { others?: number } = {}
    let runs = 0
    const { simulation, fenced, inquiry } = stage({ canAsk: false, others: () => cluster.others, fence: async () => void runs++ })
    inquiry.follow(unreachable, evidence)
    await simulation.advance(60_000_000)
    expect(runs).toBe(0)
    cluster.others = 0
    await simulation.advance(5_000_000)
    await new Promise(setImmediate)
    expect([runs, fenced]).toEqual([1, [undefined]])
  })

  it('that is under way is waited for at the end', async () => {
    let done: (() => void) | undefined
    const { inquiry, fenced } = stage({ canAsk: false, others: () => 0, fence: () => new Promise((resolve) => (done = resolve)) })
    inquiry.follow(unreachable, evidence)
    const closing = inquiry.close()
    done?.()
    await closing
    expect(fenced).toEqual([undefined])
  })
})
