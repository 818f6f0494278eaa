/** Connections that go on from one kernel to another: a client, a machine that dies, and the one that has its address then. */
import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { canMakeNamespaces } from '../addresses/testing/wire.js'
import { ThreeMachines, virtual, port } from './testing/three-machines.js'

let machines: ThreeMachines
const some = (length: number): string => randomBytes(length).toString('hex')

/** Processes have to load TypeScript first. */
const patient = { timeout: 120_000 }

afterEach(() => machines?.close())

describe.skipIf(!canMakeNamespaces)('a connection whose server\'s machine has died', patient, () => {
  it.each<[string, string, string[]]>([
    ['IPv4', virtual.four, []],
    ['IPv6', virtual.six, []],
    ['no timestamps', virtual.four, ['net.ipv4.tcp_timestamps=0']],
    ['no SACK', virtual.four, ['net.ipv4.tcp_sack=0']],
    ['no window scaling', virtual.four, ['net.ipv4.tcp_window_scaling=0']],
    ['none of them, IPv6', virtual.six, ['net.ipv4.tcp_timestamps=0', 'net.ipv4.tcp_sack=0', 'net.ipv4.tcp_window_scaling=0']],
  ])('goes on with what was unread and what was not acknowledged, every byte of it: %s', async (_, address, sysctls) => {
    machines = await ThreeMachines.make(sysctls)
    const { client, dying, healthy } = machines
    await machines.connect(address)
    const [first, unread, lost] = [some(1000), some(5000), some(20_000)]
    await client.ask({ do: 'send', index: 0, bytes: first + unread })
    expect(await dying.ask({ do: 'read', index: 0, length: 1000 })).toBe(first)
    await machines.untilAsked('the rest is there', async () => (await dying.ask({ do: 'unread', index: 0 })) === 5000)
    await machines.cut()
    // Sent, as far as the window of a new connection goes, and never received.
    expect(await dying.ask({ do: 'write', index: 0, bytes: lost })).toBe(20_000)
    const request = some(3000)
    await client.ask({ do: 'send', index: 0, bytes: request })
    const states = await machines.die()
    expect(states).toMatchObject([{ read: 1000, written: 20_000, unread, unacknowledged: lost }])
    expect(await machines.takeOver(states, address)).toEqual({ restored: 1, refused: [] })
    expect(await healthy.ask({ do: 'names', index: 0 })).toEqual({ localAddress: address, localPort: port, remoteAddress: address === virtual.four ? '10.9.0.9' : 'fd09::9', bytesRead: 0 })
    expect(await client.ask({ do: 'receive', index: 0, length: 20_000 })).toBe(lost)
    expect(await healthy.ask({ do: 'read', index: 0, length: 8000 })).toBe(unread + request)
    const answer = some(100_000)
    await healthy.ask({ do: 'write', index: 0, bytes: answer })
    expect(await client.ask({ do: 'receive', index: 0, length: 100_000 })).toBe(answer)
    expect(machines.resets).toEqual([])
  })

  it.each([virtual.four, virtual.six])('goes on where the client has closed its window, with what was never sent: %s', async (address) => {
    machines = await ThreeMachines.make()
    const { client, dying, healthy } = machines
    await machines.connect(address, 1, { buffer: 4096 })
    const offered = some(200_000)
    const count = await dying.ask<number>({ do: 'write', index: 0, bytes: offered })
    const written = offered.slice(0, 2 * count)
    await machines.untilAsked('nothing is on its way', async () => (await dying.ask({ do: 'unacknowledged', index: 0 })) === (await dying.ask({ do: 'unsent', index: 0 })))
    await machines.cut()
    const [state] = await machines.die()
    expect(state).toMatchObject({ sndNxt: state!['sndUna'], written: count })
    expect(state!.unacknowledged.length).toBeGreaterThan(0)
    await machines.takeOver([state!], address)
    const more = some(50_000)
    await healthy.ask({ do: 'write', index: 0, bytes: more })
    expect(await client.ask({ do: 'receive', index: 0, length: count + 50_000 })).toBe(written + more)
    expect(machines.resets).toEqual([])
  })

  it.each([virtual.four, virtual.six])('is never reset, however busily 50 clients go on sending: %s', async (address) => {
    machines = await ThreeMachines.make()
    const { client, dying, healthy } = machines
    await machines.connect(address, 50)
    await dying.ask({ do: 'echo' })
    await client.ask({ do: 'run' })
    const allReach = (turns: readonly number[]): Promise<void> =>
      machines.untilAsked('each client has had some turns more', async () => (await client.ask<number[]>({ do: 'turns' })).every((turn, i) => turn >= (turns[i] as number)))
    await allReach(Array.from({ length: 50 }, () => 3))
    await machines.cut()
    const states = await machines.die()
    const before = await client.ask<number[]>({ do: 'turns' })
    expect(await machines.takeOver(states, address)).toEqual({ restored: 50, refused: [] })
    await healthy.ask({ do: 'echo' })
    await allReach(before.map((turn) => turn + 3))
    const { errors } = await client.ask<{ errors: unknown[] }>({ do: 'stop' })
    expect(errors).toEqual(Array.from({ length: 50 }, () => null))
    expect(machines.resets).toEqual([])
  })

  it('goes on together with 999 others', async () => {
    machines = await ThreeMachines.make()
    const { client, healthy } = machines
    await machines.connect(virtual.four, 1000)
    await machines.cut()
    expect(await machines.takeOver(await machines.die(), virtual.four)).toEqual({ restored: 1000, refused: [] })
    await healthy.ask({ do: 'echo' })
    expect(await client.ask({ do: 'each' })).toBe(1000)
    expect(machines.resets).toEqual([])
    const { restoreMs, activateMs } = await healthy.ask<{ restoreMs: number; activateMs: number }>({ do: 'took' })
    process.stdout.write(`1,000 connections: restored in ${restoreMs.toFixed(1)} ms, activated in ${activateMs.toFixed(1)} ms\n`)
  })

  it('ends by itself where its client has vanished, and the others go on', async () => {
    machines = await ThreeMachines.make()
    const { client, healthy } = machines
    await machines.connect(virtual.four, 3)
    await machines.cut()
    const states = await machines.die()
    // Without a word: its own kernel knows nothing of it any more.
    await client.ask({ do: 'vanish', index: 1 })
    expect(await machines.takeOver(states, virtual.four)).toEqual({ restored: 3, refused: [] })
    await healthy.ask({ do: 'echo' })
    await machines.untilAsked('the connection has ended', async () => Object.keys(await healthy.ask({ do: 'ended' })).length > 0)
    expect(Object.values(await healthy.ask<Record<number, string>>({ do: 'ended' }))).toEqual(['ECONNRESET'])
    for (const index of [0, 2]) {
      const bytes = some(100)
      await client.ask({ do: 'send', index, bytes })
      expect(await client.ask({ do: 'receive', index, length: 100 })).toBe(bytes)
    }
    expect(machines.resets).toEqual([])
  })

  it.each([virtual.four, virtual.six])('ends by a reset where it is not continued, though its client waits and says nothing; those that are go on: %s', async (address) => {
    machines = await ThreeMachines.make()
    const { client, healthy } = machines
    await machines.connect(address, 3)
    await machines.cut()
    const [first, lost, last] = await machines.die()
    expect(await machines.takeOver([first!, last!], address)).toEqual({ restored: 2, refused: [] })
    await healthy.ask({ do: 'echo' })
    await healthy.ask({ do: 'resetOthers', connections: [lost] })
    await expect(client.ask({ do: 'receive', index: 1, length: 1 })).rejects.toThrow(/reset by peer/)
    for (const index of [0, 2]) {
      const bytes = some(100)
      await client.ask({ do: 'send', index, bytes })
      expect(await client.ask({ do: 'receive', index, length: 100 })).toBe(bytes)
    }
    expect(machines.resets).not.toEqual([])
  })

  it('does not keep a server from listening on its port', async () => {
    machines = await ThreeMachines.make()
    await machines.connect(virtual.four)
    await machines.cut()
    await machines.takeOver(await machines.die(), virtual.four)
    expect(await machines.healthy.ask({ do: 'listen', address: virtual.four, port })).toBe('listening')
    expect(await machines.healthy.ask({ do: 'listen', address: '10.9.0.2', port })).toBe('listening')
  })

  it('is let go without a word when its restoration is abandoned', async () => {
    machines = await ThreeMachines.make()
    await machines.connect(virtual.four, 3)
    await machines.cut()
    const states = await machines.die()
    await machines.healthy.ask({ do: 'restore', connections: states })
    expect(await machines.healthy.ask({ do: 'abandon' })).toEqual([false, false, false])
    // All is free again, and nobody has been told.
    expect(await machines.takeOver(states, virtual.four)).toEqual({ restored: 3, refused: [] })
    expect(machines.resets).toEqual([])
  })

  it.each([['and the client is told', false], ['and the client is told, whoever else has the socket', true]])('is reset where its server cannot go on with it, %s', async (_, isLent) => {
    machines = await ThreeMachines.make()
    const { client, healthy } = machines
    await machines.connect(virtual.four, 2)
    await machines.cut()
    await healthy.ask({ do: 'restore', connections: await machines.die() })
    await healthy.ask({ do: 'take', address: `${virtual.four}/24` })
    if (isLent) await healthy.ask({ do: 'lend' })
    await healthy.ask({ do: 'reset' })
    for (const index of [0, 1]) await expect(client.ask({ do: 'receive', index, length: 1 })).rejects.toThrow('Connection reset by peer')
    await healthy.ask({ do: 'endLending' })
  })

  it('is refused with a reason where it cannot be restored, and the others are restored', async () => {
    machines = await ThreeMachines.make()
    const { healthy } = machines
    await machines.connect(virtual.four, 3)
    await machines.cut()
    const states = await machines.die()
    expect(await healthy.ask({ do: 'restore', connections: states.slice(0, 1) })).toEqual({ restored: 1, refused: [] })
    const garbage = { ...states[2]!, sndNxt: ((states[2]!['sndUna'] as number) + 1) % 2 ** 32 }
    expect(await healthy.ask({ do: 'restore', connections: [states[0]!, states[1]!, garbage] })).toMatchObject({
      restored: 1, refused: [{ reason: 'garbage', field: 'sndNxt' }, { reason: 'port-in-use', call: 'connect', errnoName: 'EADDRNOTAVAIL' }],
    })
    await healthy.ask({ do: 'take', address: `${virtual.four}/24` })
    expect(await healthy.ask({ do: 'restore', connections: states })).toMatchObject({ restored: 0, refused: states.map(() => ({ reason: 'address-taken' })) })
  })

  it.each([['net_admin', 'TCP_REPAIR']])('is refused where this process may not restore it: without %s', async (without, call) => {
    machines = await ThreeMachines.make([], without)
    await machines.connect(virtual.four)
    const states = await machines.die()
    expect(await machines.healthy.ask({ do: 'restore', connections: states })).toMatchObject({ restored: 0, refused: [{ reason: 'not-permitted', call, errnoName: 'EPERM' }] })
  })
})

