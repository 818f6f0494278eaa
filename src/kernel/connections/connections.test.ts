import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { Random } from '../../fabric/mock/random.js'
import { damage, flipBits } from '../../region/testing/damage.js'
import { ConnectionsBuilder, type BuiltBuffer, type BuiltSocket } from '../testing/connections-builder.js'
import { fuzz, fuzzTimeoutMs } from '../testing/fuzz.js'
import { counted, expectOnlyOurErrors } from '../testing/only-our-errors.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { ConnectionReader, type ExtractedConnection, type Extraction } from './index.js'

const host = await panickedHost()
const sock = 'inet_conn.icsk_inet.sk'
const owned = `${sock}.sk_lock.owned`
const lock = `${sock}.sk_lock.slock`
const backlog = `${sock}.sk_backlog.len`
const address = Uint8Array.of(10, 0, 0, 9)
const peer = Uint8Array.of(10, 0, 0, 50)
const ends = { local: address, remote: peer, localPort: 7480, remotePort: 40_712 }
const wanted = { addresses: [address] }
const name = '10.0.0.9:7480 10.0.0.50:40712'

/** Bytes that tell where in the stream they are. */
const stream = (from: number, to: number): Uint8Array => Uint8Array.from({ length: to - from }, (_, i) => ((from + i) * 31) >> 3)
const buffer = (from: number, to: number, more: Partial<BuiltBuffer> = {}): BuiltBuffer => ({ seq: from, linear: stream(from, to), ...more })

/** 1,000 bytes that were not read, 300 that were not acknowledged, 200 that were not sent. */
const busy: BuiltSocket = {
  ...ends, received: [buffer(4000, 5000)], sent: [buffer(8500, 8700), buffer(8700, 8800)], unsent: [buffer(8800, 9000)],
  numbers: { copied_seq: 4000, snd_una: 8500, snd_nxt: 8800 },
}

function machine(...sockets: readonly BuiltSocket[]): { readonly builder: ConnectionsBuilder; readonly places: readonly number[]; readonly read: (which?: Parameters<ConnectionReader['read']>[1]) => Promise<Extraction> } {
  const builder = new ConnectionsBuilder(host)
  const places = sockets.map((socket) => builder.add(socket))
  return { builder, places, read: (which = wanted) => new ConnectionReader(builder.image()).read(builder.image(), which) }
}

async function only(socket: BuiltSocket): Promise<ExtractedConnection> {
  const { connections, skipped, faults } = await machine(socket).read()
  expect({ skipped, faults }).toEqual({ skipped: [], faults: [] })
  expect(connections).toHaveLength(1)
  return connections[0] as ExtractedConnection
}

/** Why it was not taken. */
async function reasonOf(socket: BuiltSocket, spoil: (builder: ConnectionsBuilder, at: number) => void = () => undefined): Promise<string> {
  const { builder, places, read } = machine(socket, { ...ends, remotePort: 1 })
  spoil(builder, places[0] as number)
  const { connections, skipped } = await read()
  // Its neighbour goes on.
  expect(connections.map(({ remote }) => remote.port)).toEqual([1])
  expect(skipped).toMatchObject([{ name }])
  return skipped[0]?.reason ?? 'none'
}

