/** Addresses as the kernel and a neighbour see them: two network namespaces, and a listener that is not of this project. */
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../../../addon/test/native-fixture.js'
import { startTypescript, type Child } from '../../region/testing/child.js'
import { canMakeNamespaces, nearHardware, staleHardware, Wire } from './testing/wire.js'

const addresses = [
  { node: 'a', address: '10.9.0.50/24', interface: 'near' },
  { node: 'a', address: 'fd09::50/64', interface: 'near' },
  { node: 'c', address: '10.9.0.51/24', interface: 'near' },
  { node: 'd', address: '10.9.0.52/24', interface: 'absent' },
]

const hardware = nearHardware.replaceAll(':', '')
const request = `ffffffffffff${hardware}08060001080006040001${hardware}0a090032${'00'.repeat(6)}0a090032`
const reply = `ffffffffffff${hardware}08060001080006040002${hardware}0a090032${'ff'.repeat(6)}0a090032`
const address = 'fd090000000000000000000000000050'
const group = 'ff020000000000000000000000000001'
/** But for its checksum, which a test of its own has checked, and without which the far end would not heed it. */
const advertisement = new RegExp(`^333300000001${hardware}86dd6000000000203aff${address}${group}8800[0-9a-f]{4}20000000${address}0201${hardware}$`)

let wire: Wire
let child: Child
let lines: Interface

async function ask(command: string): Promise<unknown> {
  const next = once(lines, 'line') as Promise<[string]>
  child.process.stdin!.write(`${command}\n`)
  const told = JSON.parse((await next)[0]) as { answer?: unknown; error?: unknown }
  return told.error ?? told.answer
}

/** The keeper is a process that has to load TypeScript first. */
const patient = { timeout: 120_000 }

