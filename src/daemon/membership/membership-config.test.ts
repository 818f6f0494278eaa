import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadConfig, parseConfig, type DaemonConfigInput } from '../config.js'
import { openMembership } from './membership.js'
import { namesOf, Observed } from './testing/observed.js'

const folder = mkdtempSync(join(tmpdir(), 'backdoors-members-'))
afterAll(() => rmSync(folder, { recursive: true }))

const verbs = { node: 'a', fabric: 'verbs', keys: 'keys', listen: { host: '10.0.0.1', port: 7400 } } as const
const endpoints = ['http://127.0.0.1:2379']

describe('a membership', () => {
  it.each<[string, Partial<DaemonConfigInput>, string]>([
    ['of no kind', { membership: {} }, 'membership'],
    ['of two kinds', { membership: { file: 'x', etcd: { endpoints } } }, 'membership'],
    ['of another kind', { membership: { zookeeper: {} } } as never, 'membership.zookeeper'],
    ['by a file beside a list', { membership: { file: 'x' }, peers: [{ name: 'b', region: '/b' }] }, 'peers'],
    ['by an etcd without an endpoint', { membership: { etcd: { endpoints: [] } } }, 'membership.etcd.endpoints'],
    ['by an etcd at what is no address', { membership: { etcd: { endpoints: ['127.0.0.1:2379'] } } }, 'membership.etcd.endpoints[0]'],
    ['by an etcd with a password in its address', { membership: { etcd: { endpoints: ['http://me:secret@127.0.0.1:2379'] } } }, 'membership.etcd.endpoints[0]'],
    ['under a prefix that is no path', { membership: { etcd: { endpoints, prefix: 'backdoors/' } } }, 'membership.etcd.prefix'],
    ['with a lease too short to be renewed', { membership: { etcd: { endpoints, leaseSeconds: 1 } } }, 'membership.etcd.leaseSeconds'],
    ['with certificates in plain text', { membership: { etcd: { endpoints, tls: { ca: 'ca.pem' } } } }, 'membership.etcd.endpoints'],
    ['with a certificate and no key', { membership: { etcd: { endpoints: ['https://127.0.0.1:2379'], tls: { cert: 'cert.pem' } } } }, 'membership.etcd.tls'],
    ['that tells of a port on shm', { membership: { etcd: { endpoints, advertise: { host: 'x', port: 1 } } } }, 'membership.etcd.advertise'],
    ['that tells of a region on verbs', { ...verbs, membership: { etcd: { endpoints, advertise: { region: '/x' } } } }, 'membership.etcd.advertise.region'],
    ['that tells nobody where it listens', { ...verbs, listen: { host: '0.0.0.0', port: 7400 }, membership: { etcd: { endpoints } } }, 'membership.etcd.advertise'],
    ['that tells of a port not known yet', { ...verbs, listen: { host: '10.0.0.1', port: 0 }, membership: { etcd: { endpoints } } }, 'membership.etcd.advertise'],
  ])('%s is refused', (_, more, field) => {
    expect(() => parseConfig({ node: 'a', ...more })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', details: expect.objectContaining({ field }) as unknown }))
  })

  it('is the list of peers where none is named, and that never changes', () => {
    const membership = openMembership(parseConfig({ node: 'a', peers: [{ name: 'b', region: '/b' }] }), new Observed())
    expect([membership.source, namesOf(membership), membership.trouble]).toEqual(['static', ['b'], undefined])
  })

  it('has its files beside the configuration', () => {
    const path = join(folder, 'paths.yaml')
    writeFileSync(path, 'node: a\nmembership: { etcd: { endpoints: [https://e:2379], tls: { ca: ca.pem, cert: /abs.pem, key: key.pem } } }\n')
    expect(loadConfig(path).membership?.etcd?.tls).toEqual({ ca: join(folder, 'ca.pem'), cert: '/abs.pem', key: join(folder, 'key.pem') })
  })
})

describe('docs/membership.md', () => {
  const page = readFileSync(new URL('../../../docs/membership.md', import.meta.url), 'utf8')
  const snippets = [...page.matchAll(/```yaml\n([^]*?)```/g)].map(([, text]) => text ?? '')

  it('has configurations that are valid, and a file of peers that is one', () => {
    const [withFile, peers, withEtcd, withTls] = snippets.map((text, i) => {
      const path = join(folder, i === 1 ? 'peers.yaml' : `snippet-${i}.yaml`)
      writeFileSync(path, text)
      return path
    }) as [string, string, string, string]
    const byFile = loadConfig(withFile)
    expect(byFile.membership).toEqual({ file: peers })
    expect(namesOf(openMembership(byFile, new Observed()))).toEqual(['b'])
    expect(loadConfig(withEtcd).membership?.etcd).toMatchObject({ prefix: '/backdoors', leaseSeconds: 15 })
    expect(loadConfig(withTls)).toMatchObject({ fabric: 'verbs', membership: { etcd: { advertise: { host: '10.0.0.1', port: 7400 } } } })
    expect(snippets).toHaveLength(4)
  })
})
