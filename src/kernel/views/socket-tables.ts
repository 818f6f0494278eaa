/**
 * The hash tables that a kernel finds its sockets by. Each is read whole, and all chains of a table are followed at once.
 *
 * Source: include/net/inet_hashtables.h and include/net/udp.h of the Linux kernel.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { readPieces } from '../pieces.js'
import { walkChains, walkList, type Faults } from '../walks.js'

/** Buckets of one table at most: 64 MiB of them. Linux makes 524,288 where it is left to itself. */
const mostBuckets = 1 << 23

interface Table {
  readonly address: bigint
  readonly buckets: number
  /** From one bucket to the next, in bytes, and where in a bucket its first entry stands. */
  readonly stride: number
  readonly first: number
}

/** How the sockets of a protocol are read. */
export interface SocketType {
  /** All that is wanted of a socket. */
  readonly whole: Selection
  /** What all begin with, those too that only wait or are not yet whole. */
  readonly start: Selection
  /** Paths of the members of `sock_common` in it. */
  readonly common: Readonly<Record<CommonMember, string>>
}

const commonMembers = ['skc_daddr', 'skc_rcv_saddr', 'skc_dport', 'skc_num', 'skc_family', 'skc_state', 'skc_bound_dev_if', 'skc_nulls_node.next', 'skc_node.next'] as const
/** Left out of a kernel that was built without IPv6, or without namespaces. */
const optionalCommonMembers = ['skc_v6_daddr', 'skc_v6_rcv_saddr', 'skc_ipv6only', 'skc_net.net'] as const
type CommonMember = (typeof commonMembers)[number] | (typeof optionalCommonMembers)[number]

/**
 * @param structure of the protocol
 * @param sock where its `struct sock` stands in it
 * @param members that are wanted of it
 * @throws BackdoorsError KERNEL_UNSUPPORTED
 */
export function selectSockets(image: KernelImage, structure: string, sock: string, members: readonly string[], optional: readonly string[] = []): SocketType {
  const common = Object.fromEntries([...commonMembers, ...optionalCommonMembers].map((member) => [member, `${sock}.__sk_common.${member}`])) as Record<CommonMember, string>
  const [start, startOptional] = [commonMembers.map((member) => common[member]), optionalCommonMembers.map((member) => common[member])]
  return {
    whole: new Selection(image.types, structure, [...start, ...members], [...startOptional, ...optional]),
    start: new Selection(image.types, structure, start, startOptional),
    common,
  }
}

export interface TcpTablesOptions {
  /** Default: true. */
  readonly listening?: boolean
  /** Of more sockets at once than this, only `SocketType.start` is read, which tells whether they are wanted. Default: no limit. */
  readonly mostWhole?: number
}

/**
 * The tables of TCP, and how they are read: worked out once, so that at a failure nothing is looked for.
 *
 * @example
 * const tables = new TcpTables(image)
 * const sockets = await tables.read(image, selectSockets(image, 'tcp_sock', 'inet_conn.icsk_inet.sk', ['rcv_nxt']), faults)
 */
export class TcpTables {
  readonly #places: TablePlaces
  readonly #info: Selection
  readonly #established: Pick<Table, 'stride' | 'first'>
  readonly #listening: Pick<Table, 'stride' | 'first'>

  /** @throws BackdoorsError KERNEL_UNSUPPORTED */
  constructor(image: KernelImage) {
    this.#places = placesOf(image, 'tcp_hashinfo', 'ipv4.tcp_death_row.hashinfo')
    // Sockets that listen stand in a table by their addresses since 5.19, and in one of 32 buckets before.
    this.#info = new Selection(image.types, 'inet_hashinfo', ['ehash', 'ehash_mask'], ['lhash2', 'lhash2_mask', 'listening_hash'])
    this.#established = strideOf(image, 'inet_ehash_bucket', 'chain.first')
    this.#listening = strideOf(image, 'inet_listen_hashbucket', 'nulls_head.first')
  }