describe.skipIf(!canMakeNamespaces)('a virtual address on a wire', patient, () => {
  beforeEach(async () => {
    wire = await Wire.make()
    child = startTypescript('../../recovery/addresses/testing/keeper-process.ts', [JSON.stringify(addresses)], [], wire.launcher)
    lines = createInterface({ input: child.process.stdout! })
  }, patient.timeout)

  afterEach(async () => {
    child.process.kill('SIGKILL')
    await child.ended()
    await wire.close()
  })

  const advertisements = (): number => wire.frames.filter((frame) => advertisement.test(frame)).length

  it('is there at once, and is told to all neighbours in the very bytes of the standards', async () => {
    expect(await ask('take a')).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    expect(await wire.texts()).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    const six = (await wire.addresses()).find(({ local }) => local === 'fd09::50')
    expect(six).toMatchObject({ nodad: true })
    expect(six?.tentative).toBeUndefined()
    await until('all three announcements are heard', () => wire.heard(request) === 1 && wire.heard(reply) === 1 && advertisements() === 1)
  })

  it('takes the place of the dead machine in what neighbours remember', async () => {
    for (const each of ['10.9.0.50', 'fd09::50']) await wire.remember(each)
    expect([await wire.remembered('10.9.0.50'), await wire.remembered('fd09::50')]).toEqual([staleHardware, staleHardware])
    await ask('take a')
    await wire.untilEnds('the neighbour has the new hardware address', async () => (await wire.remembered('10.9.0.50')) === nearHardware && (await wire.remembered('fd09::50')) === nearHardware)
  })

  it('is announced again twice, for those who missed it', async () => {
    await ask('take c')
    const frame = request.replaceAll('0a090032', '0a090033')
    await until('the first is heard', () => wire.heard(frame) === 1)
    expect(await ask('repeat')).toBe(1)
    await until('the second is heard', () => wire.heard(frame) === 2)
    expect(await ask('repeat')).toBe(0)
    await until('the third is heard', () => wire.heard(frame) === 3)
    expect(await ask('trouble')).toEqual([])
  })

  it('may be taken when it is there already, and is announced anew', async () => {
    await wire.near('ip', 'address', 'add', '10.9.0.50/24', 'dev', 'near')
    await wire.near('ip', 'address', 'add', 'fd09::50/64', 'dev', 'near')
    expect(await ask('take a')).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    expect(await ask('take a')).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    await until('both are heard', () => wire.heard(request) === 2 && advertisements() === 2)
    expect(await wire.texts()).toEqual(['10.9.0.50/24', 'fd09::50/64'])
  })

  it('is known to be somebody else\'s while another machine answers for it, in IPv4 and IPv6', async () => {
    expect(await ask('probe a')).toEqual([])
    await wire.far('ip', 'address', 'add', '10.9.0.50/24', 'dev', 'far')
    const [{ address: hardware }] = JSON.parse(await wire.far('ip', '-j', 'link', 'show', 'dev', 'far')) as [{ address: string }]
    expect(await ask('probe a')).toEqual([['10.9.0.50/24', hardware]])
    await wire.far('ip', 'address', 'add', 'fd09::50/64', 'dev', 'far', 'nodad')
    expect(await ask('probe a')).toEqual([['10.9.0.50/24', hardware], ['fd09::50/64', hardware]])
    expect(await ask('probe c')).toEqual([])
    // Nobody has learnt of it that this machine wanted them.
    expect(await wire.remembered('10.9.0.50')).toBeUndefined()
    expect(await ask('trouble')).toEqual([])
  })

  it('is asked for on an interface that is not there, which costs the others nothing', async () => {
    expect(await ask('probe d')).toEqual([])
    expect(await ask('trouble')).toMatchObject([{ name: 'absent', error: { code: 'SYSTEM_CALL_FAILED', errnoName: 'ENODEV' } }])
  })

  it('is gone when its node is back, without the others\', and announced no more', async () => {
    await ask('take a')
    await ask('take c')
    expect(await ask('release a')).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    expect(await wire.texts()).toEqual(['10.9.0.51/24'])
    expect(await ask('release a')).toEqual([])
    // Two repeats of the other node's address wait, and none of this one's.
    expect(await ask('repeat')).toBe(1)
  })

  it('survives that another one of its prefix, which came first, is given up', async () => {
    await wire.near('ip', 'address', 'flush', 'dev', 'near', 'scope', 'global')
    await wire.near('sysctl', '-qw', 'net.ipv4.conf.near.promote_secondaries=0', 'net.ipv4.conf.all.promote_secondaries=0')
    await ask('take a')
    await ask('take c')
    await ask('release a')
    expect(await wire.texts()).toEqual(['10.9.0.51/24'])
  })

  it('is given up by a machine that has been fenced, with all others, also those that somebody else had set', async () => {
    await wire.near('ip', 'address', 'add', '10.9.0.51/24', 'dev', 'near')
    await ask('take a')
    expect(await ask('release-all')).toEqual(['10.9.0.50/24', 'fd09::50/64', '10.9.0.51/24'])
    expect(await wire.texts()).toEqual([])
    expect(await ask('trouble')).toEqual([])
  })

  it('stays when its keeper is closed', async () => {
    await ask('take a')
    await ask('close')
    await ask('close')
    expect(await ask('repeat')).toBe(0)
    expect(await wire.texts()).toEqual(['10.9.0.50/24', 'fd09::50/64'])
  })

  it('cannot be taken on an interface that is not there', async () => {
    expect(await ask('take d')).toMatchObject({ code: 'ANNOUNCE_FAILED', peer: 'd', interface: 'absent', errnoName: 'ENODEV', call: 'SIOCGIFINDEX' })
  })

  it('of IPv6 cannot be taken where that is switched off; the others are', async () => {
    await wire.near('sysctl', '-qw', 'net.ipv6.conf.near.disable_ipv6=1')
    expect(await ask('take a')).toMatchObject({ code: 'ANNOUNCE_FAILED', peer: 'a', interface: 'near', errnoName: 'EACCES', call: 'RTM_NEWADDR' })
    expect(await wire.texts()).toEqual(['10.9.0.50/24'])
  })

  it('cannot be taken on an interface that is down', async () => {
    await wire.near('ip', 'link', 'set', 'near', 'down')
    expect(await ask('take a')).toMatchObject({ code: 'ANNOUNCE_FAILED', peer: 'a', interface: 'near', errnoName: 'ENETDOWN' })
    expect(await wire.texts()).toEqual([])
  })
})
