import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import type { ExtractedConnection, SkippedConnection } from '../../kernel/connections/index.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import type { RegionHeader } from '../../region/header.js'
import { connectionName } from '../../recovery/tcp/connection.js'
import { systemTime } from '../daemon-time.js'
import { Connections, type ConnectionsOptions } from './connections.js'
import type { Given } from './giving.js'
import type { ConnectionsReport } from './report.js'

/** An address that no machine has (RFC 5737). */
const local = { address: Uint8Array.of(192, 0, 2, 50), port: 80 }
const addresses = [{ node: 'a', address: '192.0.2.50/24', interface: 'eth0', failback: true }]
const server = { box: 1, generation: 7 }
const image = { types: {}, peer: 'a' } as unknown as KernelImage
const link = { header: { node: 'a', incarnation: 0x1fn } as RegionHeader, kernel: () => image }

function connection(port: number, about: Partial<ExtractedConnection> = {}): ExtractedConnection {
  const remote = { address: Uint8Array.of(192, 0, 2, 9), port }
  return {
    local, remote, rcvNxt: 1000, sndUna: 2000, sndNxt: 2002, unread: new Uint8Array(3), unacknowledged: new Uint8Array(2), read: 10, written: 20,
    options: { mssClamp: 1460, windowScale: undefined, sack: true, timestamp: undefined },
    window: { sndWl1: 1000, sndWnd: 100, maxWindow: 100, rcvWnd: 100, rcvWup: 1000 },
    socket: BigInt(port), namespace: undefined, counters: [], name: connectionName({ local, remote }), ...about,
  }
}

/** `moved`: clients' ports of those that have moved, look by look. */
let dead: { connections: ExtractedConnection[]; skipped: SkippedConnection[]; panicked: boolean; moved: (readonly number[] | Error)[] }
let calls: string[]
let given: Given[]
let underWay: boolean
let report: Promise<ConnectionsReport>
let isServed: (port: number) => boolean
/** How many of those that it is given at once a server gets. */
let takes: number
let isThere: boolean
/** Of this machine: its addresses, and its connections. */
let here: { addresses: string[]; living: string[] }

beforeEach(() => {
  dead = { connections: [connection(1001), connection(1002)], skipped: [], panicked: true, moved: [] }
  calls = []
  given = []
  underWay = false
  isServed = (port) => port === 80
  takes = Infinity
  isThere = true
  here = { addresses: [], living: [] }
})

/** Descriptors are numbered from 100. The kernel refuses those whose client's port is in `refused`. */
function make(options: Partial<ConnectionsOptions> = {}, refused: readonly number[] = []): Connections {
  let next = 100
  let onReport: (report: ConnectionsReport) => void = () => undefined
  report = new Promise((resolve) => (onReport = resolve))
  return new Connections({
    kernels: {
      readerOf: () => ({
        read: () => Promise.resolve({ ...dead, faults: [] }),
        haveMoved: async (_, extracted) => {
          const moved = dead.moved.shift() ?? []
          if (moved instanceof Error) throw moved
          return extracted.filter(({ remote }) => moved.includes(remote.port))
        },
        readAgain: (_, extracted) => Promise.resolve({ connections: extracted.map((each) => ({ ...each, read: each.read + 1 })), skipped: [], faults: [] }),
      }),
      hasPanicked: () => Promise.resolve(dead.panicked),
    },
    network: {
      restoreConnections: (connections) => connections.map(({ remote }) => (refused.includes(remote.port) ? { call: 'connect', errno: 99, errnoName: 'EADDRNOTAVAIL' } : { descriptor: next++ })),
      activateConnections: (descriptors) => descriptors.map((descriptor) => void calls.push(`activate ${descriptor}`)),
      resetConnection: (descriptor) => void calls.push(`reset ${descriptor}`),
      closeDescriptor: (descriptor) => void calls.push(`close ${descriptor}`),
      hintResend: (connections) => void calls.push(`hint ${connections.length}`),
      resendSent: (connections) => void calls.push(`resend ${connections.length}`),
      askPeers: (connections) => void calls.push(`ask ${[...new Set(connections.map(({ remote }) => remote.port))].join()}`),
    },
    addresses, isSilencedOutside: false,
    servers: {
      continuing: (port) => (isServed(port) ? server : undefined),
      isThere: () => isThere,
      give: (_, connections) => {
        const some = connections.slice(0, takes)
        given.push(...some)
        return some
      },
    },
    here: { isLocal: () => (address) => here.addresses.includes(address.join('.')), living: () => new Set(here.living) },
    areSessionsUnderWay: () => underWay,
    onReport, time: systemTime, log: pino({ level: 'silent' }), ...options,
  })
}

