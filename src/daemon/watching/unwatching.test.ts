import { describe, expect, it } from 'vitest'
import type { PeerConfig } from '../config.js'
import { Unwatching, type Retirable } from './unwatching.js'

class Watcher implements Retirable {
  isBusy = false
  isClosed = false
  finish: () => void = () => undefined

  constructor(readonly peer: PeerConfig) {}

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.finish = resolve
    })
    this.isClosed = true
  }
}

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }
const peer = (name: string, port = 1): PeerConfig => ({ name, host: '10.0.0.1', port, owner: 0 })
const lent = (name: string, through: string): PeerConfig => ({ name, through, owner: 0 })

function watching(members: readonly PeerConfig[]): { watchers: Watcher[]; unwatching: Unwatching<Watcher> } {
  const watchers = members.map((each) => new Watcher(each))
  const unwatching = new Unwatching(watchers, silent)
  for (const watcher of watchers) unwatching.note(watcher, members)
  return { watchers, unwatching }
}

const namesOf = (watchers: readonly Watcher[]): string[] => watchers.map(({ peer: { name } }) => name)

describe('a watcher', () => {
  it('goes on while its peer is a member as it was', () => {
    const members = [peer('b'), peer('c'), lent('vm', 'c')]
    const { watchers, unwatching } = watching(members)
    unwatching.retire(structuredClone(members).reverse())
    expect(namesOf(watchers)).toEqual(['b', 'c', 'vm'])
  })

  it('ends when its peer is no member any more, and no other is made until it is closed', async () => {
    const { watchers, unwatching } = watching([peer('b'), peer('c')])
    const [gone] = watchers as [Watcher]
    unwatching.retire([peer('c')])
    expect(namesOf(watchers)).toEqual(['c'])
    expect([unwatching.isLeaving('b'), unwatching.isLeaving('c')]).toEqual([true, false])
    gone.finish()
    await unwatching.settled()
    expect([gone.isClosed, unwatching.isLeaving('b')]).toEqual([true, false])
  })

  it('ends when its peer has another address, or is lent by one that has', () => {
    const { watchers, unwatching } = watching([peer('b'), peer('c'), lent('vm', 'c')])
    unwatching.retire([peer('b'), peer('c', 2), lent('vm', 'c')])
    expect(namesOf(watchers)).toEqual(['b'])
  })

  it('is kept while it recovers its peer, and ends after that', () => {
    const { watchers, unwatching } = watching([peer('b')])
    const [busy] = watchers as [Watcher]
    busy.isBusy = true
    unwatching.retire([])
    unwatching.retire([])
    expect(namesOf(watchers)).toEqual(['b'])
    busy.isBusy = false
    unwatching.retire([])
    expect(namesOf(watchers)).toEqual([])
  })

  it('that was kept goes on where its peer is a member again meanwhile', () => {
    const { watchers, unwatching } = watching([peer('b')])
    const [busy] = watchers as [Watcher]
    busy.isBusy = true
    unwatching.retire([])
    busy.isBusy = false
    unwatching.retire([peer('b')])
    expect(namesOf(watchers)).toEqual(['b'])
  })
})