describe.skipIf(!canMakeNamespaces)('a client whose request was lost', patient, () => {
  it.each([virtual.four, virtual.six])('takes its back-off back when it is told to: %s', async (address) => {
    machines = await ThreeMachines.make()
    const { client, healthy } = machines
    await machines.connect(address)
    await machines.cut()
    await client.ask({ do: 'send', index: 0, bytes: some(100) })
    const backOff = (): Promise<number> => client.ask({ do: 'backoff', index: 0 })
    await machines.untilAsked('it has tried thrice', async () => (await backOff()) >= 3)
    const states = await machines.die()
    await healthy.ask({ do: 'restore', connections: states })
    // The address is not even taken: by itself the client would only back off further.
    expect(await healthy.ask({ do: 'hint' })).toBeNull()
    await machines.untilAsked('it has stepped back', async () => (await backOff()) < 3)
    await machines.untilAsked('the hints are seen on the wire', () => Promise.resolve(machines.unreachables.length > 0))
    expect(machines.resets).toEqual([])
  })

  it.each<[string, string[]]>([
    [virtual.four, []], [virtual.six, []], [virtual.four, ['net.ipv4.tcp_timestamps=0']],
  ])('whose response was lost gets it from packets that no socket sent: %s %s', async (address, sysctls) => {
    machines = await ThreeMachines.make(sysctls)
    const { client, dying, healthy } = machines
    await machines.connect(address)
    await machines.cut()
    const response = some(5001)
    await dying.ask({ do: 'write', index: 0, bytes: response })
    await healthy.ask({ do: 'restore', connections: await machines.die() })
    await healthy.ask({ do: 'abandon' })
    expect(await healthy.ask({ do: 'resend' })).toBeNull()
    expect(await client.ask({ do: 'receive', index: 0, length: 5001 })).toBe(response)
    expect(machines.resets).toEqual([])
  })

  it('cannot be told by a process that may not send such messages, which says so', async () => {
    machines = await ThreeMachines.make([], 'net_raw')
    await machines.connect(virtual.four)
    await machines.healthy.ask({ do: 'restore', connections: await machines.die() })
    expect(await machines.healthy.ask({ do: 'hint' })).toMatchObject({ call: 'socket', errnoName: 'EPERM' })
  })
})
