import { describe, expect, it } from 'vitest'
import type { PeerConfig } from '../config.js'
import { SharedKeepers } from './shared-keepers.js'

class Keeper {
  closed = 0

  close(): Promise<void> {
    this.closed += 1
    return Promise.resolve()
  }
}

const peer = (port: number): PeerConfig => ({ name: 'b', host: '10.0.0.1', port, owner: 0 })
const make = (): Keeper => new Keeper()
const nothing = (): void => undefined

describe('a keeper of one address', () => {
  it('is shared, and closed with its last user, after what that user had to do', async () => {
    const keepers = new SharedKeepers<Keeper>()
    const [one, two] = [keepers.use(peer(1), make), keepers.use(peer(1), make)]
    expect(two.keeper).toBe(one.keeper)
    await one.release(nothing)
    await one.release(nothing)
    expect(one.keeper.closed).toBe(0)
    await two.release(() => expect(two.keeper.closed).toBe(0))
    expect(two.keeper.closed).toBe(1)
  })

  it('is made anew after that', async () => {
    const keepers = new SharedKeepers<Keeper>()
    const first = keepers.use(peer(1), make)
    await first.release(nothing)
    expect(keepers.use(peer(1), make).keeper).not.toBe(first.keeper)
  })

  it('lives on for its users where another address has come', async () => {
    const keepers = new SharedKeepers<Keeper>()
    const [old, current] = [keepers.use(peer(1), make), keepers.use(peer(2), make)]
    expect(current.keeper).not.toBe(old.keeper)
    await old.release(nothing)
    expect([old.keeper.closed, current.keeper.closed]).toEqual([1, 0])
    expect(keepers.use(peer(2), make).keeper).toBe(current.keeper)
  })

  it('is closed with all others, whoever uses it', async () => {
    const keepers = new SharedKeepers<Keeper>()
    const uses = [keepers.use(peer(1), make), keepers.use(peer(2), make)]
    await keepers.close()
    expect(uses.map(({ keeper }) => keeper.closed)).toEqual([1, 1])
  })
})
