/** What is asked of the kernel and what is made of its answers, on a kernel that writes down what it is asked. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expectCode } from '../../../addon/test/native-fixture.js'
import { networkAddon } from '../../native/load.js'
import type { NativeTcpConnection, NetworkAddon, RestoredOrNot } from '../../native/network.js'
import { resetReasons, type TcpConnection } from './connection.js'
import { abandonConnections, activateConnections, hintResend, resendSent, restoreConnections } from './restore.js'
import { checkConnection } from './valid-connection.js'

const four = (last: number): Uint8Array => Uint8Array.of(192, 0, 2, last)
const sound: TcpConnection = {
  local: { address: four(50), port: 7480 }, remote: { address: four(9), port: 40_712 },
  rcvNxt: 5, sndUna: 0xffff_fffe, sndNxt: 1, unread: new Uint8Array(10), unacknowledged: new Uint8Array(8), read: 100, written: 200,
  options: { mssClamp: 1460, windowScale: { send: 7, receive: 9 }, sack: true, timestamp: 1000 },
  window: { sndWl1: 0xffff_fff0, sndWnd: 65_536, maxWindow: 65_536, rcvWnd: 64_000, rcvWup: 0xffff_fffa },
}
const with_ = (change: object): TcpConnection => ({ ...sound, ...change })

const refused = (call: string, errnoName: string): RestoredOrNot => ({ call, errno: 1, errnoName })

function made(answers: readonly RestoredOrNot[] = [], alive: readonly (RestoredOrNot | undefined)[] = []) {
  const asked: NativeTcpConnection[] = []
  const calls: string[] = []
  const sent: NativeTcpConnection[] = []
  const network: Pick<NetworkAddon, 'restoreConnections' | 'activateConnections' | 'hintResend' | 'resendSent' | 'resetConnection' | 'closeDescriptor'> = {
    restoreConnections: (connections) => {
      asked.push(...connections)
      return connections.map((_, i) => answers[i] ?? { descriptor: 100 + i })
    },
    activateConnections: (descriptors) => descriptors.map((_, i) => alive[i] as undefined),
    hintResend: (connections, times) => {
      sent.push(...connections)
      calls.push(`hint ${connections.length} ${times}`)
      return undefined
    },
    resendSent: (connections) => void sent.push(...connections),
    resetConnection: (descriptor) => void calls.push(`reset ${descriptor}`),
    closeDescriptor: (descriptor) => void calls.push(`close ${descriptor}`),
  }
  return { network, asked, calls, sent }
}
const isLocal = (): boolean => false

describe('restoring connections', () => {
  it('gives the kernel each as it was, with a clock that goes on a little later and counts milliseconds', () => {
    const { network, asked } = made()
    const { restored } = restoreConnections({ network, connections: [sound, with_({ options: { ...sound.options, timestamp: 0xffff_ffff } })], isLocal })
    expect(restored.map(({ descriptor }) => descriptor)).toEqual([100, 101])
    expect(asked[0]).toEqual({ ...sound, options: { ...sound.options, timestamp: 1100 } })
    expect(asked[1]?.options.timestamp).toBe(100)
  })

  it('of IPv4 on a socket for both kinds goes on as IPv4', () => {
    const { network, asked } = made()
    const mapped = (last: number): Uint8Array => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...four(last))
    restoreConnections({ network, connections: [with_({ local: { address: mapped(50), port: 1 }, remote: { address: mapped(9), port: 2 } })], isLocal })
    expect(asked).toMatchObject([{ local: { address: four(50) }, remote: { address: four(9) } }])
  })

  it('tells each that the kernel refuses apart, and why', () => {
    const { network } = made([refused('TCP_REPAIR', 'EPERM'), refused('connect', 'EADDRNOTAVAIL'), refused('bind', 'EADDRINUSE'), refused('connect', 'ENETUNREACH'), { descriptor: 7 }])
    const connections = Array.from({ length: 5 }, (_, i) => with_({ read: i }))
    const all = restoreConnections({ network, connections, isLocal })
    expect(all.refused.map(({ connection, reason, error }) => [connection.read, reason, error.code, error.details.errnoName])).toEqual([
      [0, 'not-permitted', 'SYSTEM_CALL_FAILED', 'EPERM'], [1, 'port-in-use', 'SYSTEM_CALL_FAILED', 'EADDRNOTAVAIL'],
      [2, 'port-in-use', 'SYSTEM_CALL_FAILED', 'EADDRINUSE'], [3, 'not-restored', 'SYSTEM_CALL_FAILED', 'ENETUNREACH'],
    ])
    expect(all.restored.map(({ connection, descriptor }) => [connection.read, descriptor])).toEqual([[4, 7]])
  })

  it('gives the kernel at most 16 MiB of queues in one call, and one connection at least, in their order', () => {
    const { network, asked } = made()
    const [none, large, larger] = [0, 6 << 20, 20 << 20].map((length) => with_({ unread: new Uint8Array(length), unacknowledged: new Uint8Array(length === 0 ? 0 : 1 << 20), sndNxt: sound.sndUna })) as [TcpConnection, TcpConnection, TcpConnection]
    const calls: number[] = []
    const counting = { ...network, restoreConnections: (connections: readonly NativeTcpConnection[]) => (calls.push(connections.length), network.restoreConnections(connections)) }
    const connections = [none, large, large, none, large, larger, none, large, large].map((each, read) => ({ ...each, read }))
    const all = restoreConnections({ network: counting, connections, isLocal })
    expect([calls, asked.length, all.restored.map(({ connection }) => connection.read), all.refused]).toEqual([[4, 1, 1, 3], 9, [0, 1, 2, 3, 4, 5, 6, 7, 8], []])
    expect(restoreConnections({ network: counting, connections: [], isLocal })).toEqual({ restored: [], refused: [] })
  })

  it('leaves none open where a later call fails', () => {
    const { network, calls } = made()
    const large = with_({ unread: new Uint8Array(12 << 20) })
    let call = 0
    const failing = { ...network, restoreConnections: (connections: readonly NativeTcpConnection[]) => {
      if (++call > 1) throw new Error('out of memory')
      return network.restoreConnections(connections)
    } }
    expect(() => restoreConnections({ network: failing, connections: [large, large], isLocal })).toThrow('out of memory')
    expect(calls).toEqual(['close 100'])
  })

  it('leaves alone those whose address is here already', () => {
    const { network, asked } = made()
    const { refused: some } = restoreConnections({ network, connections: [sound], isLocal: (address) => address.join() === '192,0,2,50' })
    expect([some.map(({ reason }) => reason), asked]).toEqual([['address-taken'], []])
  })

  it.each<[string, object]>([
    ['local', { local: { address: new Uint8Array(5), port: 1 } }],
    ['local', { local: { address: four(50), port: 0 } }],
    ['local', { local: { address: Uint8Array.of(224, 0, 0, 1), port: 1 } }],
    ['local', { local: { address: new Uint8Array(16), port: 1 } }],
    ['remote', { remote: { address: four(9), port: 65_536 } }],
    ['remote', { remote: { address: Uint8Array.of(0x20, 1, ...new Uint8Array(14)), port: 9 } }],
    ['rcvNxt', { rcvNxt: 2 ** 32 }],
    ['sndUna', { sndUna: -1 }],
    ['sndNxt', { sndNxt: 7 }],
    ['sndNxt', { sndNxt: 0xffff_fffd }],
    ['unread', { unread: new Uint8Array((64 << 20) + 1) }],
    ['options.mssClamp', { options: { ...sound.options, mssClamp: 0 } }],
    ['options.windowScale', { options: { ...sound.options, windowScale: { send: 15, receive: 0 } } }],
    ['options.timestamp', { options: { ...sound.options, timestamp: 0.5 } }],
    ['window.sndWl1', { window: { ...sound.window, sndWl1: 64_006 } }],
    ['window.sndWnd', { window: { ...sound.window, sndWnd: 2 ** 30 } }],
    ['window.maxWindow', { window: { ...sound.window, maxWindow: 65_535 } }],
    ['window.rcvWnd', { window: { ...sound.window, rcvWnd: NaN } }],
    ['window.rcvWup', { window: { ...sound.window, rcvWup: 6 } }],
  ])('asks the kernel for nothing that contradicts itself: %s', (field, change) => {
    expectCode(() => checkConnection(with_(change)), 'KERNEL_DATA_CORRUPT', { field })
    const { network, asked } = made()
    const all = restoreConnections({ network, connections: [with_(change)], isLocal })
    expect([all.refused.map(({ reason }) => reason), all.restored, asked]).toEqual([['garbage'], [], []])
  })
})

describe('restored connections', () => {
  it('live once, and those that cannot are closed', () => {
    const { network, calls } = made([], [undefined, refused('TCP_REPAIR', 'EINVAL')])
    const { restored } = restoreConnections({ network, connections: [sound, with_({ read: 1 })], isLocal })
    const { activated, refused: dead } = activateConnections(network, restored)
    expect([activated.length, dead.map(({ connection, reason }) => [connection.read, reason]), calls]).toEqual([1, [[1, 'not-restored']], ['close 101']])
    expect(activateConnections(network, restored).activated).toEqual(activated)
    expect([hintResend(network, activated), calls.at(-1)]).toEqual([undefined, 'hint 1 6'])
  })

  it('are told of, and sent again, without more of their queues than is sent', () => {
    const { network, sent } = made()
    const large = with_({ sndUna: 0xffff_fffe, sndNxt: 100_000, unread: new Uint8Array(50_000), unacknowledged: Uint8Array.from({ length: 120_000 }, (_, i) => i) })
    const { restored } = restoreConnections({ network, connections: [large, sound, with_({ sndNxt: sound.sndUna })], isLocal })
    hintResend(network, restored)
    const header = { rcvNxt: 5, unread: new Uint8Array(), unacknowledged: new Uint8Array() }
    expect(sent.splice(0)).toMatchObject([{ ...header, sndUna: 100_000, sndNxt: 100_000 }, { ...header, sndUna: 1, sndNxt: 1 }, { ...header, sndUna: 0xffff_fffe, sndNxt: 0xffff_fffe }])
    resendSent(network, restored)
    expect(sent).toMatchObject([
      { rcvNxt: 5, sndUna: 0xffff_fffe, sndNxt: 14_598, unread: new Uint8Array(), unacknowledged: large.unacknowledged.subarray(0, 14_600) },
      { sndUna: 0xffff_fffe, sndNxt: 1, unread: new Uint8Array(), unacknowledged: new Uint8Array(3) },
    ])
  })

  it('are closed or reset once, and not at all when they are somebody else\'s', () => {
    const { network, calls } = made()
    const { restored } = restoreConnections({ network, connections: [sound, sound, sound], isLocal })
    const [first, second, third] = restored
    expect(first?.take()).toBe(100)
    second?.reset()
    third?.close()
    abandonConnections(restored)
    for (const each of restored) each.reset()
    expect(calls).toEqual(['reset 101', 'close 102'])
    expectCode(() => first?.descriptor, 'CLOSED')
  })
})

describe('the kernel\'s side', () => {
  it('may be given anything at all: an error of ours, and never a crash', () => {
    const { restoreConnections: restore, activateConnections: activate, hintResend: hint } = networkAddon()
    const anything = fc.oneof(fc.anything({ maxDepth: 2 }), fc.constant([{ ...sound, window: undefined }]), fc.constant([with_({ unread: 'text' })]), fc.constant([with_({ sndNxt: 100 })]), fc.constant(new Proxy([sound], {})))
    fc.assert(fc.property(fc.constantFrom(restore, activate, hint), anything, (call, value) => {
      // An empty list is nothing to do.
      fc.pre(!(Array.isArray(value) && (value.length === 0 || value.every((each) => Number.isInteger(each)) || value[0] === sound)))
      expectCode(() => (call as (...some: unknown[]) => unknown)(value, 1), 'INVALID_ARGUMENT')
    }), { numRuns: 1000 })
  })

  it('closes nothing that is no number of a descriptor', () => {
    expectCode(() => networkAddon().closeDescriptor(-1), 'INVALID_ARGUMENT', { field: 'descriptor' })
    expectCode(() => networkAddon().resetConnection(0.5), 'INVALID_ARGUMENT', { field: 'descriptor' })
    expect(networkAddon().activateConnections([2 ** 31 - 1])).toEqual([{ call: 'TCP_REPAIR', errno: 9, errnoName: 'EBADF' }])
  })
})

describe('reasons for which a connection is not continued', () => {
  it('are those that docs/connections.md lists, in its order', () => {
    const page = readFileSync(join(import.meta.dirname, '..', '..', '..', 'docs', 'connections.md'), 'utf8')
    expect([...page.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, reason]) => reason)).toEqual(resetReasons)
  })
})
