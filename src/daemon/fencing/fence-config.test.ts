import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { BackdoorsError } from '../../errors.js'
import { parseConfig } from '../config.js'

const peers = [{ name: 'b', region: '/x' }]
const withFence = (fence: unknown): unknown => ({ node: 'a', peers, recovery: { fence } })

function errorOf(run: () => unknown): BackdoorsError {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(BackdoorsError)
    return error as BackdoorsError
  }
  throw new Error('nothing was thrown')
}

describe('external fencing', () => {
  it('is required, and has 30 s, where nothing else is said', () => {
    expect(parseConfig(withFence({ agent: 'fence_xvm' })).recovery.fence).toEqual({
      agent: 'fence_xvm', action: 'off', options: {}, nodes: {}, plugs: {}, plugOption: 'plug', required: true, silences: false, timeoutMs: 30_000,
    })
    expect(parseConfig(withFence({ command: ['/bin/true'] })).recovery.fence).toEqual({ command: ['/bin/true'], required: true, silences: false, timeoutMs: 30_000 })
  })

  it('may be left out', () => {
    expect(parseConfig({ node: 'a' }).recovery.fence).toBeUndefined()
  })

  it('can be given its own result again', () => {
    const config = parseConfig(withFence({ agent: '/usr/sbin/fence_apc', options: { ip: '10.0.0.9', ssl: true }, plugs: { b: '3' }, nodes: { b: { ip: '10.0.0.10' } } }))
    expect(parseConfig(config)).toEqual(config)
  })

  it.each<[string, unknown, string]>([
    ['neither a command nor an agent', {}, 'recovery.fence.command'],
    ['both', { command: ['/bin/true'], agent: 'fence_xvm' }, 'recovery.fence.command'],
    ['a list', ['/bin/true'], 'recovery.fence'],
    ['an agent that could be anything', { agent: 'rm' }, 'recovery.fence.agent'],
    ['an agent by a relative path', { agent: './fence_xvm' }, 'recovery.fence.agent'],
    ['an action that fences nobody', { agent: 'fence_xvm', action: 'status' }, 'recovery.fence.action'],
    ['an unknown key', { agent: 'fence_xvm', option: {} }, 'recovery.fence.option'],
    ['an option of two lines', { agent: 'fence_xvm', options: { password: 'a\naction=on' } }, 'recovery.fence.options.password'],
    ['an option that is a number, whose zeros YAML has taken', { agent: 'fence_xvm', options: { password: 123 } }, 'recovery.fence.options.password'],
    ['an option that the daemon sets', { agent: 'fence_xvm', options: { plug: '1' } }, 'recovery.fence.options.plug'],
    ['an option that the daemon sets, for one node', { agent: 'fence_xvm', nodes: { b: { action: 'on' } } }, 'recovery.fence.nodes.b.action'],
    ['an option with a name that is none', { agent: 'fence_xvm', options: { 'a b': '1' } }, 'recovery.fence.options.a b'],
    ['a plug of two lines', { agent: 'fence_xvm', plugs: { b: '1\naction=on' } }, 'recovery.fence.plugs.b'],
    ['a plug of somebody else', { agent: 'fence_xvm', plugs: { c: '1' } }, 'recovery.fence.plugs.c'],
    ['options of somebody else', { agent: 'fence_xvm', nodes: { c: {} } }, 'recovery.fence.nodes.c'],
    ['one that is said to silence, and need not succeed', { command: ['/bin/true'], silences: true, required: false }, 'recovery.fence.silences'],
    ['no time at all', { agent: 'fence_xvm', timeoutMs: 0 }, 'recovery.fence.timeoutMs'],
  ])('is refused: %s', (_, fence, field) => {
    const error = errorOf(() => parseConfig(withFence(fence)))
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', details: { field } })
    expect(error.message).toContain(field)
  })

  it('does not tell in its errors what an option holds', () => {
    const error = errorOf(() => parseConfig(withFence({ agent: 'fence_xvm', options: { password: 'hunter\n2secret' } })))
    expect(error.message + JSON.stringify(error)).not.toMatch(/hunter|2secret/)
  })
})

describe('virtual addresses', () => {
  const address = { node: 'b', address: '10.0.0.50/24', interface: 'eth0' }
  const withAddresses = (...addresses: object[]): unknown => ({ node: 'a', peers, recovery: { addresses } })

  it('may be of peers and of this node itself, and go back by default', () => {
    expect(parseConfig(withAddresses(address, { node: 'a', address: '2001:db8::50/64', interface: 'eth0.5', failback: false })).recovery.addresses).toEqual([
      { ...address, failback: true },
      { node: 'a', address: '2001:db8::50/64', interface: 'eth0.5', failback: false },
    ])
  })

  it.each<[string, unknown, string]>([
    ['no prefix length', withAddresses({ ...address, address: '10.0.0.50' }), 'recovery.addresses[0].address'],
    ['a prefix that is too long', withAddresses({ ...address, address: '10.0.0.50/33' }), 'recovery.addresses[0].address'],
    ['an address of many machines', withAddresses({ ...address, address: '224.0.0.1/32' }), 'recovery.addresses[0].address'],
    ['no interface', withAddresses({ ...address, interface: 'eth 0' }), 'recovery.addresses[0].interface'],
    ['an interface of 16 characters', withAddresses({ ...address, interface: 'a'.repeat(16) }), 'recovery.addresses[0].interface'],
    ['of nobody', withAddresses(address, { ...address, node: 'c', address: '10.0.0.51/24' }), 'recovery.addresses[1].node'],
    ['one address twice, written otherwise', withAddresses({ ...address, address: '2001:db8::1/64' }, { ...address, node: 'a', address: '2001:DB8:0::1/128' }), 'recovery.addresses[1].address'],
    ['an unknown key', withAddresses({ ...address, dev: 'eth0' }), 'recovery.addresses[0].dev'],
  ])('are refused: %s', (_, config, field) => {
    expect(errorOf(() => parseConfig(config))).toMatchObject({ code: 'CONFIG_INVALID', details: { field } })
  })
})

describe('the configuration in docs/fencing-and-addresses.md', () => {
  it('is valid', () => {
    const text = /```yaml\n([^]*?)```/.exec(readFileSync(new URL('../../../docs/fencing-and-addresses.md', import.meta.url), 'utf8'))?.[1] ?? ''
    const both = ['b', 'c'].map((name) => ({ name, region: `/${name}` }))
    expect(parseConfig({ node: 'a', peers: both, ...(parse(text) as object) }).recovery).toMatchObject({ fence: { agent: 'fence_ifmib', action: 'off', plugs: { b: 'Gi1/0/3' } }, addresses: [{ failback: true }, { failback: false }] })
  })
})
