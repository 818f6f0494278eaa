import { describe, expect, it } from 'vitest'
import type { PeerConfig } from '../config.js'
import { PlanFollower, type Planned } from './plan-follower.js'
import { Unwatching } from './unwatching.js'

class Watcher implements Planned {
  isDown = false
  isBusy = false
  finish: () => void = () => undefined

  constructor(readonly peer: PeerConfig) {}

  close(): Promise<void> {
    return new Promise((resolve) => (this.finish = resolve))
  }
}

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }
const peers = (...names: string[]): PeerConfig[] => names.map((name) => ({ name, owner: 0 }))

function following(first: readonly PeerConfig[]) {
  const watchers: Watcher[] = []
  const unwatching = new Unwatching(watchers, silent)
  let members = first
  const plan = new PlanFollower({ node: 'a', k: 2, watchers, unwatching, members: () => members, isHolder: () => false, make: (peer) => new Watcher(peer) })
  const follow = (now = members): string[] => {
    members = now
    plan.follow()
    return watchers.map(({ peer }) => peer.name)
  }
  return { watchers, unwatching, follow }
}

describe('a daemon that follows the plan', () => {
  it('watches who comes, and goes on with whom it has', () => {
    const { follow } = following(peers('c'))
    expect(follow()).toEqual(['c'])
    expect(follow(peers('b', 'c', 'd'))).toEqual(['c', 'b'])
  })

  it('watches further ones for those that are down, and keeps them', () => {
    const { follow, watchers } = following(peers('b', 'c', 'd'))
    follow()
    ;(watchers[0] as Watcher).isDown = true
    expect(follow()).toEqual(['b', 'c', 'd'])
    ;(watchers[0] as Watcher).isDown = false
    expect(follow()).toEqual(['b', 'c', 'd'])
  })

  it('watches no more who has left, and another in his stead', () => {
    const { follow } = following(peers('b', 'c', 'd'))
    follow()
    expect(follow(peers('c', 'd'))).toEqual(['c', 'd'])
  })

  it('watches who has come back when the last watcher of it is closed', async () => {
    const { follow, watchers, unwatching } = following(peers('b'))
    follow()
    const [watcher] = watchers as [Watcher]
    expect(follow([])).toEqual([])
    expect(follow(peers('b'))).toEqual([])
    watcher.finish()
    await unwatching.settled()
    expect(follow()).toEqual(['b'])
  })
})
