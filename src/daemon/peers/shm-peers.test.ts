import { join } from 'node:path'
import { expect, it } from 'vitest'
import { countThreads, temporaryFolder, until } from '../../../addon/test/native-fixture.js'
import type { Watch } from '../../fabric/remote-memory.js'
import { createRegion } from '../../region/region.js'
import type { PeerConfig } from '../config.js'
import type { PeerLink } from './peer-fabric.js'
import { ShmPeers } from './shm-peers.js'

it('samples all peers by one thread, which ends with it', async () => {
  const folder = temporaryFolder()
  const peers = new ShmPeers('test')
  const links: PeerLink[] = []
  const names = ['b', 'c', 'd', 'e']
  for (const name of names) {
    const region = join(folder, name)
    createRegion(region, name, 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 16, heapBytes: 65_536 }).memory.close()
    peers.keep({ name, region, owner: 0 } satisfies PeerConfig, { onLink: (link) => links.push(link), onTrouble: (error) => expect.unreachable(String(error)) })
  }
  await until('all links', () => links.length === names.length)
  const watches: Watch[] = links.map(({ sampling }) => sampling.watch({ cells: [], intervalUs: 1000, unreachableAfterUs: 3.6e9 }, () => undefined))
  await until('rounds of each', () => watches.every(({ state }) => state.rounds > 2))
  expect(countThreads('bd-sampler')).toBe(1)
  await Promise.all(links.map((link) => link.close()))
  await peers.close()
  expect(countThreads('bd-sampler')).toBe(0)
})
