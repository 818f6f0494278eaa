import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { BackdoorsError } from '../errors.js'
import { configSchema, loadConfig, nodeNumber, parseConfig, type DaemonConfigInput } from './config.js'

const folder = mkdtempSync(join(tmpdir(), 'backdoors-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

function fileOf(text: string): string {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.yaml`)
  writeFileSync(path, text)
  return path
}

function errorOf(run: () => unknown): BackdoorsError {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(BackdoorsError)
    return error as BackdoorsError
  }
  throw new Error('nothing was thrown')
}

const verbs: DaemonConfigInput = { node: 'a', fabric: 'verbs', listen: { host: '10.0.0.1', port: 7400 }, keys: '/etc/backdoors/keys', peers: [{ name: 'b', host: '10.0.0.2', port: 7400 }] }

describe('a configuration of a name alone', () => {
  it('is enough, and is a node on shm without peers', () => {
    expect(parseConfig({ node: 'a' })).toMatchObject({
      node: 'a', cluster: 'default', fabric: 'shm', peers: [], log: 'warn', region: { path: '/dev/shm/backdoors-a', boxes: 8 },
      watch: { peers: 2, intervalUs: 1000, osDeadlineMs: 50, realtime: false }, recovery: { enabled: true },
    })
  })

  it('serves no page; one that is asked for is on loopback', () => {
    expect(parseConfig({ node: 'a' }).status).toEqual({})
    expect(parseConfig({ node: 'a', status: { http: { port: 9480 } } }).status.http).toEqual({ host: '127.0.0.1', port: 9480 })
  })

  it('can be given its own result again', () => {
    const config = parseConfig({ node: 'a', peers: [{ name: 'b', region: '/dev/shm/backdoors-b' }] })
    expect(parseConfig(config)).toEqual(config)
  })
})

describe('a bad key is named by its path', () => {
  it.each<[string, unknown, string]>([
    ['no object', 'text', ''],
    ['no node', {}, 'node'],
    ['a node name of capitals', { node: 'A' }, 'node'],
    ['a node name of 64 characters', { node: 'a'.repeat(64) }, 'node'],
    ['an unknown key', { node: 'a', peer: [] }, 'peer'],
    ['an unknown key deep down', { node: 'a', watch: { interval: 5 } }, 'watch.interval'],
    ['an unknown key of a peer', { node: 'a', peers: [{ name: 'b', region: '/x' }, { name: 'c', region: '/y', prot: 1 }] }, 'peers[1].prot'],
    ['a page without a port', { node: 'a', status: { http: {} } }, 'status.http.port'],
    ['a page in the wrong place', { node: 'a', status: { port: 1 } }, 'status.port'],
    ['a wrong type', { node: 'a', watch: { peers: '2' } }, 'watch.peers'],
    ['a number out of its range', { node: 'a', region: { boxes: 1 } }, 'region.boxes'],
    ['more boxes than the control page holds', { node: 'a', region: { boxes: 1000 } }, 'region.boxes'],
    ['a fraction of a box', { node: 'a', region: { boxes: 2.5 } }, 'region.boxes'],
    ['no such fabric', { node: 'a', fabric: 'tcp' }, 'fabric'],
    ['an empty command', { node: 'a', recovery: { fence: { command: [] } } }, 'recovery.fence.command'],
    ['a command of a shell', { node: 'a', recovery: { announce: { command: 'ip addr add' } } }, 'recovery.announce.command'],
    ['fencing of the unreachable without a fence', { node: 'a', recovery: { fenceUnreachable: true } }, 'recovery.fenceUnreachable'],
    ['a limit that is no part of the whole', { node: 'a', sensors: { limits: { memory: 95 } } }, 'sensors.limits.memory'],
    ['a window without length', { node: 'a', watch: { flapping: { windowMs: 0 } } }, 'watch.flapping.windowMs'],
    ['a port beyond 65535', { node: 'a', metrics: { port: 70_000 } }, 'metrics.port'],
    ['no such safeguard', { node: 'a', canary: 'all' }, 'canary'],
    ['itself as a peer', { node: 'a', peers: [{ name: 'a', region: '/x' }] }, 'peers[0].name'],
    ['a peer that stands twice', { node: 'a', peers: [{ name: 'b', region: '/x' }, { name: 'b', region: '/y' }] }, 'peers[1].name'],
    ['a peer without a region on shm', { node: 'a', peers: [{ name: 'b' }] }, 'peers[0].region'],
    ['a peer without an address on verbs', { ...verbs, peers: [{ name: 'b', region: '/x' }] }, 'peers[0].host'],
    ['verbs without a place to listen', { ...verbs, listen: undefined }, 'listen'],
    ['verbs without keys', { ...verbs, keys: undefined }, 'keys'],
  ])('%s', (_, input, field) => {
    const error = errorOf(() => parseConfig(input))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.details.field ?? '').toBe(field)
    expect(error.message).toContain(field)
  })
})

describe('a configuration for verbs', () => {
  it('needs a place to listen, keys, and its peers\' addresses', () => {
    expect(parseConfig(verbs)).toMatchObject({ fabric: 'verbs', listen: { port: 7400 }, peers: [{ name: 'b', host: '10.0.0.2' }] })
  })
})

describe('the configuration in docs/operating.md', () => {
  it('is valid, and names every key but those for shm and for demonstrations', () => {
    const text = /```yaml\n([^]*?)```/.exec(readFileSync(new URL('../../docs/operating.md', import.meta.url), 'utf8'))?.[1] ?? ''
    expect(loadConfig(fileOf(text))).toMatchObject({ node: 'a', fabric: 'verbs', peers: [{ name: 'b' }, { name: 'c' }, { name: 'vm1', through: 'c' }], hosts: [{ name: 'vm2' }] })
    const keys = Object.keys(configSchema.shape).filter((key) => key !== 'canary')
    for (const key of keys) expect(text).toMatch(new RegExp(`^${key}:`, 'm'))
  })
})

describe('whole machines', () => {
  const verbs = { node: 'a', fabric: 'verbs', keys: 'keys', listen: { host: '10.0.0.1', port: 1 } } as const
  const lender = { name: 'b', host: '10.0.0.2', port: 1 }
  const host = { name: 'vm', memory: '/dev/dax0.0' }

  it.each([
    ['through a peer that is not there', { ...verbs, peers: [{ name: 'vm', through: 'b' }] }, 'peers[0].through'],
    ['through one that is itself reached through another', { ...verbs, peers: [lender, { name: 'c', through: 'b' }, { name: 'vm', through: 'c' }] }, 'peers[2].through'],
    ['on shm', { node: 'a', peers: [{ name: 'b', region: 'b' }, { name: 'vm', region: 'vm', through: 'b' }] }, 'peers[1].through'],
    ['lent on shm', { node: 'a', hosts: [host] }, 'hosts'],
    ['lent twice', { ...verbs, hosts: [host, host] }, 'hosts[1].name'],
    ['with an empty piece of memory', { ...verbs, hosts: [{ ...host, map: [{ physical: 0, length: 0, offset: 0 }] }] }, 'hosts[0].map[0].length'],
  ])('%s are refused', (_, config, field) => {
    expect(errorOf(() => parseConfig(config))).toMatchObject({ code: 'CONFIG_INVALID', details: { field } })
  })

  it('are reached through a peer that has an address, and need none of their own', () => {
    expect(parseConfig({ ...verbs, peers: [lender, { name: 'vm', through: 'b' }], hosts: [host] })).toMatchObject({ hosts: [{ writable: false }] })
  })
})

describe('a configuration file', () => {
  it('is YAML, with paths from its own folder', () => {
    const path = fileOf('node: a\nregion: { path: a.region }\nkeys: keys\npeers:\n  - { name: b, region: b.region }\n  - { name: c, region: /dev/shm/c }\n')
    expect(loadConfig(path)).toMatchObject({ region: { path: join(folder, 'a.region') }, keys: join(folder, 'keys'), peers: [{ region: join(folder, 'b.region') }, { region: '/dev/shm/c' }] })
  })

  it('may be JSON', () => {
    expect(loadConfig(fileOf(JSON.stringify({ node: 'a', watch: { peers: 1 } })))).toMatchObject({ node: 'a', watch: { peers: 1 } })
  })

  it('is named in the error, with the path of the bad key', () => {
    const path = fileOf('node: a\nwatch:\n  intervalUs: 5\n')
    const error = errorOf(() => loadConfig(path))
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', details: { path, field: 'watch.intervalUs' } })
    expect(error.message).toContain(path)
  })

  it.each([['that is not there', join(folder, 'none.yaml')], ['that is a folder', folder]])('%s is an error of the configuration', (_, path) => {
    expect(errorOf(() => loadConfig(path))).toMatchObject({ code: 'CONFIG_INVALID', details: { path } })
  })

  it('that is no YAML is named with the place of the fault', () => {
    const error = errorOf(() => loadConfig(fileOf('node: [a\n')))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(/line \d/)
  })

  it('that is empty is an error', () => {
    expect(errorOf(() => loadConfig(fileOf(''))).code).toBe('CONFIG_INVALID')
  })
})

describe('the number of a node', () => {
  it('is the same everywhere, and never 0, which would be no claim', () => {
    expect(nodeNumber('a')).toBe(nodeNumber('a'))
    for (let i = 0; i < 5000; i++) {
      const number = nodeNumber(`node-${i}`)
      expect(number).toBeGreaterThanOrEqual(1)
      expect(number).toBeLessThanOrEqual(0xffff)
    }
  })

  it('must differ within a cluster', () => {
    const seen = new Map<number, string>()
    for (let i = 0; ; i++) {
      const name = `n${i}`
      const other = seen.get(nodeNumber(name))
      if (other === undefined) {
        seen.set(nodeNumber(name), name)
        continue
      }
      const peers = [{ name: other, region: '/x' }, { name, region: '/y' }]
      expect(errorOf(() => parseConfig({ node: 'a', peers }))).toMatchObject({ code: 'CONFIG_INVALID', details: { field: 'peers[1].name' } })
      return
    }
  })
})
