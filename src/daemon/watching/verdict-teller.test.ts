import { describe, expect, it } from 'vitest'
import { Simulation } from '../../fabric/mock/simulation.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../../monitor/verdict.js'
import { VerdictTeller } from './verdict-teller.js'

const rule = { flips: 3, windowUs: 60_000, holdUs: 1000, longestHoldUs: 8000 }

interface Stage {
  readonly simulation: Simulation
  readonly teller: VerdictTeller
  readonly told: { atUs: number; kind: string; subject: string; evidence: Evidence }[]
  node(kind: NodeVerdict['kind']): void
  server(kind: BoxVerdict['kind'], generation?: number, name?: string): void
}

function stage(): Stage {
  const simulation = new Simulation(1)
  const told: Stage['told'] = []
  const teller = new VerdictTeller({
    node: 'a', rule,
    tell: (verdict, evidence) => told.push({ atUs: simulation.now(), kind: verdict.kind, subject: 'box' in verdict ? verdict.name : '', evidence }),
    nowUs: simulation.now,
    after: (us, run) => {
      const scheduled = simulation.schedule(us, run)
      return () => scheduled.cancel()
    },
  })
  let count = 0
  const evidence = (): Evidence => ({ by: 'b', atUs: simulation.now(), seen: `look ${count++}` })
  return {
    simulation, teller, told,
    node: (kind) => teller.onVerdict({ kind, seen: kind }, evidence()),
    server: (kind, generation = 1, name = 'web') => teller.onVerdict({ kind, box: 1, name, generation, seen: kind }, evidence()),
  }
}

describe('verdicts', () => {
  it('are told as they come, each with its evidence', () => {
    const { told, node, server } = stage()
    node('daemon-lost')
    server('app-exited')
    node('alive')
    expect(told.map(({ kind, subject, evidence }) => [kind, subject, evidence.seen])).toEqual([['daemon-lost', '', 'look 0'], ['app-exited', 'web', 'look 1'], ['alive', '', 'look 2']])
    expect(told.every(({ evidence }) => evidence.held === undefined)).toBe(true)
  })

  it('of what flaps are held, and what stands is told later, with its own evidence and the number that was held', async () => {
    const { simulation, teller, told, node } = stage()
    for (const kind of ['unreachable', 'alive', 'unreachable', 'alive', 'unreachable', 'alive', 'unreachable'] as const) node(kind)
    expect(told.map(({ kind }) => kind)).toEqual(['unreachable', 'alive', 'unreachable', 'alive'])
    expect(teller.flapping).toEqual(['a'])
    await simulation.advance(rule.holdUs)
    expect(told.at(-1)).toMatchObject({ atUs: rule.holdUs, kind: 'unreachable', evidence: { seen: 'look 6', held: 3, atUs: 0 } })
    await simulation.advance(rule.windowUs)
    expect(teller.flapping).toEqual([])
  })

  it('of one who flaps do not hold those of another', () => {
    const { told, node, server, teller } = stage()
    for (let i = 0; i < 10; i++) node(i % 2 === 0 ? 'daemon-stalled' : 'alive')
    server('app-stalled')
    server('alive')
    expect(told.slice(4).map(({ kind, subject }) => [kind, subject])).toEqual([['app-stalled', 'web'], ['alive', 'web']])
    expect(teller.flapping).toEqual(['a'])
  })

  it('of a server that crashes over and over are all told, and it is seen to flap', () => {
    const { told, server, teller } = stage()
    for (let generation = 1; generation <= 4; generation++) server('app-exited', generation)
    expect(told).toHaveLength(4)
    expect(teller.flapping).toEqual(['web'])
  })

  it('of a thousand names are bounded in what they leave behind', () => {
    const { server, teller } = stage()
    for (let i = 0; i < 1000; i++) for (const kind of ['app-exited', 'alive', 'app-exited', 'alive'] as const) server(kind, 1, `server-${i}`)
    expect(teller.flapping.length).toBeLessThanOrEqual(512)
    expect(teller.flapping).toContain('server-999')
  })

  it('that are held are not told once it is closed', async () => {
    const { simulation, teller, told, node } = stage()
    for (let i = 0; i < 7; i++) node(i % 2 === 0 ? 'unreachable' : 'alive')
    const before = told.length
    teller.close()
    await simulation.advance(rule.windowUs)
    expect(told).toHaveLength(before)
  })
})
