/** TCP connections made by hand, in a machine of their own with the recorded host's types. */
import { Kallsyms, type KernelSymbol } from '../kallsyms.js'
import { KernelImage } from '../kernel-image.js'
import { pageBytes, x86FourLevel } from '../page-table-format.js'
import { builtNote } from './built-image.js'
import { packSymbols } from './kallsyms-builder.js'
import { writeMember } from './members.js'
import { PageTables } from './page-tables.js'

const base = 0xffff_8880_0000_0000n
const vmemmap = 0xffff_ea00_0000_0000n
const [firstPage, pages] = [16, 496]
const buckets = 16
const sock = 'inet_conn.icsk_inet.sk'

export interface BuiltBuffer {
  readonly seq: number
  /** Of a buffer that lies about it. Default: `seq` and all its bytes. */
  readonly endSeq?: number
  readonly flags?: number
  /** Bytes at `data`, in pages, and in buffers that hang on it. */
  readonly linear?: Uint8Array
  readonly pages?: readonly Uint8Array[]
  readonly list?: readonly BuiltBuffer[]
}

export interface BuiltSocket {
  /** Of 4 or 16 bytes. */
  readonly local: Uint8Array
  readonly remote: Uint8Array
  readonly localPort: number
  readonly remotePort: number
  readonly state?: number
  readonly received?: readonly BuiltBuffer[]
  readonly sent?: readonly BuiltBuffer[]
  readonly unsent?: readonly BuiltBuffer[]
  /** Members of `tcp_sock`. */
  readonly numbers?: Readonly<Record<string, number | bigint>>
}

/** What an established connection has at least. */
const usual = {
  rcv_nxt: 5000, copied_seq: 5000, snd_una: 9000, snd_nxt: 9000, write_seq: 9000, bytes_received: 5000, bytes_acked: 9000,
  'rx_opt.mss_clamp': 1460, 'rx_opt.wscale_ok': 1, 'rx_opt.snd_wscale': 7, 'rx_opt.rcv_wscale': 6, 'rx_opt.sack_ok': 1, 'rx_opt.tstamp_ok': 1,
  tcp_mstamp: 7_000_000, tsoffset: 40, snd_wl1: 4990, snd_wnd: 60_000, max_window: 65_000, rcv_wnd: 64_000, rcv_wup: 5000,
} as const

export class ConnectionsBuilder {
  readonly #tables = new PageTables(x86FourLevel, firstPage + pages)
  readonly #view: DataView
  readonly #host: KernelImage
  readonly #symbols: readonly KernelSymbol[]
  readonly #hash: number
  /** The next free byte of the RAM. */
  #next = firstPage * pageBytes
  #sockets = 0

