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
import { readAll, readUdpSockets, selectSockets, TcpTables, type SocketType } from './socket-tables.js'

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
  /** 0 where no process has it open any more; undefined where it was not asked for. */
  readonly inode: bigint | undefined
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
  /** Also their inodes, and which processes have them open: that takes a read for each socket and each process, and some batches. */
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
  const [tcpType, udpType] = [selectTcp(image), selectUdp(image)]
  const [tcpFaults, udpFaults]: [Faults, Faults] = [[], []]
  const [tcpFound, udpFound] = await Promise.all([new TcpTables(image).read(image, tcpType, tcpFaults), readUdpSockets(image, udpType, udpFaults)])
  const tcp = tcpFound.filter((socket) => isSound(image, socket, tcpType, tcpFaults))
  const udp = udpFound.filter((socket) => isSound(image, socket, udpType, udpFaults))
  for (const fault of [...tcpFaults, ...udpFaults]) faults.push(fault)
  const waits = await readWaiting(image, tcp.filter((socket) => socket.number(tcpType.common.skc_state) === timeWait), faults)
  const found: Found[] = udp.map((object) => ({ object, protocol: 'udp', type: udpType, detail: udpDetail(object) }))
  for (const object of tcp) {
    const detail = tcpDetail(object, tcpType.common.skc_state, waits)
    if (detail) found.push({ object, protocol: 'tcp', type: tcpType, detail })
  }
  const open = owners ? await readOwners(image, faults) : undefined
  const inodes = owners ? await readInodes(image, found.map(({ detail }) => detail.socket).filter((socket) => socket !== 0n), faults) : undefined
  return { sockets: found.map((one) => socketOf(one, inodes, open)), faults }
}

const [tcpSock, udpSock] = ['inet_conn.icsk_inet.sk', 'inet.sk']
const [backlog, mostBacklog, tcpUid, tcpSocket] = ['sk_ack_backlog', 'sk_max_ack_backlog', 'sk_uid', 'sk_socket'].map((member) => `${tcpSock}.${member}`) as [string, string, string, string]
const [received, sent, udpUid, udpSocket, udpState] = ['sk_backlog.rmem_alloc', 'sk_wmem_alloc', 'sk_uid', 'sk_socket', '__sk_common.skc_state'].map((member) => `${udpSock}.${member}`) as [string, string, string, string, string]
const deficit = 'forward_deficit'

const selectTcp = (image: KernelImage): SocketType => selectSockets(image, 'tcp_sock', tcpSock, ['rcv_nxt', 'copied_seq', 'write_seq', 'snd_una', backlog, mostBacklog, tcpUid, tcpSocket])
const selectUdp = (image: KernelImage): SocketType => selectSockets(image, 'udp_sock', udpSock, [received, sent, udpUid, udpSocket], [deficit])

/** States of sockets that are no more, or not yet, a `tcp_sock`. */
const isShort = (structure: string, state: number): boolean => structure === 'tcp_sock' && (state === timeWait || state === newSynReceived)

function isSound(image: KernelImage, socket: KernelObject, { whole, common }: SocketType, faults: Faults): boolean {
  const state = socket.number(common.skc_state)
  const isKnown = families[socket.number(common.skc_family)] !== undefined && socketState(state) !== undefined
  const { peer } = image
  const about = { peer, address: socket.address }
  if (!isKnown) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `What stands at 0x${socket.address.toString(16)} of ${peer} is no socket of IPv4 or IPv6.`, { ...about, field: 'sock_common.skc_family' }))
  else if (socket.selection !== whole && !isShort(whole.structure, state)) faults.push(new BackdoorsError('NOT_MAPPED', `Of the socket at 0x${socket.address.toString(16)} of ${peer}, only the start can be read.`, about))
  else return true
  return false
}

