/**
 * What a `tcp_sock` says of its connection, and whether it can go on elsewhere: its numbers are held against each other first.
 *
 * Sources: include/linux/tcp.h, net/ipv4/tcp.c (do_tcp_setsockopt, tcp_repair_set_window) and net/ipv4/tcp_input.c of the Linux
 * kernel.
 */
import { connectionName, type ResetReason, type TcpConnection } from '../../recovery/tcp/connection.js'
import type { KernelObject } from '../kernel-object.js'
import { counterNames, queuePaths, type CounterName, type TcpNumbers } from './layout.js'
import { distance } from './sequence.js'
import { BufferQueue, mostQueueBytes } from './socket-buffers.js'
import type { Endpoints } from './wanted.js'

/** A connection as a dead kernel had it, and what tells whether it still has it so. */
export interface ExtractedConnection extends TcpConnection {
  readonly name: string
  /** Address of its `tcp_sock`. */
  readonly socket: bigint
  /** Address of its network namespace (`struct net`); undefined of a kernel without namespaces. */
  readonly namespace: bigint | undefined
  /** Its state, its sequence numbers, its windows and its bytes, in the order of `counterNames`. */
  readonly counters: readonly number[]
}

export interface SkippedConnection extends Endpoints {
  readonly name: string
  readonly reason: ResetReason
  /** For people. */
  readonly why: string
}

/** `TCP_ESTABLISHED`, of include/net/tcp_states.h. */
export const established = 1

/**
 * What came out of order waits in a queue of its own, which is left out: the peer may have been told of it (SACK), but that is
 * advisory (RFC 2018, section 8). It keeps what it sent until all before it is acknowledged as well, and sends it again.
 */
export interface Queues {
  readonly received: BufferQueue
  readonly sent: BufferQueue
  readonly unsent: BufferQueue
}

export interface Refusal {
  readonly reason: ResetReason
  readonly why: string
}

/** Sequence numbers of half a turn tell no order; windows are smaller than this. */
const mostDistance = 1 << 30
const mostScale = 14
const [fin, syn] = [1, 2]

/** What each means where it is not 0. */
const notContinuable = [
  ['upperProtocol', 'a protocol above it (TLS of the kernel, Multipath TCP) has a state of its own'],
  ['isMptcp', 'it is a part of a connection of Multipath TCP'],
  ['md5sigInfo', 'its segments are signed (TCP-MD5)'],
  ['aoInfo', 'its segments are signed (TCP-AO)'],
  ['urgData', 'it has urgent data'],
  ['usecTs', 'its timestamps are in microseconds'],
] as const

export const countersOf = (numbers: Readonly<Record<CounterName, number>>): number[] => counterNames.map((name) => numbers[name])

/**
 * Was the kernel at it when it stopped? Then a call of a process owned it, or a CPU that had got a packet held its lock. Packets
 * that came while it was owned wait in `sk_backlog`: none of them has been acknowledged, so the peer sends them again.
 */
export const isHeld = ({ owned, lock }: TcpNumbers): boolean => owned !== 0 || lock !== 0

/**
 * Was a packet being worked on? Then one of two numbers that belong together may have been set alone: `bytes_acked` goes before `snd_una`
 * (`tcp_snd_una_update`), `bytes_received` before `rcv_nxt` (`tcp_rcv_nxt_update`), and nothing else tells. A packet is worked on under
 * the lock, or from the backlog of an owner, whose length is 0 again only when all of it is done (`__release_sock`).
 */
const isReceiving = ({ owned, lock, backlogBytes }: TcpNumbers): boolean => lock !== 0 || (owned !== 0 && backlogBytes !== 0)

/** Why it cannot go on, as far as the socket itself tells. */
export function refusalOf(numbers: TcpNumbers): Refusal | undefined {
  const { state, shutdown, repair, copiedSeq, rcvNxt, sndUna, sndNxt, writeSeq } = numbers
  if (state !== established) return { reason: 'not-established', why: `it is in state ${state} of TCP` }
  if (shutdown !== 0) return { reason: 'not-established', why: 'one of its directions has been shut down' }
  if (repair !== 0) return { reason: 'in-use', why: 'it was itself being restored' }
  if (isReceiving(numbers)) return { reason: 'in-use', why: 'a packet was being worked on' }
  for (const [name, why] of notContinuable) if (numbers[name] !== 0) return { reason: 'not-continuable', why }
  const lengths = { unread: distance(copiedSeq, rcvNxt), unacknowledged: distance(sndUna, writeSeq), unsent: distance(sndNxt, writeSeq) }
  const wrong = contradiction(numbers, lengths)
  if (wrong !== undefined) return { reason: isHeld(numbers) ? 'in-use' : 'garbage', why: wrong }
  const { unread, unacknowledged } = lengths
  if (unread > mostQueueBytes || unacknowledged > mostQueueBytes) return { reason: 'too-large', why: `${unread} bytes wait to be read and ${unacknowledged} to be acknowledged; at most ${mostQueueBytes} each are taken` }
  return undefined
}