describe('a connection of a dead kernel', () => {
  it('is taken with its numbers, its options and its windows', async () => {
    expect(await only(busy)).toMatchObject({
      name, local: { address, port: 7480 }, remote: { address: peer, port: 40_712 },
      rcvNxt: 5000, sndUna: 8500, sndNxt: 8800, read: 4000, written: 9500,
      options: { mssClamp: 1460, windowScale: { send: 7, receive: 6 }, sack: true, timestamp: 7040 },
      window: { sndWl1: 4990, sndWnd: 60_000, maxWindow: 65_000, rcvWnd: 64_000, rcvWup: 5000 },
      namespace: 0xffff_ffff_8299_0000n,
    })
  })

  it('has what it had received, and what it had sent and not sent, in order', async () => {
    const { unread, unacknowledged } = await only(busy)
    expect(unread).toEqual(stream(4000, 5000))
    expect(unacknowledged).toEqual(stream(8500, 9000))
  })

  it('may have nothing under way, and none of the options', async () => {
    const { unread, unacknowledged, options } = await only({ ...ends, numbers: { 'rx_opt.wscale_ok': 0, 'rx_opt.sack_ok': 0, 'rx_opt.tstamp_ok': 0 } })
    expect([unread.length, unacknowledged.length]).toEqual([0, 0])
    expect(options).toEqual({ mssClamp: 1460, windowScale: undefined, sack: false, timestamp: undefined })
  })

  it('gives its last segment\'s time where pacing had let that be ahead of the clock, and goes round with it', async () => {
    expect((await only({ ...ends, numbers: { tcp_wstamp_ns: 7_009_000_000n } })).options.timestamp).toBe(7049)
    expect((await only({ ...ends, numbers: { tsoffset: 2 ** 32 - 1 } })).options.timestamp).toBe(6999)
  })

  it.each<[string, readonly BuiltBuffer[]]>([
    ['its first buffer is partly read', [buffer(3800, 4500), buffer(4500, 5000)]],
    ['a buffer is read and still there', [buffer(3500, 4000), buffer(4000, 5000)]],
    ['its buffers overlap', [buffer(4000, 4600), buffer(4300, 4800), buffer(4500, 4700), buffer(4800, 5000)]],
    ['a buffer is empty', [buffer(4000, 4600), buffer(4600, 4600), buffer(4600, 5000)]],
    ['the bytes are in pages', [{ seq: 3900, linear: stream(3900, 3950), pages: [stream(3950, 4400), stream(4400, 4401), stream(4401, 5000)] }]],
    ['all bytes are in pages', [{ seq: 4000, pages: [stream(4000, 5000)] }]],
    ['buffers hang on a buffer', [{ seq: 3990, linear: stream(3990, 4100), pages: [stream(4100, 4200)], list: [buffer(4200, 4300), { seq: 4300, linear: stream(4300, 4301), pages: [stream(4301, 4900)] }] }, buffer(4900, 5000)]],
  ])('is whole where %s', async (_, received) => {
    const { unread } = await only({ ...ends, received, numbers: { copied_seq: 4000 } })
    expect(unread).toEqual(stream(4000, 5000))
  })

  it('is whole where a part of its first sent buffer was acknowledged', async () => {
    const { unacknowledged } = await only({ ...busy, numbers: { ...busy.numbers, snd_una: 8600 } })
    expect(unacknowledged).toEqual(stream(8600, 9000))
  })

  it.each([1, 2, 3, 4, 5, 20, 21])('is whole where a queue has %i buffers, which are found from both ends in half as many batches', async (count) => {
    const built = Array.from({ length: count }, (_, i) => buffer(4000 + 50 * i, 4050 + 50 * i))
    const { builder } = machine({ ...ends, received: built, numbers: { copied_seq: 4000, rcv_nxt: 4000 + 50 * count, rcv_wup: 4000 } })
    const { image, batches } = counted(builder.image())
    const { connections } = await new ConnectionReader(image).read(image, wanted)
    expect(connections).toMatchObject([{ unread: stream(4000, 4000 + 50 * count) }])
    expect(batches()).toBeLessThan(15 + count / 2)
  })

  it('is put in order where its tree has many buffers', async () => {
    const sent = Array.from({ length: 33 }, (_, i) => buffer(8000 + 10 * i, 8010 + 10 * i))
    const { unacknowledged } = await only({ ...ends, sent, numbers: { snd_una: 8000, snd_nxt: 8330, write_seq: 8330 } })
    expect(unacknowledged).toEqual(stream(8000, 8330))
  })

  it('is whole where sequence numbers go round', async () => {
    const top = 2 ** 32
    const { unread, unacknowledged, rcvNxt, sndNxt } = await only({
      ...ends,
      received: [{ seq: top - 500, linear: stream(0, 400) }, { seq: top - 100, linear: stream(400, 900) }],
      sent: [{ seq: top - 300, linear: stream(0, 200) }, { seq: top - 100, linear: stream(200, 350) }], unsent: [{ seq: 50, linear: stream(350, 400) }],
      numbers: { copied_seq: top - 450, rcv_nxt: 400, rcv_wup: top - 1, snd_wl1: top - 600, snd_una: top - 250, snd_nxt: 50, write_seq: 100 },
    })
    expect([rcvNxt, sndNxt]).toEqual([400, 50])
    expect(unread).toEqual(stream(50, 900))
    expect(unacknowledged).toEqual(stream(50, 400))
  })
})

