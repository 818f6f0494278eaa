import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nodeNumber, parseConfig, type DaemonConfigInput } from '../config.js'
import { EtcdMembership, type EtcdMembershipOptions } from './etcd-membership.js'
import type { EtcdConfig } from './membership-config.js'
import { FakeEtcd } from './testing/fake-etcd.js'
import { namesOf, Observed } from './testing/observed.js'

const prefix = '/backdoors/test/'
const own = `${prefix}a`
let etcd: FakeEtcd
let endpoint: string
let observed: Observed
let closers: (() => Promise<void>)[]

beforeEach(async () => {
  etcd = new FakeEtcd()
  endpoint = await etcd.listen()
  observed = new Observed()
  closers = [() => etcd.close()]
})

afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** Fast, so that a test waits for little; nothing that is asserted depends on it. */
const fast: EtcdMembershipOptions = { backoff: { minMs: 2, maxMs: 20 }, resyncMs: 60_000 }

function start({ endpoints = [endpoint], config = {}, options = fast }: { endpoints?: string[]; config?: Partial<DaemonConfigInput>; options?: EtcdMembershipOptions } = {}): EtcdMembership {
  const checked = parseConfig({ node: 'a', cluster: 'test', region: { path: '/dev/shm/backdoors-a' }, membership: { etcd: { endpoints } }, ...config })
  const membership = new EtcdMembership(checked.membership?.etcd as EtcdConfig, checked, observed, options)
  closers.push(() => membership.close())
  membership.start()
  return membership
}

