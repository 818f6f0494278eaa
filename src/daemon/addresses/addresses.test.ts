/** Virtual addresses through the life of a daemon, in a network namespace of its own. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import { nodeGeneration } from '../../region/control.js'
import { control } from '../../region/layout.js'
import { readHeader, readSensors } from '../../region/region-reader.js'
import { startTypescript, type Child } from '../../region/testing/child.js'
import { canMakeNamespaces, Wire } from '../../recovery/addresses/testing/wire.js'
import { raiseFence } from '../../recovery/control-words.js'
import { heldSensor } from './addresses.js'
import type { DaemonConfigInput } from '../config.js'
import { FakeNode, testDeadlineMs, testGeometry } from '../testing/fake-node.js'

const ofA = { node: 'a', address: '10.9.0.50/24', interface: 'near' }
const ofA6 = { node: 'a', address: 'fd09::50/64', interface: 'near' }
const ofB = { node: 'b', address: '10.9.0.60/24', interface: 'near' }
const ofC = { node: 'c', address: '10.9.0.70/24', interface: 'near' }

let folder: string
const closers: (() => Promise<unknown> | void)[] = []
const pathOf = (node: string): string => join(folder, node)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-addresses-'))
})

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

function startB(recovery: NonNullable<DaemonConfigInput['recovery']>, launcher: readonly string[], watched = 3): Child {
  const { boxCount, ...sizes } = testGeometry
  const config: DaemonConfigInput = {
    node: 'b', cluster: 'test', log: 'silent', region: { path: pathOf('b'), boxes: boxCount, ...sizes },
    peers: ['a', 'c'].map((name) => ({ name, region: pathOf(name) })),
    watch: { peers: watched, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
    recovery,
  }
  const child = startTypescript('../../daemon/testing/daemon-process.ts', [JSON.stringify(config)], [], launcher)
  closers.push(async () => {
    child.process.kill('SIGKILL')
    await child.ended()
  })
  return child
}

function startA(): FakeNode {
  const a = new FakeNode('a', pathOf('a'))
  closers.push(() => a.close())
  a.commit('u1', 'one apple')
  return a
}

async function reaching<T>(node: string, use: (memory: ShmMemory) => Promise<T>): Promise<T> {
  const memory = new ShmMemory({ peer: node, path: pathOf(node), controlOffset: control.offset, controlLength: control.bytes })
  try {
    return await use(memory)
  } finally {
    await memory.close()
  }
}

/** The level sensors by which b says whose addresses it holds. */
const heldByB = (): Promise<Record<string, number>> => reaching('b', async (memory) => {
  const [box] = await readSensors(memory, await readHeader(memory), [0])
  return Object.fromEntries(box!.sensors.filter(({ kind, name }) => kind === 'level' && name.startsWith('address:')).map(({ name, value }) => [name, value]))
})

const saying = ({ yes, no = [] }: { yes: readonly { address: string }[]; no?: readonly { address: string }[] }): Record<string, number> =>
  Object.fromEntries([...yes.map(({ address }) => [heldSensor(address), 1] as const), ...no.map(({ address }) => [heldSensor(address), 0] as const)])

/** That is said when it is done. */
async function untilHeldByB(expected: Record<string, number>): Promise<void> {
  while (!isDeepStrictEqual(await heldByB(), expected)) await new Promise(setImmediate)
}

/** Each daemon is a process that has to load TypeScript first. */
const patient = { timeout: 120_000 }

