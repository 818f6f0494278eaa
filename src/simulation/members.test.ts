import { describe, expect, it } from 'vitest'
import { Simulation } from '../fabric/mock/simulation.js'
import { Members, type MembersFile } from './members.js'

const namesIn = (file: MembersFile): string[] => (JSON.parse(file.read()) as { name: string }[]).map(({ name }) => name)

describe('files of members', () => {
  it('are replaced on each machine at a time of its own, and what comes late takes nothing back', async () => {
    const simulation = new Simulation(3)
    const members = new Members(simulation, ['a', 'b'])
    const [a, b] = [members.fileOf('a'), members.fileOf('b')]
    const seen: string[][] = []
    for (const file of [a, b]) file.watchFolder('/', () => seen.push(namesIn(file)))
    members.add('c', 1000)
    members.remove('b', 10)
    expect([members.names, namesIn(a), namesIn(b)]).toEqual([['a', 'c'], ['a', 'b'], ['a', 'b']])
    await simulation.run(2000)
    expect([namesIn(a), namesIn(b)]).toEqual([['a', 'c'], ['a', 'c']])
    expect(seen.every((names) => names.join() !== 'a,b')).toBe(true)
    expect(namesIn(members.fileOf('c'))).toEqual(['a', 'c'])
  })

  it('may lack a member for a while, whatever else changes', async () => {
    const simulation = new Simulation(3)
    const members = new Members(simulation, ['a', 'b'])
    const file = members.fileOf('a')
    const before = file.stamp()
    members.forget('a', 'b', 500)
    members.add('c', 0)
    await simulation.run(100)
    expect([namesIn(file), members.isWhole, file.stamp() === before]).toEqual([['a', 'c'], false, false])
    await simulation.run(600)
    expect([namesIn(file), members.isWhole]).toEqual([['a', 'b', 'c'], true])
  })
})