describe('which connections are taken', () => {
  const six = (...last: readonly number[]): Uint8Array => Uint8Array.of(0x20, 1, 0xd, 0xb8, ...new Array<number>(12 - last.length).fill(0), ...last)
  const mapped = (four: Uint8Array): Uint8Array => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...four)

  it('those of an IPv6 address', async () => {
    const { connections } = await machine({ ...ends, local: six(9), remote: six(1, 2) }, { ...ends, local: six(8), remote: six(1, 2) }).read({ addresses: [six(9)] })
    expect(connections.map((one) => one.name)).toEqual(['[2001:db8:0:0:0:0:0:9]:7480 [2001:db8:0:0:0:0:0:102]:40712'])
  })

  it('those of an IPv4 address on an IPv6 socket, as of IPv4', async () => {
    const socket = { ...ends, local: mapped(address), remote: mapped(peer) }
    for (const addresses of [[address], [mapped(address)]]) expect((await machine(socket).read({ addresses })).connections).toMatchObject([{ name, local: { address }, remote: { address: peer } }])
  })

  it('those of the ports that are named', async () => {
    const { read } = machine(ends, { ...ends, localPort: 80 }, { ...ends, local: Uint8Array.of(10, 0, 0, 8) })
    const ports = async (which: number[]): Promise<number[]> => (await read({ addresses: [address], ports: which })).connections.map(({ local }) => local.port)
    expect(await ports([80])).toEqual([80])
    expect((await ports([80, 7480])).sort()).toEqual([7480, 80].sort())
    expect(await ports([])).toEqual([])
  })

  it('of a thousand, in about as many batches as of one', async () => {
    const many = (count: number): ConnectionsBuilder => machine(...Array.from({ length: count }, (_, i) => ({ ...busy, sent: [buffer(8500, 8800)], received: [], numbers: { ...busy.numbers, copied_seq: 5000 }, remotePort: 1000 + i }))).builder
    const [one, thousand] = await Promise.all([1, 300].map(async (count) => {
      const { image, batches } = counted(many(count).image())
      const { connections } = await new ConnectionReader(image).read(image, wanted)
      expect(connections).toHaveLength(count)
      return batches()
    })) as [number, number]
    // The chains of the table are longer.
    expect(thousand - one).toBeLessThan(20)
  })
})