describe.skipIf(!canMakeNamespaces)('the addresses of a node', patient, () => {
  let wire: Wire
  beforeEach(async () => {
    wire = await Wire.make()
    closers.push(() => wire.close())
  }, patient.timeout)

  async function watching(recovery: NonNullable<DaemonConfigInput['recovery']>): Promise<Child> {
    const b = startB(recovery, wire.launcher)
    await b.said(/"watching"/)
    return b
  }

  /** a is up again, with a region of another incarnation. */
  function restart(a: FakeNode): void {
    a.close()
    rmSync(pathOf('a'))
    startA()
  }

  it('are taken by who recovers it, before the announce command is run; go back when it is up; and all are given up by who is fenced', async () => {
    const seen = join(folder, 'seen')
    const hook = join(folder, 'hook')
    writeFileSync(hook, `#!/bin/sh\nip -o address show dev near > ${seen}\n`, { mode: 0o755 })
    const a = startA()
    const b = await watching({ addresses: [ofA, ofA6, ofB], announce: { command: [hook] } })
    // Its own it has from its start.
    expect(await wire.texts()).toEqual(['10.9.0.60/24'])
    a.stop()
    await b.said(/"recovered","peer":"a","outcome":"announced","target":"node"/)
    expect(await wire.texts()).toEqual(['10.9.0.60/24', '10.9.0.50/24', 'fd09::50/64'])
    expect(readFileSync(seen, 'utf8')).toMatch(/10\.9\.0\.50\/24[^]*fd09::50\/64/)
    expect(await heldByB()).toEqual(saying({ yes: [ofA, ofA6, ofB] }))
    restart(a)
    await wire.untilTexts('10.9.0.60/24')
    await untilHeldByB(saying({ yes: [ofB], no: [ofA, ofA6] }))
    await reaching('b', (memory) => raiseFence(memory, 'node', nodeGeneration))
    await wire.untilTexts()
  })

  it('stay where they are when only one of its servers has failed; then move together with those that it had taken over', async () => {
    const a = startA()
    const b = await watching({ addresses: [ofA, ofC] })
    a.exitServer()
    await b.said(/"recovered","peer":"a","outcome":"announced","target":"box"/)
    expect(await wire.texts()).toEqual([])
    a.daemonBox.sensor({ name: heldSensor(ofC.address), kind: 'level', deadlineUs: 0 }).level(1, 2)
    a.stop()
    await b.said(/"recovered","peer":"a","outcome":"announced","target":"node"/)
    expect(await wire.texts()).toEqual(['10.9.0.50/24', '10.9.0.70/24'])
    const both = saying({ yes: [ofA, ofC] })
    expect(await heldByB()).toEqual(both)
    // The next daemon finds them on its interfaces.
    b.process.kill('SIGKILL')
    await b.ended()
    await startB({ addresses: [ofA, ofC] }, wire.launcher).said(/"started"/)
    expect(await heldByB()).toEqual(both)
  })

  it('go back to it from a recoverer that was started anew meanwhile, and would not watch it by plan', async () => {
    // Alive and next to b: so it is c, and c alone, that b watches by plan.
    const c = new FakeNode('c', pathOf('c'))
    closers.push(() => c.close())
    const a = startA()
    const b = await watching({ addresses: [ofA] })
    a.stop()
    await b.said(/"recovered","peer":"a","outcome":"announced","target":"node"/)
    b.process.kill('SIGKILL')
    await b.ended()
    restart(a)
    startB({ addresses: [ofA] }, wire.launcher, 1)
    await wire.untilTexts()
    await untilHeldByB(saying({ yes: [], no: [ofA] }))
  })

  it('stay with its recoverer where they shall not go back', async () => {
    const a = startA()
    const b = await watching({ addresses: [{ ...ofA, failback: false }, ofA6, { ...ofB, failback: false }] })
    a.stop()
    await b.said(/"recovered"/)
    expect(await wire.texts()).toEqual(['10.9.0.50/24', 'fd09::50/64'])
    restart(a)
    await wire.untilTexts('10.9.0.50/24')
    await untilHeldByB(saying({ yes: [ofA], no: [ofA6, ofB] }))
  })

  it('that cannot be taken fail the announcement, and the command is not run; it is tried again', async () => {
    const seen = join(folder, 'seen')
    const a = startA()
    const b = await watching({ addresses: [{ ...ofA, interface: 'absent' }, ofA6], announce: { command: ['/usr/bin/touch', seen] } })
    a.stop()
    const [line] = await b.said(/^.*"failed".*$/m)
    expect(JSON.parse(line)).toMatchObject({ peer: 'a', error: { code: 'ANNOUNCE_FAILED', interface: 'absent', errnoName: 'ENODEV' } })
    expect(existsSync(seen)).toBe(false)
    expect(await wire.texts()).toEqual(['fd09::50/64'])
    await wire.near('ip', 'link', 'add', 'absent', 'type', 'veth', 'peer', 'name', 'other')
    await wire.near('ip', 'link', 'set', 'absent', 'up')
    await b.said(/"recovered","peer":"a","outcome":"announced"/)
    expect(await wire.near('ip', '-o', 'address', 'show', 'dev', 'absent')).toContain('10.9.0.50/24')
    expect(existsSync(seen)).toBe(true)
  })

  it('that another machine answers for are not taken from it where fencing has silenced the failed node; sessions are recovered, and it is tried again', async () => {
    await wire.far('ip', 'address', 'add', '10.9.0.50/24', 'dev', 'far')
    const a = startA()
    const b = await watching({ addresses: [ofA, ofA6], fence: { command: ['/bin/true'], silences: true } })
    a.stop()
    const [line] = await b.said(/^.*"failed".*$/m)
    expect(JSON.parse(line)).toMatchObject({ peer: 'a', error: { code: 'ANNOUNCE_FAILED', interface: 'near', message: expect.stringContaining('10.9.0.50/24') as string } })
    expect(await wire.texts()).toEqual(['fd09::50/64'])
    await wire.far('ip', 'address', 'del', '10.9.0.50/24', 'dev', 'far')
    await b.said(/"recovered","peer":"a","outcome":"announced"/)
    await wire.untilTexts('10.9.0.50/24', 'fd09::50/64')
  })

  it('that are answered for from other hardware than the node\'s are not taken', async () => {
    await wire.far('ip', 'address', 'add', '10.9.0.50/24', 'dev', 'far')
    const a = startA()
    const b = await watching({ addresses: [ofA] })
    // Here the far end plays the node itself, and then another machine.
    await wire.untilEnds('the node was asked', () => Promise.resolve(wire.frames.filter((frame) => frame.includes('00000000' + '00'.repeat(6) + '0a090032')).length >= 3))
    await wire.far('ip', 'link', 'set', 'far', 'address', '02:00:00:00:00:77')
    a.stop()
    const [line] = await b.said(/^.*"failed".*$/m)
    expect(JSON.parse(line)).toMatchObject({ peer: 'a', error: { code: 'ANNOUNCE_FAILED', interface: 'near' } })
    expect(await wire.texts()).toEqual([])
  })

  it.each<[string, NonNullable<DaemonConfigInput['recovery']>]>([
    ['the failed node may be the one who answers', {}],
    ['nobody shall be asked', { probeAddresses: false, fence: { command: ['/bin/true'], silences: true } }],
  ])('that are answered for are taken all the same where %s', async (_, more) => {
    await wire.far('ip', 'address', 'add', '10.9.0.50/24', 'dev', 'far')
    const a = startA()
    const b = await watching({ addresses: [ofA], ...more })
    a.stop()
    await b.said(/"recovered","peer":"a","outcome":"announced"/)
    expect(await wire.texts()).toEqual(['10.9.0.50/24'])
  })
})

describe('a daemon without the right to change addresses', patient, () => {
  const withoutRight = process.getuid?.() === 0 ? ['setpriv', '--bounding-set', '-net_admin,-net_raw'] : []

  it('does not start where it shall, and says what is missing', async () => {
    const ended = await startB({ addresses: [{ ...ofA, interface: 'lo' }] }, withoutRight).ended()
    expect(JSON.parse(ended.stdout)).toEqual({
      event: 'refused',
      error: { code: 'CAPABILITY_MISSING', field: 'recovery.addresses', message: expect.stringMatching(/needs CAP_NET_ADMIN and CAP_NET_RAW, .*AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW/) as string },
    })
    expect(existsSync(pathOf('b'))).toBe(false)
  })
})