function socketOf({ object, protocol, type: { common }, detail }: Found, inodes: ReadonlyMap<bigint, bigint> | undefined, open: ReadonlyMap<bigint, SocketOwner[]> | undefined): Socket {
  const { selection, address } = object
  const [six, remoteSix, only, namespace] = [common.skc_v6_rcv_saddr, common.skc_v6_daddr, common.skc_ipv6only, common['skc_net.net']]
  const isIpv6 = families[object.number(common.skc_family)] === 'ipv6' && selection.has(six) && selection.has(remoteSix)
  const port = object.number(common.skc_dport)
  return {
    protocol, address,
    local: { address: isIpv6 ? ipv6Text(object.bytes(six)) : ipv4Text(object.bytes(common.skc_rcv_saddr)), port: object.number(common.skc_num) },
    // As it is on the wire: the other byte first.
    remote: { address: isIpv6 ? ipv6Text(object.bytes(remoteSix)) : ipv4Text(object.bytes(common.skc_daddr)), port: ((port & 0xff) << 8) | (port >> 8) },
    family: isIpv6 ? 'ipv6' : 'ipv4',
    isIpv6Only: isIpv6 && selection.has(only) && object.number(only) !== 0,
    interface: object.signedNumber(common.skc_bound_dev_if),
    namespace: selection.has(namespace) ? object.pointer(namespace) : undefined,
    state: detail.state, receiveQueue: detail.receiveQueue, sendQueue: detail.sendQueue, uid: detail.uid,
    inode: inodes && (inodes.get(detail.socket) ?? 0n),
    owners: open && (open.get(detail.socket) ?? []),
  }
}

interface Detail extends Pick<Socket, 'state' | 'receiveQueue' | 'sendQueue' | 'uid'> {
  /** Address of the `struct socket`; 0 where it has none. */
  readonly socket: bigint
}

/** A socket as it was read, and what is told of it. */
interface Found {
  readonly object: KernelObject
  readonly protocol: Socket['protocol']
  readonly type: SocketType
  readonly detail: Detail
}

const waiting = (state: SocketState): Detail => ({ state, receiveQueue: 0, sendQueue: 0, uid: undefined, socket: 0n })
/** Sequence numbers go round. */
const distance = (socket: KernelObject, to: string, from: string): number => (socket.number(to) - socket.number(from)) | 0

/** What sockets in `TCP_TIME_WAIT` wait in, by their addresses: FIN-WAIT-2 may be waited out like this as well. */
async function readWaiting(image: KernelImage, sockets: readonly KernelObject[], faults: Faults): Promise<Map<bigint, SocketState>> {
  const states = new Map<bigint, SocketState>()
  const { peer } = image
  const selection = new Selection(image.types, 'inet_timewait_sock', ['tw_substate'])
  for (const socket of await readAll(image, selection, sockets.map(({ address }) => address), faults)) {
    const { address } = socket
    const state = socketState(socket.number('tw_substate'))
    if (state === undefined) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `A socket at 0x${address.toString(16)} of ${peer} waits in no known state.`, { peer, address, field: 'inet_timewait_sock.tw_substate' }))
    else states.set(address, state)
  }
  return states
}

/** @returns undefined of a socket whose state is not known */
function tcpDetail(socket: KernelObject, stateMember: string, waits: ReadonlyMap<bigint, SocketState>): Detail | undefined {
  const state = socket.number(stateMember)
  if (state === newSynReceived) return waiting('SYN-RECV')
  if (state === timeWait) {
    const waited = waits.get(socket.address)
    return waited && waiting(waited)
  }
  const isListening = state === listen
  return {
    state: socketState(state) ?? 'UNCONN',
    receiveQueue: isListening ? socket.number(backlog) : Math.max(0, distance(socket, 'rcv_nxt', 'copied_seq')),
    sendQueue: isListening ? socket.number(mostBacklog) : distance(socket, 'write_seq', 'snd_una') >>> 0,
    uid: socket.number(tcpUid),
    socket: socket.pointer(tcpSocket),
  }
}

function udpDetail(socket: KernelObject): Detail {
  // What was read is given back to the queue's account in larger pieces.
  const owed = socket.selection.has(deficit) ? socket.signedNumber(deficit) : 0
  return {
    state: socketState(socket.number(udpState)) ?? 'UNCONN', receiveQueue: Math.max(0, socket.signedNumber(received) - owed),
    // The socket itself counts as one.
    sendQueue: Math.max(0, socket.signedNumber(sent) - 1), uid: socket.number(udpUid), socket: socket.pointer(udpSocket),
  }
}

/** By the address of the `struct socket`, which is one with its inode. */
async function readInodes(image: KernelImage, sockets: readonly bigint[], faults: Faults): Promise<Map<bigint, bigint>> {
  const found = await readAll(image, new Selection(image.types, 'socket_alloc', ['vfs_inode.i_ino']), sockets, faults)
  return new Map(found.map((inode) => [inode.address, inode.unsigned('vfs_inode.i_ino')]))
}

/** Its local and its remote address, as `ss` prints them. */
export const socketEndpoints = ({ local, remote, isIpv6Only }: Socket): [string, string] => [endpointText(local, !isIpv6Only), endpointText(remote, !isIpv6Only)]
