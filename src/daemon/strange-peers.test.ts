/** What stands where a peer's region should be is another's: of another cluster, another node, or another life of the same node. */
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder, until } from '../../addon/test/native-fixture.js'
import { isBackdoorsError } from '../errors.js'
import { startDaemon } from './daemon.js'
import type { PeerLink } from './peers/peer-fabric.js'
import { ShmPeers } from './peers/shm-peers.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

const { boxCount, ...sizes } = testGeometry

it.each([['another cluster', 'b', 'other'], ['another node', 'c', 'test']])('a region of %s is no peer, until the right one stands there', async (_, node, cluster) => {
  const [folder, links, troubles] = [temporaryFolder(), [] as PeerLink[], [] as unknown[]]
  const region = join(folder, 'b')
  const stranger = new FakeNode(node, region, cluster)
  const peers = new ShmPeers('test')
  peers.keep({ name: 'b', region, owner: 0 }, { onLink: (link) => links.push(link), onTrouble: (error) => troubles.push(error) })
  await until('trouble', () => troubles.length > 0)
  expect(troubles.map((error) => isBackdoorsError(error) && [error.code, error.details.peer, error.details.path])).toEqual([['PEER_UNKNOWN', 'b', region]])
  expect(links).toEqual([])
  const right = new FakeNode('b', join(folder, 'new'))
  renameSync(join(folder, 'new'), region)
  await until('the link', () => links.length > 0)
  expect(links[0]?.header.incarnation).toBe(right.region.header.incarnation)
  await Promise.all(links.map((link) => link.close()))
  await peers.close()
  for (const each of [stranger, right]) each.close()
})

it('a peer that comes back as another incarnation is watched anew, and its earlier life is not held against it', async () => {
  const folder = temporaryFolder()
  const [path, next] = [join(folder, 'b'), join(folder, 'next')]
  const first = new FakeNode('b', path)
  const a = await startDaemon({
    node: 'a', cluster: 'test', log: 'silent', region: { path: join(folder, 'a'), boxes: boxCount, ...sizes },
    peers: [{ name: 'b', region: path }], watch: { intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
  })
  const seen = (): string | undefined => a.status().peers[0]?.incarnation
  await until('the first life', () => seen() === first.region.header.incarnation.toString(16))
  const second = new FakeNode('b', next)
  second.commit('u1', 'one apple')
  renameSync(next, path)
  await until('the second life', () => seen() === second.region.header.incarnation.toString(16))
  first.stop()
  await until('rounds', () => (a.status().peers[0]?.rounds ?? 0) > 2 * testDeadlineMs)
  expect(a.status()).toMatchObject({ incidents: [], peers: [{ peer: 'b', verdict: 'alive' }] })
  second.stop()
  await until('the recovery', () => a.status().incidents.some(({ outcome }) => outcome === 'announced'))
  expect(a.status().incidents).toMatchObject([{ peer: 'b', sessions: { adopted: 1 } }])
  await a.close()
  for (const each of [first, second]) each.close()
})