const second = { node: 'a', address: '192.0.2.51/24', interface: 'eth1', failback: true }
const elsewhere = (port: number): ExtractedConnection => {
  const at = { address: Uint8Array.of(192, 0, 2, 51), port: 80 }
  const { remote } = connection(port)
  return connection(port, { local: at, name: connectionName({ local: at, remote }) })
}
const answerAll = (connections: Connections): void => connections.onContinued(server, given.map(({ name }) => ({ name })))

describe('the connections of a host that has panicked', () => {
  it('stand silent until their address is here, and are given to the server of their port', async () => {
    const connections = make()
    const standing = await connections.restore(link, addresses)
    expect(calls).toEqual([])
    await standing?.goOn()
    expect(calls).toEqual(['activate 100', 'activate 101', 'resend 2', 'hint 2'])
    await new Promise((resolve) => setImmediate(resolve))
    expect(given.map(({ name, life, port, read, written, unread, unacknowledged, socket }) => ({ name, life, port, read, written, unread, unacknowledged, descriptor: socket.descriptor }))).toEqual([
      { name: '192.0.2.50:80 192.0.2.9:1001', life: '1f', port: 80, read: 10, written: 20, unread: 3, unacknowledged: 2, descriptor: 100 },
      { name: '192.0.2.50:80 192.0.2.9:1002', life: '1f', port: 80, read: 10, written: 20, unread: 3, unacknowledged: 2, descriptor: 101 },
    ])
    connections.onContinued(server, [{ name: given[0]?.name ?? '' }, { name: given[1]?.name ?? '', reset: 'no-record' }])
    expect(await report).toMatchObject({ peer: 'a', found: 2, continued: 1, reset: { 'no-record': 1 } })
  })

  it('are let go of without a word where the recovery ends', async () => {
    const standing = await make().restore(link, addresses)
    standing?.abandon()
    expect(calls).toEqual(['close 100', 'close 101'])
  })

  it('are counted by why they do not go on', async () => {
    dead.skipped = [{ local, remote: { address: local.address, port: 1 }, name: 'half closed', reason: 'not-established', why: 'its client has ended it' }]
    dead.connections.push(connection(1003, { local: { ...local, port: 81 } }))
    const connections = make({}, [1001])
    const standing = await connections.restore(link, addresses)
    await standing?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    connections.onContinued(server, [{ name: given[0]?.name ?? '' }])
    expect(await report).toMatchObject({ found: 4, continued: 1, reset: { 'not-established': 1, 'no-server': 1, 'port-in-use': 1 } })
  })

  it('that are not continued are reset once the others live, as far as their address is here', async () => {
    const other = elsewhere(1005)
    dead.skipped = [
      { local, remote: { address: Uint8Array.of(192, 0, 2, 9), port: 1004 }, name: 'in use', reason: 'in-use', why: 'a packet was being worked on' },
      { local: other.local, remote: other.remote, name: other.name, reason: 'in-use', why: 'a packet was being worked on' },
    ]
    dead.connections.push(connection(1003, { local: { ...local, port: 81 }, name: 'nobody serves it' }))
    const standing = await make({}, [1001]).restore(link, addresses)
    here.addresses = ['192.0.2.50']
    await standing?.goOn()
    expect(calls).toEqual(['activate 100', 'resend 1', 'hint 1', 'ask 1001,1003,1004'])
  })

  it('are read again while they move', async () => {
    dead.moved = [[1002]]
    const standing = await make().restore(link, addresses)
    await standing?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    expect(given.map(({ read }) => read)).toEqual([10, 11])
  })

  it.each([
    ['are left to a kernel that goes on with them, however often they are read', [[1002], [1002], [1002]], []],
    ['are looked at once more when their address is here, and left to a kernel that has gone on with them meanwhile', [[], [1002]], ['close 101']],
  ])('%s', async (_, moved, closed) => {
    dead.moved = moved
    const connections = make()
    const standing = await connections.restore(link, addresses)
    await standing?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    expect(given.map(({ name }) => name)).toEqual(['192.0.2.50:80 192.0.2.9:1001'])
    expect(calls).toEqual([...closed, 'activate 100', 'resend 1', 'hint 1'])
    answerAll(connections)
    expect(await report).toMatchObject({ found: 2, continued: 1, reset: { 'in-use': 1 } })
  })

  it('do not go on where nobody can look once more', async () => {
    dead.moved = [[], new Error('the card is gone')]
    await (await make().restore(link, addresses))?.goOn()
    expect(await report).toMatchObject({ found: 2, continued: 0, reset: { unreadable: 2 } })
    expect(calls.filter((call) => call.startsWith('close') || call.startsWith('activate'))).toEqual(['close 100', 'close 101'])
  })

  it('wait for sessions to come over first', async () => {
    underWay = true
    const connections = make()
    const standing = await connections.restore(link, addresses)
    await standing?.goOn()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(given).toEqual([])
    underWay = false
    await expect.poll(() => given.length).toBe(2)
  })

  it('wait for a server that is on its way here', async () => {
    isThere = false
    await (await make().restore(link, addresses))?.goOn()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect([given, calls.filter((call) => call.startsWith('reset'))]).toEqual([[], []])
    isThere = true
    await expect.poll(() => given.length).toBe(2)
  })

  it('are reset where the server has gone meanwhile, and does not come back', async () => {
    isThere = false
    let nowUs = 0
    const time = { ...systemTime, nowUs: () => nowUs, pause: async (ms: number) => void (nowUs += ms * 1000) }
    await (await make({ time }).restore(link, addresses))?.goOn()
    expect(await report).toMatchObject({ continued: 0, reset: { 'no-server': 2 } })
    expect(calls.slice(4)).toEqual(['reset 100', 'reset 101'])
    expect(nowUs).toBe(2_000_000)
  })

  it('are reset but for those that were given, where they could not all be', async () => {
    takes = 1
    const connections = make()
    await (await connections.restore(link, addresses))?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    expect(calls.slice(4)).toEqual(['reset 101'])
    answerAll(connections)
    expect(await report).toMatchObject({ continued: 1, reset: { 'no-server': 1 } })
    expect(calls.slice(4)).toEqual(['reset 101', 'close 100'])
  })

  it('are reset where their server ends before it has said what became of them', async () => {
    const connections = make()
    await (await connections.restore(link, addresses))?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    connections.onContinued(server, [{ name: given[0]?.name ?? '' }])
    connections.onServerGone({ box: 1, generation: 6 })
    expect(calls.slice(4)).toEqual(['close 100'])
    connections.onServerGone(server)
    expect(await report).toMatchObject({ continued: 1, reset: { 'no-server': 1 } })
    expect(calls.slice(4)).toEqual(['close 100', 'reset 101'])
  })

  it('are held for a server that answers late, and no longer than the daemon', async () => {
    let lateMs = 0
    const late: (() => void)[] = []
    const time = { ...systemTime, later: (ms: number, run: () => void) => ((lateMs = ms), late.push(run), () => undefined) }
    const connections = make({ time })
    await (await connections.restore(link, addresses))?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    for (const run of late) run()
    expect([await report, lateMs]).toMatchObject([{ continued: 0, reset: { 'no-answer': 2 } }, 10_000])
    expect(calls.slice(4)).toEqual([])
    connections.onContinued(server, [{ name: given[0]?.name ?? '' }])
    expect(calls.slice(4)).toEqual(['close 100'])
    await connections.close()
    expect(calls.slice(4)).toEqual(['close 100', 'close 101'])
  })

  it('to an address that another machine answers for end here, without a word', async () => {
    dead.connections = [connection(1001), elsewhere(1002)]
    const connections = make()
    const standing = await connections.restore(link, [...addresses, second])
    await standing?.goOn({ answered: [second] })
    await new Promise((resolve) => setImmediate(resolve))
    expect(calls).toEqual(['close 101', 'activate 100', 'resend 1', 'hint 1'])
    answerAll(connections)
    expect(await report).toMatchObject({ found: 2, continued: 1, reset: { 'address-answered': 1 } })
    // It is told once.
    here = { addresses: ['192.0.2.50'], living: [] }
    expect(await connections.restore(link, [...addresses, second])).toBeUndefined()
  })

  it('are answered for by nobody but the server that has them', async () => {
    const connections = make()
    const standing = await connections.restore(link, addresses)
    await standing?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    const names = given.map(({ name }) => name)
    connections.onContinued({ box: 2, generation: 7 }, names.map((name) => ({ name, reset: 'no-record' as const })))
    connections.onContinued(server, names.map((name) => ({ name })))
    expect(await report).toMatchObject({ continued: 2, reset: {} })
  })
})

