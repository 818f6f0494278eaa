import { describe, expect, it } from 'vitest'
import { PhysicalMemory } from '../physical-memory.js'
import { withBytes } from '../testing/hostile-memory.js'
import { counted, expectOnlyOurErrors } from '../testing/only-our-errors.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { ipv6Text, socketState } from './socket-names.js'
import { readSockets, socketEndpoints, type Socket, type Sockets } from './sockets.js'
import type { KernelImage } from '../kernel-image.js'

const host = await panickedHost()
/** This host's ss asked `/proc`, which tells neither whether a socket is for IPv6 only nor how many connections may wait. */
const endpoints = (socket: Socket): string => socketEndpoints({ ...socket, isIpv6Only: false }).join(' ')
const sendQueue = ({ state, sendQueue: bytes }: Socket): number => (state === 'LISTEN' ? 0 : bytes)
const lines = reported['ss0']!.trim().split('\n').map((line) => line.trim().split(/\s+/)) as [string, string, string, string, string, string][]

describe('the sockets of a host that panicked', () => {
  it('are those that ss listed, with their states, queues and addresses', async () => {
    const { sockets, faults } = await readSockets(host)
    expect(faults).toEqual([])
    const found = sockets.map((socket) => `${socket.protocol} ${socket.state} ${socket.receiveQueue} ${sendQueue(socket)} ${endpoints(socket)}`)
    expect(found.sort()).toEqual(lines.map((line) => line.join(' ')).sort())
  })

  it('have the inodes and the owners that ss told', async () => {
    const { sockets, faults } = await readSockets(host, { owners: true })
    expect(faults).toEqual([])
    const told = reported['ss']!.trim().split('\n').slice(1).map((line) => ({
      addresses: line.trim().split(/\s+/).slice(4, 6).join(' '), owner: /\("(\w+)",pid=(\d+),fd=(\d+)\)/.exec(line)?.slice(1).join(' '), inode: /ino:(\d+)/.exec(line)?.[1],
    }))
    for (const { addresses, owner, inode } of told) {
      const socket = sockets.find((one) => endpoints(one) === addresses)!
      expect(socket.owners!.map(({ comm, pid, fd }) => `${comm} ${pid} ${fd}`), addresses).toEqual(owner === undefined ? [] : [owner])
      if (inode !== undefined) expect(String(socket.inode), addresses).toBe(inode)
    }
  })

  it('that listen say how many connections may wait', async () => {
    const { sockets } = await readSockets(host)
    // Node asks for 511.
    expect(sockets.filter(({ state }) => state === 'LISTEN').map(({ sendQueue: connections }) => connections)).toEqual([511, 511, 511, 511])
  })

  it('that are for IPv6 only are shown so', async () => {
    const { sockets } = await readSockets(host)
    expect(sockets.filter(({ isIpv6Only }) => isIpv6Only).map((socket) => socketEndpoints(socket))).toEqual([['[::]:4791', '[::]:*']])
  })

  it('that share the address of a namespace are all of one', async () => {
    const { sockets } = await readSockets(host)
    expect(new Set(sockets.map(({ namespace }) => namespace))).toEqual(new Set([host.addressOf('init_net')]))
  })

  it('are read in few batches', async () => {
    const { image, batches } = counted(host)
    await readSockets(image)
    expect(batches()).toBeLessThan(60)
  })

  /** The machine, whose RAM has nothing behind the start of a socket. */
  async function cutBehind(socket: Socket): Promise<KernelImage> {
    const [place] = await host.memory.translate([socket.address])
    const end = (place as { physical: number }).physical + 300
    return host.over(new PhysicalMemory(host.physical.memory, host.physical.spans.flatMap(({ physical, length, offset }) => {
      if (end <= physical || end >= physical + length) return [{ physical, length, offset }]
      const after = Math.ceil(end / 4096) * 4096 - physical
      return [{ physical, length: end - physical, offset }, ...(after < length ? [{ physical: physical + after, length: length - after, offset: offset + after }] : [])]
    })))
  }

  it.each(['tcp', 'udp'] as const)('are told also where a shorter structure than a whole socket is the last thing in the RAM: %s', async (protocol) => {
    const { sockets } = await readSockets(host)
    // Of those that stand alone in the rest of their page.
    const one = sockets.find((socket) => socket.protocol === protocol && !sockets.some(({ address }) => address > socket.address && address >> 12n === socket.address >> 12n)) as Socket
    const cut = await cutBehind(one)
    // It is a whole one, in truth, and said to be missing; the others are not.
    const missing = ({ sockets: found, faults }: Sockets): void => {
      expect(found.map(({ address }) => address)).toEqual(sockets.map(({ address }) => address).filter((address) => address !== one.address))
      expect(faults).toMatchObject([{ code: 'NOT_MAPPED', details: { address: one.address } }])
    }
    missing(await readSockets(cut))
    // Of TCP, some states are of shorter structures.
    const state = host.types.member('sock_common', 'skc_state')!.offset
    const waiting = await readSockets(await withBytes(cut, one.address + BigInt(state), Uint8Array.of(12)))
    if (protocol === 'udp') missing(waiting)
    else expect(waiting.sockets.find(({ address }) => address === one.address)).toMatchObject({ state: 'SYN-RECV', local: one.local })
  })

  it('may be damaged anywhere, and cost only what cannot be read', async () => {
    await expectOnlyOurErrors(host, (image) => readSockets(image, { owners: true }))
  })
})

describe('names of sockets', () => {
  const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(':', ''), 'hex'))
  it.each([
    ['0000:0000:0000:0000:0000:0000:0000:0000', '::'],
    ['0000:0000:0000:0000:0000:0000:0000:0001', '::1'],
    ['0000:0000:0000:0000:0000:ffff:0a63:0001', '::ffff:10.99.0.1'],
    ['2001:0db8:0000:0000:0001:0000:0000:0001', '2001:db8::1:0:0:1'],
    ['2001:0db8:0000:0001:0001:0001:0001:0001', '2001:db8:0:1:1:1:1:1'],
    ['fe80:0000:0000:0000:0000:0000:0000:0000', 'fe80::'],
  ])('%s is %s', (long, short) => expect(ipv6Text(bytes(long))).toBe(short))

  it('knows no state that is none', () => {
    expect([0, 1, 6, 10, 12, 14, 255].map(socketState)).toEqual([undefined, 'ESTAB', 'TIME-WAIT', 'LISTEN', 'SYN-RECV', undefined, undefined])
  })
})
