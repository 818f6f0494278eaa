/** Which members of a kernel's structures a TCP connection is taken from: worked out while the machine is healthy. */
import { BackdoorsError } from '../../errors.js'
import type { Btf } from '../btf.js'
import type { KernelImage } from '../kernel-image.js'
import { Selection, type Field, type KernelObject } from '../kernel-object.js'
import { selectSockets, type SocketType } from '../views/socket-tables.js'

const sock = 'inet_conn.icsk_inet.sk'

/** What TCP counts: sequence numbers, windows, bytes, and the state. Where one of these changes, the connection has moved on. */
const counterPaths = {
  state: `${sock}.__sk_common.skc_state`,
  rcvNxt: 'rcv_nxt', copiedSeq: 'copied_seq', sndUna: 'snd_una', sndNxt: 'snd_nxt', writeSeq: 'write_seq',
  sndWl1: 'snd_wl1', sndWnd: 'snd_wnd', maxWindow: 'max_window', rcvWnd: 'rcv_wnd', rcvWup: 'rcv_wup',
  bytesReceived: 'bytes_received', bytesAcked: 'bytes_acked',
} as const

const numberPaths = {
  ...counterPaths,
  shutdown: `${sock}.sk_shutdown`, owned: `${sock}.sk_lock.owned`, lock: `${sock}.sk_lock.slock`, backlogBytes: `${sock}.sk_backlog.len`,
  mstampUs: 'tcp_mstamp', tsoffset: 'tsoffset',
  mssClamp: 'rx_opt.mss_clamp', wscaleOk: 'rx_opt.wscale_ok', sndWscale: 'rx_opt.snd_wscale', rcvWscale: 'rx_opt.rcv_wscale', sackOk: 'rx_opt.sack_ok', tstampOk: 'rx_opt.tstamp_ok',
} as const

/** Since which version they are there, or whether they were built in, does not matter: what is not there is not in use, and 0. */
const optionalPaths = {
  wstampNs: 'tcp_wstamp_ns', usecTs: 'tcp_usec_ts', urgData: 'urg_data', repair: 'repair',
  isMptcp: 'is_mptcp', upperProtocol: 'inet_conn.icsk_ulp_ops', md5sigInfo: 'md5sig_info', aoInfo: 'ao_info',
} as const

export type CounterName = keyof typeof counterPaths
export const counterNames = Object.keys(counterPaths) as CounterName[]
type NumberName = keyof typeof numberPaths | keyof typeof optionalPaths
/** Of a `tcp_sock`. */
export type TcpNumbers = Readonly<Record<NumberName, number>>

/** Where its queues begin. */
export const queuePaths = {
  received: { head: `${sock}.sk_receive_queue`, first: `${sock}.sk_receive_queue.next`, last: `${sock}.sk_receive_queue.prev` },
  unsent: { head: `${sock}.sk_write_queue`, first: `${sock}.sk_write_queue.next`, last: `${sock}.sk_write_queue.prev` },
  sent: `${sock}.tcp_rtx_queue.rb_node`,
} as const

const members = [...Object.values(numberPaths), ...Object.values(queuePaths.received), ...Object.values(queuePaths.unsent), queuePaths.sent]

/** Members with their names: a thousand sockets are read without a look at a path. */
class Numbers<Name extends string> {
  readonly #fields: readonly (readonly [Name, Field | undefined])[]

  constructor(selection: Selection, members: Readonly<Record<Name, string>>) {
    this.#fields = (Object.entries(members) as [Name, string][]).map(([name, path]) => [name, selection.has(path) ? selection.field(path) : undefined])
  }

  of(object: KernelObject): Readonly<Record<Name, number>> {
    const numbers = {} as Record<Name, number>
    for (const [name, field] of this.#fields) numbers[name] = field === undefined ? 0 : object.numberAt(field)
    return numbers
  }
}

/** How a piece of a page is described (`skb_frag_t`). */
export interface FragmentLayout {
  readonly bytes: number
  /** Where in it stand the page, how far the piece lies into it, and how long it is. */
  readonly page: number
  readonly offset: number
  readonly length: number
}

export interface ConnectionLayout {
  readonly sockets: SocketType
  readonly numbers: Numbers<NumberName>
  /** As much of a `tcp_sock` as tells whether it has moved on. */
  readonly counters: { readonly selection: Selection; readonly numbers: Numbers<CounterName> }
  /** Of a `sk_buff`. */
  readonly buffer: Selection
  /** Where its node of a tree begins. */
  readonly bufferNode: bigint
  /** Of what TCP keeps in `sk_buff.cb` (`tcp_skb_cb`), in bytes from its start. */
  readonly control: { readonly seq: number; readonly endSeq: number; readonly flags: number }
  readonly shared: Selection
  readonly fragment: FragmentLayout
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
export function layoutOf(image: KernelImage): ConnectionLayout {
  const { types } = image
  const buffer = new Selection(types, 'sk_buff', ['next', 'prev', 'rbnode.rb_left', 'rbnode.rb_right', 'cb', 'len', 'data_len', 'data', 'head', 'end'])
  const control = new Selection(types, 'tcp_skb_cb', ['seq', 'end_seq', 'tcp_flags'])
  const sockets = selectSockets(image, 'tcp_sock', sock, members, Object.values(optionalPaths))
  const counters = new Selection(types, 'tcp_sock', Object.values(counterPaths))
  return {
    sockets,
    numbers: new Numbers(sockets.whole, { ...numberPaths, ...optionalPaths }),
    counters: { selection: counters, numbers: new Numbers(counters, counterPaths) },
    buffer,
    bufferNode: BigInt(types.member('sk_buff', 'rbnode')?.offset ?? 0),
    control: { seq: control.offsetOf('seq'), endSeq: control.offsetOf('end_seq'), flags: control.offsetOf('tcp_flags') },
    shared: new Selection(types, 'skb_shared_info', ['nr_frags', 'frag_list', 'frags']),
    fragment: fragmentOf(types),
  }
}

/** `bio_vec` until 6.9, and a structure of its own since. @throws BackdoorsError KERNEL_UNSUPPORTED */
function fragmentOf(types: Btf): FragmentLayout {
  for (const [structure, page, offset, length] of [['skb_frag', 'netmem', 'offset', 'len'], ['skb_frag', 'bv_page', 'bv_offset', 'bv_len'], ['bio_vec', 'bv_page', 'bv_offset', 'bv_len']] as const) {
    const members = [page, offset, length].map((member) => types.member(structure, member)?.offset)
    if (members.includes(undefined)) continue
    const [pageAt, offsetAt, lengthAt] = members as [number, number, number]
    return { bytes: types.sizeOf(types.find(structure)?.id ?? 0), page: pageAt, offset: offsetAt, length: lengthAt }
  }
  throw new BackdoorsError('KERNEL_UNSUPPORTED', 'How this kernel describes a piece of a page (skb_frag_t) is not known.', { field: 'skb_frag_t' })
}