  /** @param host whose types are taken */
  constructor(host: KernelImage) {
    this.#host = host
    for (let page = 0; page < pages; page++) this.#tables.map(base + BigInt(page * pageBytes), (firstPage + page) * pageBytes)
    this.#view = new DataView(this.#tables.ram.buffer)
    const [info, frames] = [this.#allocate(this.#sizeOf('inet_hashinfo')), this.#allocate(8)]
    this.#view.setBigUint64(frames, vmemmap, true)
    this.#hash = this.#allocate(8 * buckets)
    for (let i = 0; i < buckets; i++) this.#view.setBigUint64(this.#hash + 8 * i, BigInt(2 * i + 1), true)
    this.#set('inet_hashinfo', info, 'ehash', this.#addressOf(this.#hash))
    this.#set('inet_hashinfo', info, 'ehash_mask', BigInt(buckets - 1))
    this.#symbols = [['tcp_hashinfo', info] as const, ['vmemmap_base', frames] as const].map(([name, at]) => ({ type: 'd', name, address: this.#addressOf(at) }))
  }

  get ram(): Uint8Array {
    return this.#tables.ram
  }

  /** The part of the RAM that is in use, without the page tables. */
  get used(): Uint8Array {
    return this.ram.subarray(firstPage * pageBytes, this.#next)
  }

  /** As it stands now. @param symbols that it is left without */
  image(...without: readonly string[]): KernelImage {
    const symbols = new Kallsyms(packSymbols(this.#symbols.filter(({ name }) => !without.includes(name)), base - 4096n))
    return new KernelImage({ physical: this.#tables.physical, note: builtNote, format: x86FourLevel, memory: this.#tables.open(), symbols, types: this.#host.types, notePhysical: 0 })
  }

  /** @returns where in the RAM its `tcp_sock` is */
  add({ local, remote, localPort, remotePort, state = 1, received = [], sent = [], unsent = [], numbers = {} }: BuiltSocket): number {
    const at = this.#allocate(this.#sizeOf('tcp_sock'))
    const common = (member: string, value: number): void => this.#set('tcp_sock', at, `${sock}.__sk_common.${member}`, BigInt(value))
    common('skc_family', local.length === 4 ? 2 : 10)
    common('skc_state', state)
    common('skc_num', localPort)
    common('skc_dport', ((remotePort & 0xff) << 8) | (remotePort >> 8))
    for (const [four, six, address] of [['skc_rcv_saddr', 'skc_v6_rcv_saddr', local], ['skc_daddr', 'skc_v6_daddr', remote]] as const) this.ram.set(address, at + this.#offsetOf('tcp_sock', `${sock}.__sk_common.${address.length === 4 ? four : six}`))
    this.#set('tcp_sock', at, `${sock}.__sk_common.skc_net.net`, 0xffff_ffff_8299_0000n)
    for (const [member, value] of Object.entries({ ...usual, ...numbers })) this.setSocket(at, member, value)
    this.#addList(at, 'sk_receive_queue', received)
    this.#addList(at, 'sk_write_queue', unsent)
    const nodes = sent.map((buffer) => this.addBuffer(buffer))
    this.setSocket(at, `${sock}.tcp_rtx_queue.rb_node`, this.#addTree(nodes))
    this.#link(at)
    return at
  }

  setSocket(at: number, member: string, value: number | bigint): void {
    this.#set('tcp_sock', at, member, BigInt(value))
  }

  setBuffer(at: number, member: string, value: number | bigint): void {
    this.#set('sk_buff', at, member, BigInt(value))
  }

  /** Where the first buffer of a queue is, as the kernel's memory has it now. */
  firstOf(at: number, queue: 'sk_receive_queue.next' | 'sk_write_queue.next' | 'tcp_rtx_queue.rb_node'): number {
    return Number(this.#view.getBigUint64(at + this.#offsetOf('tcp_sock', `${sock}.${queue}`), true) - base) + firstPage * pageBytes
  }

  addressOf(at: number): bigint {
    return this.#addressOf(at)
  }

  /** @returns where in the RAM its `sk_buff` is */
  addBuffer({ seq, endSeq, flags = 0x10, linear = new Uint8Array(0), pages: inPages = [], list = [] }: BuiltBuffer): number {
    const at = this.#allocate(this.#sizeOf('sk_buff'))
    const length = bytesIn({ seq, linear, pages: inPages, list })
    const outside = length - linear.length
    // Headers stood before the data.
    const headroom = 40
    const head = this.#allocate(headroom + linear.length)
    this.ram.set(linear, head + headroom)
    const shared = this.#allocate(this.#sizeOf('skb_shared_info'))
    const control = at + this.#offsetOf('sk_buff', 'cb')
    this.#set('tcp_skb_cb', control, 'seq', BigInt(seq))
    this.#set('tcp_skb_cb', control, 'end_seq', BigInt(endSeq ?? (seq + length) % 2 ** 32))
    this.#set('tcp_skb_cb', control, 'tcp_flags', BigInt(flags))
    const members = { len: length, data_len: outside, head: this.#addressOf(head), data: this.#addressOf(head + headroom), end: shared - head }
    for (const [member, value] of Object.entries(members)) this.setBuffer(at, member, value)
    this.#set('skb_shared_info', shared, 'nr_frags', BigInt(inPages.length))
    for (const [i, bytes] of inPages.entries()) this.#addPiece(shared, i, bytes)
    const hanging = list.map((buffer) => this.addBuffer(buffer))
    this.#set('skb_shared_info', shared, 'frag_list', hanging[0] === undefined ? 0n : this.#addressOf(hanging[0]))
    for (const [i, one] of hanging.entries()) this.setBuffer(one, 'next', hanging[i + 1] === undefined ? 0n : this.#addressOf(hanging[i + 1] as number))
    return at
  }

  #addPiece(shared: number, index: number, bytes: Uint8Array): void {
    const at = this.#allocate(bytes.length)
    this.ram.set(bytes, at)
    const piece = shared + this.#offsetOf('skb_shared_info', `frags[${index}]`)
    // Of a large page, the first one is named.
    const page = Math.max(0, Math.floor(at / pageBytes) - (index % 2))
    this.#set('bio_vec', piece, 'bv_page', vmemmap + BigInt(page * this.#sizeOf('page')))
    this.#set('bio_vec', piece, 'bv_offset', BigInt(at - page * pageBytes))
    this.#set('bio_vec', piece, 'bv_len', BigInt(bytes.length))
  }

  #addList(at: number, queue: string, buffers: readonly BuiltBuffer[]): void {
    const head = this.#addressOf(at + this.#offsetOf('tcp_sock', `${sock}.${queue}`))
    const built = buffers.map((buffer) => this.addBuffer(buffer))
    const addresses = [head, ...built.map((one) => this.#addressOf(one)), head]
    this.setSocket(at, `${sock}.${queue}.next`, addresses[1] as bigint)
    this.setSocket(at, `${sock}.${queue}.prev`, addresses.at(-2) as bigint)
    for (const [i, one] of built.entries()) {
      this.setBuffer(one, 'prev', addresses[i] as bigint)
      this.setBuffer(one, 'next', addresses[i + 2] as bigint)
    }
  }

  /** @returns address of its root */
  #addTree(buffers: readonly number[]): bigint {
    const middle = buffers.length >> 1
    const root = buffers[middle]
    if (root === undefined) return 0n
    this.setBuffer(root, 'rbnode.rb_left', this.#addTree(buffers.slice(0, middle)))
    this.setBuffer(root, 'rbnode.rb_right', this.#addTree(buffers.slice(middle + 1)))
    return this.#addressOf(root + this.#offsetOf('sk_buff', 'rbnode'))
  }

  #link(at: number): void {
    const bucket = this.#hash + 8 * (this.#sockets++ % buckets)
    const node = this.#offsetOf('tcp_sock', `${sock}.__sk_common.skc_nulls_node`)
    this.#view.setBigUint64(at + node, this.#view.getBigUint64(bucket, true), true)
    this.#view.setBigUint64(bucket, this.#addressOf(at + node), true)
  }

  #allocate(bytes: number): number {
    const at = this.#next
    this.#next = Math.ceil((at + bytes) / 64) * 64
    if (this.#next > this.ram.length) throw new Error('no RAM left')
    return at
  }

  #addressOf(at: number): bigint {
    return base + BigInt(at - firstPage * pageBytes)
  }

  #offsetOf(structure: string, path: string): number {
    const member = this.#host.types.member(structure, path)
    if (member === undefined) throw new Error(`no ${structure}.${path}`)
    return member.offset
  }

  #sizeOf(structure: string): number {
    const { types } = this.#host
    return types.sizeOf(types.find(structure)?.id ?? 0)
  }

  #set(structure: string, start: number, path: string, value: bigint): void {
    writeMember(this.#view, this.#host.types, { structure, start, path }, value)
  }
}

const bytesIn = ({ linear, pages: inPages = [], list = [] }: BuiltBuffer): number =>
  (linear?.length ?? 0) + inPages.reduce((sum, { length }) => sum + length, 0) + list.reduce((sum, buffer) => sum + bytesIn(buffer), 0)
