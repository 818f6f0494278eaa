import { describe, expect, it } from 'vitest'
import type { PeerConfig } from '../config.js'
import { peersToWatch, type WatchSituation } from './peers-to-watch.js'

const peers = (...which: string[]): PeerConfig[] => which.map((name) => ({ name, owner: 0 }))
const members = peers('b', 'c', 'd', 'e')
const none = (): boolean => false
const names = (situation: Partial<WatchSituation>): string[] => peersToWatch({ node: 'a', members, k: 1, isDown: none, isHolder: none, isTaken: none, ...situation }).map(({ name }) => name)
const among = (...which: string[]) => (name: string): boolean => which.includes(name)

describe('the peers to watch', () => {
  it('are those of the plan', () => {
    expect(names({})).toEqual(['b'])
    expect(names({ k: 2 })).toEqual(['b', 'c'])
    expect(names({ node: 'd', members: peers('a', 'b', 'e'), k: 2 })).toEqual(['a', 'e'])
  })

  it('are more where some of those are down', () => {
    expect(names({ isDown: among('b', 'c') })).toEqual(['b', 'c', 'd'])
  })

  it('are those that hold claims as well', () => {
    expect(names({ isHolder: among('d') })).toEqual(['b', 'd'])
  })

  it('are none of those that are watched already', () => {
    expect(names({ k: 2, isHolder: among('d'), isTaken: among('b', 'd') })).toEqual(['c'])
  })

  it('are not only machines that watch nobody themselves', () => {
    const through = members.map((peer) => (peer.name === 'b' ? { ...peer, through: 'c' } : peer))
    expect(names({ members: through })).toEqual(['b', 'c'])
  })
})
