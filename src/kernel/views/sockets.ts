/**
 * The sockets of TCP and UDP, as `ss -tuan` lists them.
 *
 * Sources: include/net/sock.h, net/ipv4/tcp_diag.c and net/ipv4/udp_diag.c of the Linux kernel.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'
import type { Faults } from '../walks.js'
import { endpointText, ipv4Text, ipv6Text, socketState, type Endpoint, type SocketState } from './socket-names.js'
import { readOwners, type SocketOwner } from './socket-owners.js'
import { readAll, readTcpSockets, readUdpSockets, selectCommon } from './socket-tables.js'

export interface Socket {
  readonly protocol: 'tcp' | 'udp'
  /** As `ss` names it. */
  readonly state: SocketState
  /** Of the `sock`, or of what stands in for one: an `inet_timewait_sock`, a `request_sock`. */
  readonly address: bigint
  readonly local: Endpoint
  readonly remote: Endpoint
  readonly family: 'ipv4' | 'ipv6'
  /** An IPv6 socket that takes no IPv4. */
  readonly isIpv6Only: boolean
  /** Bytes that wait to be read; of a socket that listens: connections that wait to be accepted. */
  readonly receiveQueue: number
  /** Bytes that were not acknowledged or not sent; of a socket that listens: how many connections may wait. */
  readonly sendQueue: number
  /** 0 where no process has it open any more. */
  readonly inode: bigint
  /** Undefined of a socket that only waits, or is not yet whole. */
  readonly uid: number | undefined
  /** Number of the network interface that it is bound to; 0 where to none. */
  readonly interface: number
  /** Address of its network namespace (`struct net`); undefined of a kernel without namespaces. */
  readonly namespace: bigint | undefined
  /** Undefined where it was not asked for. */
  readonly owners: readonly SocketOwner[] | undefined
}

export interface Sockets {
  readonly sockets: readonly Socket[]
  readonly faults: Faults
}

export interface SocketsOptions {
  /** Also which processes have them open: that takes a read for each process, and some batches. */
  readonly owners?: boolean
}

const families: Readonly<Record<number, Socket['family']>> = { 2: 'ipv4', 10: 'ipv6' }
/** `TCP_TIME_WAIT`, `TCP_LISTEN` and `TCP_NEW_SYN_RECV`. */
const [timeWait, listen, newSynReceived] = [6, 10, 12]

/**
 * All sockets of the machine, of all network namespaces. However many there are, it takes as many batches as the longest chain
 * of a table has sockets, and some more.
 *
 * @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws; what is damaged is left out, and said in `faults`
 */
export async function readSockets(image: KernelImage, { owners = false }: SocketsOptions = {}): Promise<Sockets> {
  const faults: Faults = []
  const common = selectCommon(image)
  const sound = (socket: KernelObject): boolean => isSound(image, socket, faults)
  const tcp = (await readTcpSockets(image, common, faults)).filter(sound)
  const udp = (await readUdpSockets(image, common, faults)).filter(sound)
  const details = new Map([...(await readTcpDetails(image, tcp, faults)), ...(await readUdpDetails(image, udp, faults))])
  const inodes = await readInodes(image, [...details.values()].map(({ socket }) => socket).filter((socket) => socket !== 0n), faults)
  const open = owners ? await readOwners(image, faults) : undefined
  const describe = (protocol: Socket['protocol'], socket: KernelObject): Socket[] => {
    const detail = details.get(socket.address)
    if (detail === undefined) return []
    const { socket: opened, ...rest } = detail
    return [{ protocol, ...commonOf(socket), ...rest, inode: inodes.get(opened) ?? 0n, owners: open && (open.get(opened) ?? []) }]
  }
  return { sockets: [...udp.flatMap((socket) => describe('udp', socket)), ...tcp.flatMap((socket) => describe('tcp', socket))], faults }
}

function isSound(image: KernelImage, socket: KernelObject, faults: Faults): boolean {
  const isKnown = families[socket.number('skc_family')] !== undefined && socketState(socket.number('skc_state')) !== undefined
  if (!isKnown) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `What stands at 0x${socket.address.toString(16)} of ${image.peer} is no socket of IPv4 or IPv6.`, { peer: image.peer, address: socket.address, field: 'sock_common.skc_family' }))
  return isKnown
}

type Common = Pick<Socket, 'address' | 'local' | 'remote' | 'family' | 'isIpv6Only' | 'interface' | 'namespace'>

function commonOf(socket: KernelObject): Common {
  const { selection, address } = socket
  const isIpv6 = families[socket.number('skc_family')] === 'ipv6' && selection.has('skc_v6_daddr') && selection.has('skc_v6_rcv_saddr')
  const text = (four: string, six: string): string => (isIpv6 ? ipv6Text(socket.bytes(six)) : ipv4Text(socket.bytes(four)))
  const port = socket.number('skc_dport')
  return {
    address,
    local: { address: text('skc_rcv_saddr', 'skc_v6_rcv_saddr'), port: socket.number('skc_num') },
    // As it is on the wire: the other byte first.
    remote: { address: text('skc_daddr', 'skc_v6_daddr'), port: ((port & 0xff) << 8) | (port >> 8) },
    family: isIpv6 ? 'ipv6' : 'ipv4',
    isIpv6Only: isIpv6 && selection.has('skc_ipv6only') && socket.number('skc_ipv6only') !== 0,
    interface: socket.signedNumber('skc_bound_dev_if'),
    namespace: selection.has('skc_net.net') ? socket.pointer('skc_net.net') : undefined,
  }
}

