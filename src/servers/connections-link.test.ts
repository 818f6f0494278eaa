import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { closing, temporaryFolder, until } from '../../addon/test/native-fixture.js'
import { BoxOwner } from '../region/box-owner.js'
import { createRegion } from '../region/region.js'
import { ConnectionsLink } from './connections-link.js'
import { DescriptorListener } from './descriptor-channel.js'
import { connectionsSocketPathOf } from './local-protocol.js'

afterEach(() => void vi.useRealTimers())

function played(): { link: ConnectionsLink; listen: () => { listener: DescriptorListener; greeted: number } } {
  const path = join(temporaryFolder(), 'region')
  const region = createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 8, heapBytes: 4096 })
  closing(region.memory)
  const link = closing(new ConnectionsLink(region, BoxOwner.take(region, { name: 'server' }), () => undefined))
  const listen = () => {
    const daemon = { listener: undefined as unknown as DescriptorListener, greeted: 0 }
    daemon.listener = closing(new DescriptorListener(connectionsSocketPathOf(path), () => ({ onMessage: () => void daemon.greeted++ })))
    return daemon
  }
  return { link, listen }
}

const handler = (): Promise<never> => Promise.reject(new Error('nothing comes over here'))

it('a server is ready for connections as soon as its daemon is there again, however long that was away', async () => {
  const { link, listen } = played()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  link.onRestored(80, handler)
  vi.advanceTimersByTime(3_600_000)
  const daemon = listen()
  link.daemonIsThere()
  await until('the daemon is told who is there', () => daemon.greeted === 1)
  daemon.listener.close()
  await until('the server has seen that its daemon is gone', () => vi.getTimerCount() === 1)
  const next = listen()
  vi.advanceTimersByTime(100)
  await until('the next daemon is told as well', () => next.greeted === 1)
  expect(vi.getTimerCount()).toBe(0)
})

it('a server that continues no connections asks no daemon for them', () => {
  const { link, listen } = played()
  const daemon = listen()
  link.daemonIsThere()
  expect(daemon.listener.count).toBe(0)
})