const region = (name: string): { region: string } => ({ region: `/dev/shm/${name}` })
const register = (name: string): void => etcd.put(prefix + name, region(name))
const ownValue = (): string | undefined => etcd.stored.get(own)?.value.toString('utf8')
/** Resolves when etcd has seen what is asked for; its state changes by requests, so it is looked at between them. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise(setImmediate)
}

describe('a node in etcd', () => {
  it('registers itself with a lease, and learns who is there and who comes', async () => {
    register('b')
    const membership = start()
    await observed.until(() => namesOf(membership).length === 1)
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    expect(etcd.stored.get(own)).toMatchObject({ lease: '101' })
    expect(JSON.parse(ownValue() ?? '')).toEqual({ region: '/dev/shm/backdoors-a' })
    register('c')
    await observed.until(() => namesOf(membership).length === 2)
    expect(membership.current).toEqual([{ name: 'b', region: '/dev/shm/b', owner: 0 }, { name: 'c', region: '/dev/shm/c', owner: 0 }])
    expect([membership.trouble, observed.troubles]).toEqual([undefined, []])
  })

  it('is known by its new address when it has one', async () => {
    register('b')
    const membership = start()
    await until(() => etcd.watches === 1)
    etcd.put(`${prefix}b`, { region: '/dev/shm/elsewhere' })
    await observed.until(() => membership.current[0]?.region === '/dev/shm/elsewhere')
    expect(namesOf(membership)).toEqual(['b'])
  })

  it('is a member still when its lease has ended, here and where the keys are read anew', async () => {
    register('b')
    const membership = start()
    await until(() => etcd.watches === 1)
    etcd.delete(`${prefix}b`)
    await observed.until(() => observed.notes.length === 1)
    expect(observed.notes[0]).toContain('watched on')
    etcd.tell({ canceled: true, compact_revision: '1' })
    await until(() => etcd.calls.filter((path) => path === '/v3/kv/range').length === 2)
    register('c')
    await observed.until(() => namesOf(membership).includes('c'))
    expect(namesOf(membership)).toEqual(['b', 'c'])
  })

  it('is none any more when it has left in order', async () => {
    for (const name of ['b', 'c']) register(name)
    const membership = start()
    await until(() => etcd.watches === 1)
    etcd.put(`${prefix}b`, { left: true })
    await observed.until(() => namesOf(membership).length === 1)
    expect(namesOf(membership)).toEqual(['c'])
    register('b')
    await observed.until(() => namesOf(membership).length === 2)
  })

  it('says that it leaves, when it does', async () => {
    const membership = start()
    await until(() => etcd.calls.includes('/v3/lease/keepalive'))
    await membership.close()
    expect(ownValue()).toBe('{"left":true}')
    expect(etcd.calls.at(-1)).toBe('/v3/lease/revoke')
    await membership.close()
    expect(observed.notes).toEqual([])
  })

  it('says so when it cannot say that it leaves', async () => {
    const membership = start()
    await until(() => etcd.stored.has(own))
    await etcd.close()
    await membership.close()
    expect(observed.notes).toEqual([expect.stringContaining('could not be told')])
  })

  it('says nothing where it never came', async () => {
    etcd.answer('/v3/lease/grant', (response) => void response.writeHead(503).end())
    const membership = start()
    await observed.until(() => observed.troubles.length > 0)
    await membership.close()
    expect([etcd.stored.size, observed.notes]).toEqual([0, []])
  })

  it.each<[string, () => void]>([
    ['its lease is lost', () => etcd.endLeases()],
    ['its key is deleted', () => etcd.delete(own)],
    ['it is marked in error as one that left', () => etcd.put(own, { left: true })],
  ])('registers anew when %s', async (_, happen) => {
    start()
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    const before = etcd.revision
    happen()
    await until(() => (etcd.stored.get(own)?.modified ?? 0) > before && ownValue() !== '{"left":true}')
    expect(JSON.parse(ownValue() ?? '')).toEqual({ region: '/dev/shm/backdoors-a' })
  })

  it('reports another daemon of its name, and does not contend with it', async () => {
    start()
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    etcd.put(own, { region: '/dev/shm/theirs' })
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code: 'MEMBER_INVALID', details: { peer: 'a' } })
    expect(ownValue()).toContain('theirs')
  })

  it('is told of machines that others lend, and tells of those that it lends', async () => {
    const verbs = { fabric: 'verbs', keys: 'keys', listen: { host: '10.0.0.1', port: 7400 }, hosts: [{ name: 'vm2', memory: '/dev/shm/vm2' }] } satisfies Partial<DaemonConfigInput>
    etcd.put(`${prefix}b`, { host: '10.0.0.2', port: 7400, hosts: [{ name: 'vm1', owner: 5 }, { name: 'a' }] })
    const membership = start({ config: verbs })
    await observed.until(() => membership.current.length > 0)
    expect(membership.current).toEqual([{ name: 'b', host: '10.0.0.2', port: 7400, owner: 0 }, { name: 'vm1', through: 'b', owner: 5 }])
    await until(() => etcd.stored.has(own))
    expect(JSON.parse(ownValue() ?? '')).toEqual({ host: '10.0.0.1', port: 7400, hosts: [{ name: 'vm2', owner: 0 }] })
  })

  it('knows who the others are when etcd has told it once, and from then on', async () => {
    register('b')
    etcd.answer('/v3/kv/range', (response) => void response.writeHead(503).end())
    const membership = start({ config: { peers: [{ name: 'c', ...region('c') }] } })
    await observed.until(() => observed.troubles.length > 0)
    expect([namesOf(membership), membership.isKnown]).toEqual([['c'], false])
    etcd.answer('/v3/kv/range', undefined)
    await observed.until(() => namesOf(membership).length === 2)
    expect(membership.isKnown).toBe(true)
    await until(() => etcd.watches === 1)
    await etcd.close()
    await observed.until(() => membership.trouble !== undefined)
    expect([namesOf(membership), membership.isKnown]).toEqual([['c', 'b'], true])
  })

  it('does not know all of them while a record of one cannot be used', async () => {
    etcd.put(`${prefix}b`, 'nonsense')
    etcd.put(`${prefix}n@body`, 'nonsense')
    const membership = start()
    await until(() => etcd.watches === 1)
    expect([namesOf(membership), membership.isKnown]).toEqual([[], false])
    register('b')
    await observed.until(() => namesOf(membership).length === 1)
    expect(membership.isKnown).toBe(true)
  })

  it('has the peers of its configuration from the start, until etcd says otherwise of them', async () => {
    etcd.put(`${prefix}b`, { region: '/dev/shm/new' })
    etcd.put(`${prefix}c`, { left: true })
    const membership = start({ config: { peers: ['b', 'c', 'd'].map((name) => ({ name, ...region(name) })) } })
    expect(namesOf(membership)).toEqual(['b', 'c', 'd'])
    await observed.until(() => observed.changes > 0)
    expect(membership.current).toEqual([{ name: 'd', region: '/dev/shm/d', owner: 0 }, { name: 'b', region: '/dev/shm/new', owner: 0 }])
  })
})

describe('while etcd does not answer as it should', () => {
  it.each<[string, string, Parameters<FakeEtcd['answer']>[1]]>([
    ['PROTOCOL_ERROR', 'it answers with what is no JSON', (response) => response.end('<html>')],
    ['PROTOCOL_ERROR', 'it answers without a revision that is one', (response) => response.end('{"header":{"revision":"many"}}')],
    ['PROTOCOL_ERROR', 'its keys are no base64', (response) => response.end('{"header":{"revision":"5"},"kvs":[{"key":"&&"}]}')],
    ['PROTOCOL_ERROR', 'it answers with an array', (response) => response.end('[]')],
    ['PROTOCOL_ERROR', 'it answers with more keys than were asked for', (response) => response.end(JSON.stringify({ header: {}, kvs: Array.from({ length: 4097 }, () => ({})) }))],
    ['ETCD_UNAVAILABLE', 'it has no leader', (response) => response.writeHead(503).end('{"error":"etcdserver: no leader","code":14}')],
    ['ETCD_UNAVAILABLE', 'a proxy stands in its place', (response) => response.writeHead(502).end('Bad Gateway')],
    ['ETCD_UNAVAILABLE', 'it ends the connection', (response) => response.destroy()],
    ['ETCD_UNAVAILABLE', 'it ends the connection in the midst of its answer', (response) => (response.writeHead(200, { 'content-length': 100 }), response.write('{'), setImmediate(() => response.destroy()))],
    ['ETCD_UNAVAILABLE', 'it never answers', () => undefined],
    ['ETCD_REFUSED', 'it gives no permission', (response) => response.writeHead(403).end('{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}')],
    ['ETCD_REFUSED', 'it leads elsewhere', (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
    ['MESSAGE_TOO_LARGE', 'its answer has no end', (response) => {
      const more = (): void => void (response.destroyed || response.write('x'.repeat(1 << 20), more))
      more()
    }],
  ])('%s is reported once, as %s, and the membership stays', async (code, _, answer) => {
    const membership = start({ options: { ...fast, timeoutMs: code === 'ETCD_UNAVAILABLE' ? 300 : 30_000 } })
    register('b')
    await observed.until(() => namesOf(membership).length === 1)
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    etcd.answer('/v3/kv/range', answer)
    etcd.tell({ canceled: true })
    await observed.until(() => observed.troubles.length === 1)
    expect(membership.trouble).toMatchObject({ code })
    expect(namesOf(membership)).toEqual(['b'])
    register('c')
    etcd.answer('/v3/kv/range', undefined)
    await observed.until(() => observed.wells === 1 && namesOf(membership).length === 2)
    expect([membership.trouble, observed.troubles.length]).toEqual([undefined, 1])
  })

  it.each<[string, string, () => void]>([
    ['PROTOCOL_ERROR', 'what is no JSON', () => etcd.tellRaw('nonsense\n')],
    ['PROTOCOL_ERROR', 'an event of another kind', () => etcd.tell({ events: [{ type: 'RENAME', kv: {} }] })],
    ['ETCD_UNAVAILABLE', 'an error', () => etcd.tellRaw('{"error":{"message":"etcdserver: no leader"}}\n')],
    ['MESSAGE_TOO_LARGE', 'a message without an end', () => etcd.tellRaw('x'.repeat(5 << 20))],
  ])('%s is reported where it tells a watch %s, and all is read anew', async (code, _, happen) => {
    const membership = start()
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    happen()
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code })
    register('b')
    await observed.until(() => namesOf(membership).length === 1 && observed.wells === 1)
  })

  it('another endpoint is asked, and the first is not needed', async () => {
    const other = new FakeEtcd()
    const endpoints = [endpoint, await other.listen()]
    closers.push(() => other.close())
    await etcd.close()
    other.put(`${prefix}b`, region('b'))
    const membership = start({ endpoints })
    await observed.until(() => namesOf(membership).length === 1)
    await until(() => other.stored.has(own))
    expect(observed.troubles).toEqual([])
  })

  it('an etcd that has lost all it knew loses nobody here, and is told anew of this node', async () => {
    register('b')
    const membership = start()
    await until(() => etcd.stored.has(own) && etcd.watches === 1)
    etcd.wipe()
    etcd.tell({ canceled: true })
    await until(() => etcd.stored.has(own))
    expect(namesOf(membership)).toEqual(['b'])
  })

  it('what a silent watch has missed is found when the keys are read again', async () => {
    etcd.answer('/v3/watch', (response) => void response.write('{"result":{"created":true}}\n'))
    const membership = start({ options: { ...fast, resyncMs: 20 } })
    await until(() => etcd.calls.includes('/v3/watch'))
    register('b')
    await observed.until(() => namesOf(membership).length === 1)
    expect(observed.troubles).toEqual([])
  })
})

describe('a record', () => {
  it.each<[string, string, unknown]>([
    ['that is no JSON', 'bad', '{'],
    ['that is no UTF-8', 'bad', Buffer.from([0x22, 0xff, 0x22])],
    ['that is no object', 'bad', []],
    ['that is empty', 'bad', ''],
    ['without an address', 'bad', {}],
    ['of the other fabric', 'bad', { host: '10.0.0.2', port: 7400 }],
    ['with a relative path', 'bad', { region: '../x' }],
    ['with a path that ends early', 'bad', { region: '/dev/shm/x\0y' }],
    ['with a key that is none', 'bad', { ...region('x'), rkey: 7 }],
    ['that has left and not', 'bad', { ...region('x'), left: true }],
    ['that has not left', 'bad', { left: false }],
    ['that is too long', 'bad', `"${'x'.repeat(20_000)}"`],
    ['with a host that is none', 'bad', { ...region('x'), host: 'a b' }],
    ['of a name that is none', 'B@D', region('x')],
    ['of a name further down', 'bad/worse', region('x')],
    ['of no name', '', region('x')],
  ])('%s is passed over, and reported once', async (_, name, value) => {
    etcd.put(prefix + name, value)
    register('b')
    const membership = start()
    await observed.until(() => namesOf(membership).length === 1)
    await until(() => etcd.watches === 1)
    etcd.put(prefix + name, value)
    register('c')
    await observed.until(() => namesOf(membership).length === 2)
    expect(namesOf(membership)).toEqual(['b', 'c'])
    expect(observed.troubles).toMatchObject([{ code: 'MEMBER_INVALID', details: { path: expect.stringContaining(prefix) as unknown } }])
    expect(membership.trouble).toBeUndefined()
  })

  it('that becomes bad leaves the node as it was', async () => {
    register('b')
    const membership = start()
    await until(() => etcd.watches === 1)
    etcd.put(`${prefix}b`, 'nonsense')
    await observed.until(() => observed.troubles.length === 1)
    expect(membership.current).toEqual([{ name: 'b', region: '/dev/shm/b', owner: 0 }])
  })

  it('that clashes with another\'s number in claim words is passed over: who was first stays', async () => {
    const [first, second] = sameNumber()
    register(first)
    register(second)
    const membership = start()
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code: 'MEMBER_INVALID', details: { peer: second } })
    await observed.until(() => namesOf(membership).length === 1)
    expect(namesOf(membership)).toEqual([first])
  })

  it('that lends another node, or this one\'s name, takes neither\'s place', async () => {
    const verbs = { fabric: 'verbs', keys: 'keys', listen: { host: '10.0.0.1', port: 7400 } } as const
    etcd.put(`${prefix}b`, { host: '10.0.0.2', port: 1 })
    etcd.put(`${prefix}c`, { host: '10.0.0.3', port: 1, hosts: [{ name: 'b' }] })
    etcd.put(`${prefix}d`, { host: '10.0.0.4', port: 1, hosts: [{ name: 'vm' }, { name: 'vm' }] })
    const membership = start({ config: verbs })
    await observed.until(() => observed.troubles.length === 2)
    expect(observed.troubles).toMatchObject([{ code: 'MEMBER_INVALID', details: { peer: 'b' } }, { code: 'MEMBER_INVALID', details: { peer: 'vm' } }])
    await observed.until(() => membership.current.length > 0)
    expect(namesOf(membership)).toEqual(['b'])
  })

  it('is one of too many beyond 1024 members', async () => {
    for (let i = 0, seen = new Set([nodeNumber('a')]); seen.size <= 1025; i++) {
      const name = `n${i}`
      if (seen.has(nodeNumber(name))) continue
      seen.add(nodeNumber(name))
      register(name)
    }
    const membership = start()
    await observed.until(() => observed.changes === 1)
    expect(membership.current).toHaveLength(1024)
    expect(observed.troubles).toMatchObject([{ code: 'MEMBER_INVALID' }])
  })
})

/** Two names that share a number. */
function sameNumber(): [string, string] {
  const seen = new Map<number, string>()
  for (let i = 0; ; i++) {
    const name = `n${i}`
    const other = seen.get(nodeNumber(name))
    if (other !== undefined) return [other, name]
    seen.set(nodeNumber(name), name)
  }
}