interface Detail extends Pick<Socket, 'state' | 'receiveQueue' | 'sendQueue' | 'uid'> {
  /** Address of the `struct socket`; 0 where it has none. */
  readonly socket: bigint
}

const waiting = (state: SocketState): Detail => ({ state, receiveQueue: 0, sendQueue: 0, uid: undefined, socket: 0n })
/** Sequence numbers go round. */
const distance = (socket: KernelObject, to: string, from: string): number => (socket.number(to) - socket.number(from)) | 0
const base = 'inet_conn.icsk_inet.sk'

async function readTcpDetails(image: KernelImage, found: readonly KernelObject[], faults: Faults): Promise<Map<bigint, Detail>> {
  const addresses = (isWanted: (state: number) => boolean): bigint[] => found.filter((socket) => isWanted(socket.number('skc_state'))).map(({ address }) => address)
  const details = new Map<bigint, Detail>()
  for (const address of addresses((state) => state === newSynReceived)) details.set(address, waiting('SYN-RECV'))
  // FIN-WAIT-2 may be waited out like this as well.
  for (const socket of await readAll(image, new Selection(image.types, 'inet_timewait_sock', ['tw_substate']), addresses((state) => state === timeWait), faults)) {
    const state = socketState(socket.number('tw_substate'))
    if (state === undefined) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `A socket at 0x${socket.address.toString(16)} of ${image.peer} waits in no known state.`, { peer: image.peer, address: socket.address, field: 'inet_timewait_sock.tw_substate' }))
    else details.set(socket.address, waiting(state))
  }
  const selection = new Selection(image.types, 'tcp_sock',
    ['rcv_nxt', 'copied_seq', 'write_seq', 'snd_una', `${base}.__sk_common.skc_state`, `${base}.sk_ack_backlog`, `${base}.sk_max_ack_backlog`, `${base}.sk_uid`, `${base}.sk_socket`])
  for (const socket of await readAll(image, selection, addresses((state) => state !== timeWait && state !== newSynReceived), faults)) {
    const number = socket.number(`${base}.__sk_common.skc_state`)
    const isListening = number === listen
    details.set(socket.address, {
      state: socketState(number) ?? 'UNCONN',
      receiveQueue: isListening ? socket.number(`${base}.sk_ack_backlog`) : Math.max(0, distance(socket, 'rcv_nxt', 'copied_seq')),
      sendQueue: isListening ? socket.number(`${base}.sk_max_ack_backlog`) : distance(socket, 'write_seq', 'snd_una') >>> 0,
      uid: socket.number(`${base}.sk_uid`),
      socket: socket.pointer(`${base}.sk_socket`),
    })
  }
  return details
}

async function readUdpDetails(image: KernelImage, found: readonly KernelObject[], faults: Faults): Promise<Map<bigint, Detail>> {
  const selection = new Selection(image.types, 'udp_sock', ['inet.sk.__sk_common.skc_state', 'inet.sk.sk_backlog.rmem_alloc', 'inet.sk.sk_wmem_alloc', 'inet.sk.sk_uid', 'inet.sk.sk_socket'], ['forward_deficit'])
  const sockets = await readAll(image, selection, found.map(({ address }) => address), faults)
  return new Map(sockets.map((socket) => {
    // What was read is given back to the queue's account in larger pieces.
    const deficit = selection.has('forward_deficit') ? socket.signedNumber('forward_deficit') : 0
    const state = socketState(socket.number('inet.sk.__sk_common.skc_state')) ?? 'UNCONN'
    return [socket.address, {
      state, receiveQueue: Math.max(0, socket.signedNumber('inet.sk.sk_backlog.rmem_alloc') - deficit),
      // The socket itself counts as one.
      sendQueue: Math.max(0, socket.signedNumber('inet.sk.sk_wmem_alloc') - 1), uid: socket.number('inet.sk.sk_uid'), socket: socket.pointer('inet.sk.sk_socket'),
    }]
  }))
}

/** By the address of the `struct socket`, which is one with its inode. */
async function readInodes(image: KernelImage, sockets: readonly bigint[], faults: Faults): Promise<Map<bigint, bigint>> {
  const found = await readAll(image, new Selection(image.types, 'socket_alloc', ['vfs_inode.i_ino']), sockets, faults)
  return new Map(found.map((inode) => [inode.address, inode.unsigned('vfs_inode.i_ino')]))
}

/** Its local and its remote address, as `ss` prints them. */
export const socketEndpoints = ({ local, remote, isIpv6Only }: Socket): [string, string] => [endpointText(local, !isIpv6Only), endpointText(remote, !isIpv6Only)]
