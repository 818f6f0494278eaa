/** Membership by a real etcd; see vitest.debian.config.ts. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseConfig } from '../config.js'
import { startDaemon, type Daemon } from '../daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from '../testing/fake-node.js'
import { EtcdMembership } from './etcd-membership.js'
import type { EtcdConfig } from './membership-config.js'
import { issueCertificates } from './testing/etcd-certificates.js'
import { EtcdServer } from './testing/etcd-server.js'
import { namesOf, Observed } from './testing/observed.js'

let etcd: EtcdServer
let closers: (() => Promise<void> | void)[]

beforeEach(async () => {
  etcd = await EtcdServer.start()
  closers = [() => etcd.destroy()]
})

afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

const keyOf = (node: string): string => `/backdoors/test/${node}`

function register(node: string, leaseSeconds = 15): { membership: EtcdMembership; observed: Observed } {
  const config = parseConfig({ node, cluster: 'test', region: { path: `/dev/shm/backdoors-${node}` }, membership: { etcd: { endpoints: [etcd.endpoint], leaseSeconds } } })
  const observed = new Observed()
  const membership = new EtcdMembership(config.membership?.etcd as EtcdConfig, config, observed, { backoff: { minMs: 20, maxMs: 200 } })
  closers.push(() => membership.close())
  membership.start()
  return { membership, observed }
}

async function untilStands(node: string, isMeant: (found: { value: string; lease: string; revision: string }) => boolean = () => true): Promise<{ value: string; lease: string; revision: string }> {
  for (;;) {
    const found = await etcd.get(keyOf(node))
    if (found && isMeant(found)) return found
  }
}

describe('nodes that register in etcd', () => {
  it('find each other, and hear of a third', async () => {
    const [a, b] = [register('a'), register('b')]
    await a.observed.until(() => namesOf(a.membership).includes('b'))
    await b.observed.until(() => namesOf(b.membership).includes('a'))
    expect(a.membership.current).toEqual([{ name: 'b', region: '/dev/shm/backdoors-b', owner: 0 }])
    expect((await untilStands('a')).lease).not.toBe('0')
    register('c')
    await Promise.all([a, b].map(({ membership, observed }) => observed.until(() => namesOf(membership).includes('c'))))
    expect([...a.observed.troubles, ...b.observed.troubles]).toEqual([])
  })

  it('leave by a marker when they end in order, and may come back', async () => {
    const [a, b] = [register('a'), register('b')]
    await a.observed.until(() => namesOf(a.membership).includes('b'))
    await untilStands('b')
    await b.membership.close()
    await a.observed.until(() => namesOf(a.membership).length === 0)
    expect((await untilStands('b')).value).toBe('{"left":true}')
    // Whoever comes later is told as well.
    const c = register('c')
    await c.observed.until(() => namesOf(c.membership).length > 0)
    expect(namesOf(c.membership)).toEqual(['a'])
    register('b')
    await a.observed.until(() => namesOf(a.membership).includes('b'))
  })

  it('stay members when they die and their lease ends', async () => {
    const a = register('a')
    const { ID } = await etcd.call('lease/grant', { TTL: '2' })
    await etcd.call('kv/put', { key: Buffer.from(keyOf('b')).toString('base64'), value: Buffer.from('{"region":"/dev/shm/b"}').toString('base64'), lease: ID })
    await a.observed.until(() => namesOf(a.membership).includes('b'))
    // Nobody renews it.
    await a.observed.until(() => a.observed.notes.length > 0)
    expect(await etcd.get(keyOf('b'))).toBeUndefined()
    expect(namesOf(a.membership)).toEqual(['b'])
  })

  it('register anew when their lease is revoked', async () => {
    register('a')
    const { lease, revision } = await untilStands('a')
    await etcd.call('lease/revoke', { ID: lease })
    const again = await untilStands('a', (found) => BigInt(found.revision) > BigInt(revision))
    expect(again).toMatchObject({ value: '{"region":"/dev/shm/backdoors-a"}' })
    expect(again.lease).not.toBe(lease)
  })

  it('keep a lease alive for longer than it lasts', async () => {
    const b = register('b')
    register('a', 2)
    const { lease } = await untilStands('a')
    const other = await etcd.call('lease/grant', { TTL: '4' })
    await etcd.call('kv/put', { key: Buffer.from(keyOf('clock')).toString('base64'), value: Buffer.from('{"region":"/dev/shm/clock"}').toString('base64'), lease: other['ID'] })
    await b.observed.until(() => b.observed.notes.length > 0)
    expect(await etcd.get(keyOf('a'))).toMatchObject({ lease })
  })

  it('put back what an operator marked in error, and take out what is marked rightly', async () => {
    const a = register('a')
    await untilStands('a')
    await etcd.put(keyOf('scrapped'), '{"region":"/dev/shm/x"}')
    await a.observed.until(() => namesOf(a.membership).includes('scrapped'))
    await etcd.put(keyOf('scrapped'), '{"left":true}')
    await a.observed.until(() => namesOf(a.membership).length === 0)
    await etcd.put(keyOf('a'), '{"left":true}')
    await untilStands('a', ({ value }) => value.includes('region'))
  })

  it('pass over what is garbage', async () => {
    await etcd.put(keyOf('bad'), 'garbage')
    await etcd.put(keyOf('BAD/key'), '{}')
    const [a, b] = [register('a'), register('b')]
    await a.observed.until(() => namesOf(a.membership).includes('b') && a.observed.troubles.length === 2)
    expect(a.observed.troubles.map(({ code }) => code)).toEqual(['MEMBER_INVALID', 'MEMBER_INVALID'])
    expect(b.membership.trouble).toBeUndefined()
  })
})

describe('an etcd that fails', () => {
  it('costs no member while it is gone, and is followed when it is back', async () => {
    const [a, b] = [register('a'), register('b')]
    await a.observed.until(() => namesOf(a.membership).includes('b'))
    await untilStands('a')
    await etcd.stop()
    await a.observed.until(() => a.observed.troubles.length > 0)
    expect(a.membership.trouble).toMatchObject({ code: 'ETCD_UNAVAILABLE' })
    expect(namesOf(a.membership)).toEqual(['b'])
    await etcd.start()
    await a.observed.until(() => a.observed.wells > 0)
    register('c')
    await Promise.all([a, b].map(({ membership, observed }) => observed.until(() => namesOf(membership).includes('c'))))
    expect(namesOf(a.membership)).toEqual(['b', 'c'])
  })

  it('is waited for by a node that starts without it', async () => {
    await etcd.stop()
    const a = register('a')
    await a.observed.until(() => a.observed.troubles.length > 0)
    await etcd.start()
    await untilStands('a')
    await a.observed.until(() => a.observed.wells > 0)
    expect(a.membership.trouble).toBeUndefined()
  })

  it('costs no member where it hangs instead, and is followed when it goes on', async () => {
    const [a] = [register('a', 2), register('b', 2)]
    await a.observed.until(() => namesOf(a.membership).includes('b'))
    await untilStands('a')
    etcd.freeze()
    await a.observed.until(() => a.observed.troubles.length > 0)
    expect(a.membership.trouble).toMatchObject({ code: 'ETCD_UNAVAILABLE' })
    etcd.thaw()
    await a.observed.until(() => a.observed.wells > 0)
    await untilStands('a')
    expect(namesOf(a.membership)).toEqual(['b'])
  })

  it('has compacted what a node has missed, and the node reads all anew', async () => {
    const a = register('a')
    await untilStands('a')
    await etcd.stop()
    await a.observed.until(() => a.observed.troubles.length > 0)
    await etcd.start()
    await etcd.put(keyOf('b'), '{"region":"/dev/shm/b"}')
    await etcd.put(keyOf('b'), '{"region":"/dev/shm/b2"}')
    const { header } = (await etcd.call('kv/range', { key: 'AA==' })) as { header: { revision: string } }
    await etcd.call('kv/compaction', { revision: header.revision, physical: true })
    await a.observed.until(() => a.membership.current[0]?.region === '/dev/shm/b2')
    expect(namesOf(a.membership)).toEqual(['b'])
  })
})

describe('an etcd with certificates on both sides', () => {
  it('is spoken to with the client\'s own, and not without', async () => {
    const files = await issueCertificates(mkdtempSync(join(tmpdir(), 'backdoors-tls-')))
    closers.push(() => rmSync(files.folder, { recursive: true }))
    const guarded = await EtcdServer.start(['--cert-file', files.cert, '--key-file', files.key, '--client-cert-auth', '--trusted-ca-file', files.ca])
    closers.push(() => guarded.destroy())
    const open = (node: string, tls: object): { membership: EtcdMembership; observed: Observed } => {
      const config = parseConfig({ node, cluster: 'test', membership: { etcd: { endpoints: [guarded.endpoint], tls } } })
      const observed = new Observed()
      const membership = new EtcdMembership(config.membership?.etcd as EtcdConfig, config, observed, { backoff: { minMs: 20, maxMs: 200 } })
      closers.push(() => membership.close())
      membership.start()
      return { membership, observed }
    }
    const { ca, cert, key } = files
    const [a, b] = [open('a', { ca, cert, key }), open('b', { ca, cert, key })]
    await Promise.all([a.observed.until(() => namesOf(a.membership).includes('b')), b.observed.until(() => namesOf(b.membership).includes('a'))])
    for (const tls of [{ ca }, { cert, key }, {}]) {
      const stranger = open('c', tls)
      await stranger.observed.until(() => stranger.observed.troubles.length > 0)
      expect(stranger.membership.trouble).toMatchObject({ code: 'ETCD_UNAVAILABLE' })
      expect(stranger.membership.current).toEqual([])
    }
    expect([...a.observed.troubles, ...b.observed.troubles]).toEqual([])
  })
})

describe('daemons with an etcd', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'backdoors-members-'))
    closers.push(() => rmSync(folder, { recursive: true }))
  })

  async function daemon(node: string): Promise<Daemon> {
    const { boxCount, ...geometry } = testGeometry
    const started = await startDaemon({
      node, cluster: 'test', log: 'silent', region: { path: join(folder, node), boxes: boxCount, ...geometry },
      membership: { etcd: { endpoints: [etcd.endpoint] } }, watch: { peers: 4, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
    })
    closers.push(() => started.close())
    return started
  }

  /** A node with a session, whose daemon and server are the test's own. */
  async function playedNode(name: string): Promise<FakeNode> {
    const node = new FakeNode(name, join(folder, name))
    closers.push(() => node.close())
    node.commit(`of-${name}`, 'one apple')
    await etcd.put(keyOf(name), JSON.stringify({ region: join(folder, name) }))
    return node
  }

  /** Its OS sensor is sampled: it stopping will be seen. */
  async function untilWatched(watcher: Daemon, node: string): Promise<void> {
    while (watcher.status().peers.find(({ peer }) => peer === node)?.osSensor === undefined) await new Promise(setImmediate)
  }

  async function untilTroubled(watcher: Daemon, isTroubled = true): Promise<void> {
    while ((watcher.status().membership.trouble !== undefined) !== isTroubled) await new Promise(setImmediate)
  }

  it('watch each other without a list, and no more when one leaves in order', async () => {
    const [a, b] = [await daemon('a'), await daemon('b')]
    const watching = await Promise.all([once(a, 'watching'), once(b, 'watching')])
    expect(watching).toEqual([['b', expect.any(BigInt)], ['a', expect.any(BigInt)]])
    expect(a.status().membership).toEqual({ source: 'etcd', members: ['b'] })
    const left = once(a, 'members')
    await b.close()
    expect(await left).toEqual([[]])
    expect(a.status().peers).toEqual([])
  })

  it('watch and recover by the last plan while it is gone, and hear of a new node when it is back', async () => {
    const played = [await playedNode('c'), await playedNode('d')]
    const daemons = [await daemon('a'), await daemon('b')]
    const others = ['b', 'a']
    for (const [i, each] of daemons.entries()) for (const node of [others[i] as string, 'c', 'd']) await untilWatched(each, node)
    const announced: [node: string, adopted: number][] = []
    for (const each of daemons) each.on('recovered', ({ peer, outcome, adopted }) => outcome === 'announced' && announced.push([peer, adopted]))
    await etcd.stop()
    for (const each of daemons) await untilTroubled(each)
    for (const [i, node] of played.entries()) {
      node.stop()
      while (announced.length === i) await new Promise(setImmediate)
    }
    expect(announced).toEqual([['c', 1], ['d', 1]])
    for (const [i, other] of others.entries()) {
      const { membership, peers } = (daemons[i] as Daemon).status()
      expect(membership.trouble?.code).toBe('ETCD_UNAVAILABLE')
      expect([...membership.members].sort()).toEqual([other, 'c', 'd'])
      expect(peers.find(({ peer }) => peer === other)).toMatchObject({ connected: true, verdict: 'alive' })
    }
    await etcd.start()
    await playedNode('e')
    for (const each of daemons) await untilWatched(each, 'e')
    for (const each of daemons) await untilTroubled(each, false)
  })
})