  /**
   * Sockets of TCP: established and listening ones, and those that only wait.
   * @param image the kernel that these tables are of, by whichever way to its memory
   * @throws what reading throws
   */
  async read(image: KernelImage, type: SocketType, faults: Faults, { listening = true, mostWhole = Infinity }: TcpTablesOptions = {}): Promise<KernelObject[]> {
    const selection = this.#info
    const tables: Table[] = []
    for (const info of await readAll(image, selection, await tablesOf(image, this.#places, faults), faults)) {
      tables.push({ ...this.#established, address: info.pointer('ehash'), buckets: info.number('ehash_mask') + 1 })
      if (!listening) continue
      const { stride } = this.#listening
      if (selection.has('listening_hash')) tables.push({ ...this.#listening, address: info.addressOf('listening_hash'), buckets: Math.floor(selection.field('listening_hash').member.length / stride) })
      else if (selection.has('lhash2_mask')) tables.push({ ...this.#listening, address: info.pointer('lhash2'), buckets: info.number('lhash2_mask') + 1 })
    }
    return await readChains(image, tables, { type, node: 'skc_nulls_node.next', faults, mostWhole })
  }
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
export async function readUdpSockets(image: KernelImage, type: SocketType, faults: Faults): Promise<KernelObject[]> {
  const selection = new Selection(image.types, 'udp_table', ['hash', 'mask'])
  const slot = strideOf(image, 'udp_hslot', 'head.first')
  const tables = (await readAll(image, selection, await tablesOf(image, placesOf(image, 'udp_table', 'ipv4.udp_table'), faults), faults)).map((table): Table => ({ ...slot, address: table.pointer('hash'), buckets: table.number('mask') + 1 }))
  return await readChains(image, tables, { type, node: 'skc_node.next', faults, mostWhole: Infinity })
}

/** Where the machine's tables are found, and those of namespaces that have their own (since 6.1 for TCP, and 6.2 for UDP). */
interface TablePlaces {
  /** Of the machine's; undefined where this kernel has none but its namespaces'. */
  readonly own: bigint | undefined
  /** Head of the list of namespaces, where they have tables. */
  readonly namespaces: bigint | undefined
  readonly selection: Selection
  readonly member: string
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function placesOf(image: KernelImage, symbol: string, member: string): TablePlaces {
  const selection = new Selection(image.types, 'net', ['list.next'], [member])
  const namespaces = selection.has(member) ? image.symbols.find('net_namespace_list')?.address : undefined
  // Where neither is there, the error names the symbol.
  return { own: namespaces === undefined ? image.addressOf(symbol) : image.symbols.find(symbol)?.address, namespaces, selection, member }
}

async function tablesOf(image: KernelImage, { own, namespaces, selection, member }: TablePlaces, faults: Faults): Promise<bigint[]> {
  const found = new Set<bigint>(own === undefined ? [] : [own])
  if (namespaces !== undefined) {
    for await (const namespace of walkList(image, { head: namespaces, selection, link: 'list', faults })) if (namespace.pointer(member) !== 0n) found.add(namespace.pointer(member))
  }
  return [...found]
}

function strideOf(image: KernelImage, bucket: string, first: string): { stride: number; first: number } {
  const selection = new Selection(image.types, bucket, [first])
  return { stride: image.types.sizeOf(image.types.find(bucket)?.id ?? 0), first: selection.offsetOf(first) }
}

interface ChainsRead {
  readonly type: SocketType
  readonly node: 'skc_nulls_node.next' | 'skc_node.next'
  readonly faults: Faults
  readonly mostWhole: number
}

async function readChains(image: KernelImage, tables: readonly Table[], { type, node, faults, mostWhole }: ChainsRead): Promise<KernelObject[]> {
  const sound = tables.filter((table) => {
    if (table.buckets <= mostBuckets && table.buckets > 0 && table.stride > 0) return true
    faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `A hash table of ${image.peer} at 0x${table.address.toString(16)} claims ${table.buckets} buckets.`, { peer: image.peer, address: table.address }))
    return false
  })
  const pieces = await readPieces(image.memory, sound.map(({ address, buckets, stride }) => ({ address, length: buckets * stride, elementBytes: stride })), faults)
  const firsts = pieces.flatMap((buckets, i) => buckets.pointers((sound[i] as Table).first, (sound[i] as Table).stride))
  const next = type.common[node]
  return await walkChains(image, {
    firsts, nodeOffset: BigInt(type.start.offsetOf(next)), next, faults,
    // An odd pointer ends a chain, and says whose it is (hlist_nulls).
    isEnd: (at) => at === 0n || (at & 1n) === 1n,
    read: (addresses) => (addresses.length > mostWhole ? image.readObjects(type.start, addresses) : readWholeOrStart(image, type, addresses)),
  })
}

/** What only waits is shorter: at the end of the RAM, nothing is behind it. */
async function readWholeOrStart(image: KernelImage, { whole, start }: SocketType, addresses: readonly bigint[]): Promise<(KernelObject | BackdoorsError)[]> {
  const found = await image.readObjects(whole, addresses)
  const failed = [...found.keys()].filter((i) => !(found[i] instanceof KernelObject))
  const short = await image.readObjects(start, failed.map((i) => addresses[i] as bigint))
  for (const [i, index] of failed.entries()) found[index] = short[i] as KernelObject | BackdoorsError
  return found
}

/** Reads structures; what cannot be read is left out and noted. */
export async function readAll(image: KernelImage, selection: Selection, addresses: readonly bigint[], faults: Faults): Promise<KernelObject[]> {
  return (await image.readObjects(selection, addresses)).filter((object): object is KernelObject => {
    if (object instanceof BackdoorsError) faults.push(object)
    return object instanceof KernelObject
  })
}