describe('a recovery that is run again', () => {
  it('leaves all that go on here as they are, and tells of them once', async () => {
    dead.skipped = [{ local, remote: { address: local.address, port: 1 }, name: 'half closed', reason: 'not-established', why: 'its client has ended it' }]
    const connections = make()
    await (await connections.restore(link, addresses))?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    answerAll(connections)
    expect(await report).toMatchObject({ found: 3, known: 0, continued: 2, reset: { 'not-established': 1 } })
    // The announce command has failed, say. The address is here; and the client of one has ended it meanwhile.
    here = { addresses: ['192.0.2.50'], living: ['192.0.2.50:80 192.0.2.9:1001'] }
    const before = calls.length
    expect(await connections.restore(link, addresses)).toBeUndefined()
    expect([calls.slice(before), given.length]).toEqual([[], 2])
  })

  it('of another life of the host begins with nothing', async () => {
    const connections = make()
    await (await connections.restore(link, addresses))?.goOn()
    const standing = await connections.restore({ ...link, header: { ...link.header, incarnation: 0x20n } }, addresses)
    standing?.abandon()
    expect(calls.slice(-2)).toEqual(['close 102', 'close 103'])
    await new Promise((resolve) => setImmediate(resolve))
    answerAll(connections)
    await report
  })

  it('by a daemon that was started anew finds them among this machine\'s, and what is not there it leaves alone', async () => {
    here = { addresses: ['192.0.2.50'], living: ['192.0.2.50:80 192.0.2.9:1001'] }
    const standing = await make().restore(link, addresses)
    await standing?.goOn()
    expect(await report).toMatchObject({ found: 2, known: 1, continued: 0, reset: { 'address-taken': 1 } })
    expect(calls.filter((call) => call.startsWith('reset') || call.startsWith('close'))).toEqual([])
  })

  it('goes on with those whose address did not come before, and at once with the others', async () => {
    dead.connections = [connection(1001), elsewhere(1002)]
    const connections = make()
    const standing = await connections.restore(link, [...addresses, second])
    // One of the two addresses could not be taken.
    here.addresses = ['192.0.2.50']
    await standing?.goOn({ onlyHere: true })
    expect(calls.slice(0, 2)).toEqual(['close 101', 'activate 100'])
    await new Promise((resolve) => setImmediate(resolve))
    answerAll(connections)
    expect(await report).toMatchObject({ found: 1, known: 0, continued: 1, reset: {} })
    const again = await connections.restore(link, [...addresses, second])
    here.addresses.push('192.0.2.51')
    await again?.goOn()
    await new Promise((resolve) => setImmediate(resolve))
    expect(given.map(({ name }) => name)).toEqual(['192.0.2.50:80 192.0.2.9:1001', '192.0.2.51:80 192.0.2.9:1002'])
    answerAll(connections)
  })

  it('lets go of all where no address came, and tells of none', async () => {
    const connections = make()
    const standing = await connections.restore(link, addresses)
    await standing?.goOn({ onlyHere: true })
    expect(calls).toEqual(['close 100', 'close 101'])
    expect(await connections.restore(link, addresses)).toBeDefined()
  })
})

describe('connections are left alone', () => {
  it('of a kernel that may run on', async () => {
    dead.panicked = false
    expect(await make().restore(link, addresses)).toBeUndefined()
    expect(await make({ isSilencedOutside: true }).restore(link, addresses)).toBeDefined()
  })

  it('where the whole memory is not lent, or no address comes here', async () => {
    expect(await make().restore({ header: link.header }, addresses)).toBeUndefined()
    expect(await make().restore(link, [])).toBeUndefined()
  })

  it('where they cannot be read, and the recovery goes on', async () => {
    const kernels = { readerOf: () => { throw new Error('unknown') }, hasPanicked: () => Promise.resolve(true) }
    expect(await make({ kernels }).restore(link, addresses)).toBeUndefined()
    await make({ kernels }).prepare(image)
  })
})