describe('a connection that cannot go on', () => {
  it.each([2, 3, 4, 5, 6, 7, 8, 9, 11, 12])('is not established: state %i', async (state) => {
    expect(await reasonOf({ ...busy, state })).toBe('not-established')
  })

  it.each<[string, string, Partial<BuiltSocket>]>([
    ['not-established', 'the peer\'s end has come', { received: [buffer(4000, 4999, { flags: 0x11, endSeq: 5000 })] }],
    ['not-established', 'its own end is to be sent', { unsent: [buffer(8800, 8999, { flags: 0x11, endSeq: 9000 })] }],
    ['not-established', 'one direction is shut down', { numbers: { ...busy.numbers, [`${sock}.sk_shutdown`]: 1 } }],
    ['not-continuable', 'TLS is above it', { numbers: { ...busy.numbers, 'inet_conn.icsk_ulp_ops': 0xffff_ffff_c000_0000n } }],
    ['not-continuable', 'it has urgent data', { numbers: { ...busy.numbers, urg_data: 0x100 } }],
    ['in-use', 'it was being restored', { numbers: { ...busy.numbers, repair: 1 } }],
    ['garbage', 'bytes are missing at the front', { received: [buffer(4001, 5000)] }],
    ['garbage', 'bytes are missing in between', { received: [buffer(4000, 4500), buffer(4501, 5000)] }],
    ['garbage', 'bytes are missing at the end', { received: [buffer(4000, 4999)] }],
    ['garbage', 'no buffer is there', { received: [] }],
    ['garbage', 'there is more than was received', { received: [buffer(4000, 5001)] }],
    ['garbage', 'a buffer has other numbers than bytes', { received: [buffer(4000, 4900, { endSeq: 5000 })] }],
    ['garbage', 'what is sent ends elsewhere', { sent: [buffer(8500, 8700)], unsent: [buffer(8700, 9000)] }],
    ['garbage', 'a buffer begins the connection', { received: [buffer(4000, 5000, { flags: 2 })] }],
    ['garbage', 'its numbers go backwards', { numbers: { ...busy.numbers, copied_seq: 5001 } }],
    ['garbage', 'what is sent is behind what is written', { numbers: { ...busy.numbers, snd_nxt: 9001 } }],
    ['garbage', 'less was received than waits', { numbers: { ...busy.numbers, bytes_received: 999 } }],
    ['garbage', 'its window is larger than ever', { numbers: { ...busy.numbers, snd_wnd: 65_001 } }],
    ['garbage', 'its window was told ahead of time', { numbers: { ...busy.numbers, rcv_wup: 5001 } }],
    ['garbage', 'its window is of a later time', { numbers: { ...busy.numbers, snd_wl1: 70_000 } }],
    ['garbage', 'its window is scaled too far', { numbers: { ...busy.numbers, 'rx_opt.snd_wscale': 15 } }],
    ['garbage', 'its segments have no room', { numbers: { ...busy.numbers, 'rx_opt.mss_clamp': 0 } }],
    ['too-large', 'very much waits', { numbers: { ...busy.numbers, bytes_received: 2 ** 33, copied_seq: 2 ** 32 + 4000 - (9 << 20) } }],
  ])('%s: %s', async (reason, _, change) => {
    expect(await reasonOf({ ...busy, ...change })).toBe(reason)
  })

  it.each<[string, string, (builder: ConnectionsBuilder, at: number) => void]>([
    ['garbage', 'a list goes in a circle', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_receive_queue.next'), 'next', builder.addressOf(builder.firstOf(at, 'sk_receive_queue.next')))],
    ['garbage', 'the tree goes in a circle', (builder, at) => {
      const root = builder.firstOf(at, 'tcp_rtx_queue.rb_node')
      builder.setBuffer(root, 'rbnode.rb_right', builder.addressOf(root))
    }],
    ['garbage', 'a buffer has more bytes elsewhere than it has', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_receive_queue.next'), 'data_len', 1001)],
    ['garbage', 'a buffer says that bytes are elsewhere that are not', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_receive_queue.next'), 'data_len', 1)],
    ['garbage', 'a buffer is larger than a queue can be', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_write_queue.next'), 'len', 2 ** 32 - 1)],
    ['unreadable', 'a list leads nowhere', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_receive_queue.next'), 'next', 0n)],
    ['unreadable', 'the bytes are nowhere', (builder, at) => builder.setBuffer(builder.firstOf(at, 'sk_receive_queue.next'), 'data', 0xffff_ffff_ffff_ffffn)],
  ])('%s: %s', async (reason, _, spoil) => {
    expect(await reasonOf(busy, spoil)).toBe(reason)
  })

  const inPages: BuiltSocket = { ...busy, received: [{ seq: 4000, pages: [stream(4000, 5000)] }] }
  const shared = (builder: ConnectionsBuilder, at: number): DataView => {
    // It stands right behind the headers.
    const first = builder.firstOf(at, 'sk_receive_queue.next')
    const size = host.types.sizeOf(host.types.find('sk_buff')!.id)
    const start = Math.ceil((first + size) / 64) * 64 + 64
    return new DataView(builder.ram.buffer, start)
  }
  const member = (path: string): number => host.types.member('skb_shared_info', path)!.offset

  it.each<[string, string, (view: DataView) => void]>([
    ['garbage', 'a buffer has more pages than there is room for', (view) => view.setUint8(member('nr_frags'), 255)],
    ['garbage', 'a page has other bytes than the buffer', (view) => view.setUint32(member('frags[0].bv_len'), 1001, true)],
    ['garbage', 'a buffer hangs on itself', (view) => view.setBigUint64(member('frag_list'), 0xffff_8880_0000_0000n, true)],
    ['unreadable', 'a page is none', (view) => view.setBigUint64(member('frags[0].bv_page'), 12n, true)],
    ['unreadable', 'a page is the card\'s own', (view) => view.setBigUint64(member('frags[0].bv_page'), view.getBigUint64(member('frags[0].bv_page'), true) | 1n, true)],
    ['unreadable', 'a page lies outside the RAM', (view) => view.setUint32(member('frags[0].bv_offset'), 2 ** 31, true)],
  ])('%s: %s', async (reason, _, spoil) => {
    expect((await only(inPages)).unread).toEqual(stream(4000, 5000))
    expect(await reasonOf(inPages, (builder, at) => spoil(shared(builder, at)))).toBe(reason)
  })

  it('is unreadable where it is not known where pages are', async () => {
    const { builder } = machine(inPages, { ...busy, remotePort: 2 })
    const image = builder.image('vmemmap_base')
    const { connections, skipped } = await new ConnectionReader(image).read(image, wanted)
    expect(connections.map(({ remote }) => remote.port)).toEqual([2])
    expect(skipped).toMatchObject([{ name, reason: 'unreadable' }])
  })
})

describe('a connection that the kernel was at', () => {
  it('goes on where its queues account for all its numbers', async () => {
    const { unread, unacknowledged } = await only({ ...busy, numbers: { ...busy.numbers, [owned]: 1 } })
    expect([unread.length, unacknowledged.length]).toEqual([1000, 500])
  })

  it('goes on where packets have come that nobody owns the connection for', async () => {
    expect(await only({ ...busy, numbers: { ...busy.numbers, [backlog]: 2304 } })).toMatchObject({ name })
  })

  it.each<[string, Readonly<Record<string, number>>]>([
    ['a packet was being worked on', { [lock]: 1 }],
    ['packets had waited for its owner, and were perhaps being worked on', { [owned]: 1, [backlog]: 2304 }],
  ])('does not where %s, for its bytes may be counted and its numbers not yet be set', async (_, held) => {
    expect(await reasonOf({ ...busy, numbers: { ...busy.numbers, ...held } })).toBe('in-use')
    expect(await reasonOf({ ...ends, numbers: held })).toBe('in-use')
  })

  it.each<[string, Partial<BuiltSocket>]>([
    ['a buffer was put into no queue yet', { unsent: [] }],
    ['bytes were copied and not counted', { unsent: [buffer(8800, 9010, { endSeq: 9000 })] }],
    ['a packet was taken off and not counted', { received: [] }],
  ])('does not where %s', async (_, change) => {
    expect(await reasonOf({ ...busy, ...change, numbers: { ...busy.numbers, [owned]: 1 } })).toBe('in-use')
  })
})

describe('a connection of a kernel that is still stopping', () => {
  it('is read again where it did not add up', async () => {
    const { builder, places } = machine({ ...busy, numbers: { ...busy.numbers, rcv_nxt: 5100 } })
    const image = builder.image()
    const { memory } = image.physical
    const readMany = memory.readMany.bind(memory)
    let looks = 0
    memory.readMany = async (ranges) => {
      const read = await readMany(ranges)
      // Once it has been looked at, its numbers and its queues come to agree.
      if (ranges.some(({ offset }) => offset === places[0]) && ++looks === 1) builder.setSocket(places[0] as number, 'rcv_nxt', 5000)
      return read
    }
    const reader = new ConnectionReader(image)
    expect((await reader.read(image, wanted)).connections).toMatchObject([{ name, rcvNxt: 5000 }])
    expect(looks).toBe(2)
  })

  it('is known to have moved, and is read as it is then', async () => {
    const { builder, places } = machine(busy, { ...ends, remotePort: 2 }, { ...ends, remotePort: 3 })
    const image = builder.image()
    const reader = new ConnectionReader(image)
    const { connections } = await reader.read(image, wanted)
    expect(await reader.haveMoved(image, connections)).toEqual([])
    builder.setSocket(places[0] as number, 'copied_seq', 4900)
    builder.setSocket(places[2] as number, `${sock}.__sk_common.skc_state`, 7)
    const moved = await reader.haveMoved(image, connections)
    expect(moved.map(({ remote }) => remote.port).sort()).toEqual([3, 40_712])
    const again = await reader.readAgain(image, moved)
    expect(again.connections).toMatchObject([{ name, unread: stream(4900, 5000), read: 4900 }])
    expect(again.skipped).toMatchObject([{ name: '10.0.0.9:7480 10.0.0.50:3', reason: 'not-established' }])
  })

  it.each(['bytes_acked', 'bytes_received'])('is known to have moved by %s, which is set before the number that belongs to it', async (counter) => {
    const { builder, places } = machine(busy)
    const image = builder.image()
    const reader = new ConnectionReader(image)
    const { connections } = await reader.read(image, wanted)
    builder.setSocket(places[0] as number, counter, 9700)
    expect((await reader.haveMoved(image, connections)).map((one) => one.name)).toEqual([name])
  })

  it('is gone where another has its memory', async () => {
    const { builder, places } = machine(busy)
    const image = builder.image()
    const reader = new ConnectionReader(image)
    const { connections } = await reader.read(image, wanted)
    builder.setSocket(places[0] as number, `${sock}.__sk_common.skc_num`, 81)
    expect((await reader.readAgain(image, connections)).skipped).toMatchObject([{ name, reason: 'not-established', why: 'it is gone' }])
  })
})

describe('the connections of a host that panicked', () => {
  const loopback = [Uint8Array.of(127, 0, 0, 1), Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? 1 : 0))]
  /** Of those that were established and had nothing under way, and of the others. */
  const told = (isIdle: boolean): string[] => reported['ss0']!.split('\n').map((line) => line.trim().split(/\s+/))
    .filter(([protocol, state, received, sent]) => protocol === 'tcp' && state !== 'LISTEN' && (state === 'ESTAB' && received === '0' && sent === '0') === isIdle)
    .map((words) => words.slice(4).join(' ').replaceAll('[::1]', '[0:0:0:0:0:0:0:1]')).sort()

  it('are those that ss listed, where their pages were recorded', async () => {
    const { connections, skipped, faults } = await new ConnectionReader(host).read(host, { addresses: loopback })
    expect(faults).toEqual([])
    expect(connections.map((one) => one.name).sort()).toEqual(told(true))
    for (const { unread, unacknowledged, options } of connections) {
      expect([unread.length, unacknowledged.length]).toEqual([0, 0])
      expect(options).toMatchObject({ mssClamp: 65_495, sack: true })
    }
    expect(skipped.map((one) => one.name).sort()).toEqual(told(false))
    expect(skipped.map(({ reason }) => reason).sort()).toEqual(['not-established', 'not-established', 'not-established', 'unreadable', 'unreadable'])
  })
})

describe('the connections of memory that is damaged', () => {
  const sockets: readonly BuiltSocket[] = [
    busy, { ...ends, remotePort: 2 },
    { ...busy, remotePort: 3, received: [{ seq: 3900, linear: stream(3900, 3950), pages: [stream(3950, 4400), stream(4400, 4900)], list: [buffer(4900, 4950), buffer(4950, 5000)] }] },
    { ...busy, remotePort: 4, sent: Array.from({ length: 30 }, (_, i) => buffer(8500 + 10 * i, 8510 + 10 * i)) },
    { ...busy, local: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address), remote: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...peer), remotePort: 5 },
  ]

  /** Whatever is handed on adds up. */
  function check({ connections }: Extraction): void {
    for (const { unread, unacknowledged, counters, rcvNxt, sndUna, sndNxt, read, written, window, options } of connections) {
      const [, received, copied, acknowledged, , end] = counters as [number, number, number, number, number, number]
      expect([received, acknowledged]).toEqual([rcvNxt, sndUna])
      expect(unread.length).toBe((rcvNxt - copied) >>> 0)
      expect(unacknowledged.length).toBe((end - sndUna) >>> 0)
      expect((sndNxt - sndUna) >>> 0).toBeLessThanOrEqual(unacknowledged.length)
      expect(Math.min(read, written)).toBeGreaterThanOrEqual(0)
      expect(window.sndWnd).toBeLessThanOrEqual(window.maxWindow)
      expect(options.windowScale?.send ?? 0).toBeLessThanOrEqual(14)
    }
  }

  it('add up, or are left out', async () => {
    const { builder } = machine(...sockets)
    const sound = builder.used.slice()
    const reader = new ConnectionReader(builder.image())
    let [taken, left] = [0, 0]
    await fc.assert(fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 40 }), async (seed, count) => {
      const random = new Random(seed)
      builder.used.set(sound)
      for (let i = 0; i < count; i++) {
        if (i % 2 === 0) flipBits(builder.used, random, 3)
        else damage(builder.used, random)
      }
      const image = builder.image()
      const extraction = await reader.read(image, wanted)
      check(extraction)
      taken += extraction.connections.length
      left += extraction.skipped.length
      check(await reader.readAgain(image, extraction.connections))
    }), fuzz(300))
    // Both were seen.
    expect(Math.min(taken, left)).toBeGreaterThan(0)
  }, fuzzTimeoutMs)

  it('add up where each look shows other damage', async () => {
    const { builder } = machine(...sockets)
    const reader = new ConnectionReader(builder.image())
    await expectOnlyOurErrors(builder.image(), async (image) => {
      const extraction = await reader.read(image, wanted)
      check(extraction)
      await reader.haveMoved(image, extraction.connections)
    }, fuzz(60).numRuns)
  }, fuzzTimeoutMs)

  it('are lost together with the way to the memory, as an error', async () => {
    const { builder } = machine(busy)
    const image = builder.image()
    const reader = new ConnectionReader(image)
    image.physical.memory.readMany = () => Promise.reject(new BackdoorsError('MEMORY_LOST', 'the card is gone'))
    await expect(reader.read(image, wanted)).rejects.toMatchObject({ code: 'MEMORY_LOST' })
  })
})
