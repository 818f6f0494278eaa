import { describe, expect, it } from 'vitest'
import { ClaimHolders } from './claim-holders.js'
import { nodeNumber, type PeerConfig } from './config.js'
import type { PeerLink } from './peers/peer-fabric.js'

const members = ['b', 'c', 'd'].map((name): PeerConfig => ({ name, owner: 0 }))
const link = { sampling: { peer: 'b' }, header: { node: 'b' } } as unknown as PeerLink

describe('the holder of a claim', () => {
  it('comes to be watched when it is not yet', () => {
    const holders = new ClaimHolders([], () => members)
    expect(holders.predecessor(nodeNumber('c'))).toBeUndefined()
    expect(['b', 'c', 'd'].filter((name) => holders.has(name))).toEqual(['c'])
  })

  it('is known by its watcher', () => {
    const holders = new ClaimHolders([{ peer: { name: 'b', owner: 0 }, isDown: true, link }], () => members)
    expect(holders.predecessor(nodeNumber('b'))).toEqual({ isDown: true, link: { memory: link.sampling, header: link.header } })
    expect(holders.has('b')).toBe(false)
  })

  it('is nobody whom the number of no member names', () => {
    const holders = new ClaimHolders([], () => members)
    expect(holders.predecessor(nodeNumber('stranger'))).toBeUndefined()
    expect(members.filter(({ name }) => holders.has(name))).toEqual([])
  })
})

describe('what can be read', () => {
  const watchers = [{ peer: { name: 'b', owner: 0 }, isDown: false, link }, { peer: { name: 'c', owner: 0 }, isDown: false, link: undefined }]

  it('is what there is a link to', () => {
    const holders = new ClaimHolders(watchers, () => members)
    expect(holders.readable(false)).toEqual([{ memory: link.sampling, header: link.header }])
    expect(members.filter(({ name }) => holders.has(name))).toEqual([])
  })

  it('is to be the region of every member, where that is asked for', () => {
    const holders = new ClaimHolders(watchers, () => members)
    expect(holders.readable(true)).toHaveLength(1)
    expect(members.filter(({ name }) => holders.has(name))).toEqual(members)
  })
})