interface Lengths {
  readonly unread: number
  readonly unacknowledged: number
  readonly unsent: number
}

/** The kernel that takes the connection over checks the windows as well, and refuses it for less. */
function contradiction(numbers: TcpNumbers, { unread, unacknowledged, unsent }: Lengths): string | undefined {
  const { rcvNxt, bytesReceived, bytesAcked, sndWl1, sndWnd, maxWindow, rcvWnd, rcvWup } = numbers
  if (unread < 0 || unread > mostDistance) return `rcv_nxt is ${unread} behind copied_seq`
  if (unacknowledged < 0 || unacknowledged > mostDistance) return `write_seq is ${unacknowledged} behind snd_una`
  if (unsent < 0 || unsent > unacknowledged) return 'snd_nxt is not between snd_una and write_seq'
  if (bytesReceived < unread || !Number.isSafeInteger(bytesReceived)) return `${bytesReceived} bytes were received, and ${unread} wait to be read`
  if (!Number.isSafeInteger(bytesAcked + unacknowledged)) return `${bytesAcked} bytes were acknowledged`
  if (maxWindow > mostDistance || rcvWnd > mostDistance || sndWnd > maxWindow) return `windows of ${sndWnd} (at most ${maxWindow}) and ${rcvWnd} bytes`
  if (distance(sndWl1, rcvNxt + rcvWnd) < 0) return 'snd_wl1 is behind the window'
  if (distance(rcvWup, rcvNxt) < 0) return 'rcv_wup is behind rcv_nxt'
  if (numbers.mssClamp === 0) return 'its segments have no room'
  if (numbers.wscaleOk !== 0 && Math.max(numbers.sndWscale, numbers.rcvWscale) > mostScale) return 'a window is scaled by more than 14 bits'
  return undefined
}

/** Where its buffers are, to be filled. */
export function queuesOf(socket: KernelObject): Queues {
  const list = ({ head, first, last }: (typeof queuePaths)['received' | 'unsent']): BufferQueue => new BufferQueue({ kind: 'list', head: socket.addressOf(head), first: socket.pointer(first), last: socket.pointer(last) })
  return { received: list(queuePaths.received), sent: new BufferQueue({ kind: 'tree', root: socket.pointer(queuePaths.sent) }), unsent: list(queuePaths.unsent) }
}

/** Its end is marked in the queues before its state says so. */
export function refusalOfQueues(numbers: TcpNumbers, { received, sent, unsent }: Queues): Refusal | undefined {
  const queues = [received, sent, unsent]
  // What cannot be read may be a pointer that was half set.
  const trouble = queues.find((queue) => queue.trouble !== undefined)?.trouble
  if (trouble) return trouble.reason === 'garbage' && isHeld(numbers) ? { ...trouble, reason: 'in-use' } : trouble
  const flags = queues.reduce((all, { buffers }) => buffers.reduce((sum, buffer) => sum | buffer.flags, all), 0)
  if ((flags & fin) !== 0) return { reason: 'not-established', why: 'one of its queues ends it (FIN)' }
  if ((flags & syn) !== 0) return { reason: isHeld(numbers) ? 'in-use' : 'garbage', why: 'one of its queues begins it (SYN)' }
  return undefined
}

/** @param bytes what its queues hold */
export function connectionOf(identity: Endpoints & Pick<ExtractedConnection, 'namespace' | 'socket'>, numbers: TcpNumbers, { unread, unacknowledged }: Pick<TcpConnection, 'unread' | 'unacknowledged'>): ExtractedConnection {
  const { rcvNxt, sndUna, sndNxt, sndWl1, sndWnd, maxWindow, rcvWnd, rcvWup, mssClamp, wscaleOk, sndWscale, rcvWscale, sackOk, tstampOk } = numbers
  return {
    ...identity, name: connectionName(identity), counters: countersOf(numbers),
    rcvNxt, sndUna, sndNxt, unread, unacknowledged,
    read: numbers.bytesReceived - unread.length,
    written: numbers.bytesAcked + unacknowledged.length,
    options: {
      mssClamp, windowScale: wscaleOk === 0 ? undefined : { send: sndWscale, receive: rcvWscale },
      sack: sackOk !== 0, timestamp: tstampOk === 0 ? undefined : timestampOf(numbers),
    },
    window: { sndWl1, sndWnd, maxWindow, rcvWnd, rcvWup },
  }
}

/** A segment bears the time when it was meant to leave: with pacing, that is later than when the socket last looked at the clock. */
function timestampOf({ mstampUs, wstampNs, tsoffset }: TcpNumbers): number {
  const ms = Math.max(Math.floor(mstampUs / 1000), Math.floor(wstampNs / 1e6))
  return ((ms % 2 ** 32) + tsoffset) % 2 ** 32
}
