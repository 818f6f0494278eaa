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

/** Sockets of TCP: established and listening ones, and those that only wait. @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
export async function readTcpSockets(image: KernelImage, type: SocketType, faults: Faults): Promise<KernelObject[]> {
  // Sockets that listen stand in a table by their addresses since 5.19, and in one of 32 buckets before.
  const selection = new Selection(image.types, 'inet_hashinfo', ['ehash', 'ehash_mask'], ['lhash2', 'lhash2_mask', 'listening_hash'])
  const established = strideOf(image, 'inet_ehash_bucket', 'chain.first')
  const listening = strideOf(image, 'inet_listen_hashbucket', 'nulls_head.first')
  const tables: Table[] = []
  for (const info of await readAll(image, selection, await tcpTables(image, faults), faults)) {
    tables.push({ ...established, address: info.pointer('ehash'), buckets: info.number('ehash_mask') + 1 })
    if (selection.has('listening_hash')) tables.push({ ...listening, address: info.addressOf('listening_hash'), buckets: Math.floor(selection.field('listening_hash').member.length / listening.stride) })
    else if (selection.has('lhash2_mask')) tables.push({ ...listening, address: info.pointer('lhash2'), buckets: info.number('lhash2_mask') + 1 })
  }
  return await readChains(image, tables, { type, node: 'skc_nulls_node.next', faults })
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
export async function readUdpSockets(image: KernelImage, type: SocketType, faults: Faults): Promise<KernelObject[]> {
  const selection = new Selection(image.types, 'udp_table', ['hash', 'mask'])
  const slot = strideOf(image, 'udp_hslot', 'head.first')
  const tables = (await readAll(image, selection, await udpTables(image, faults), faults)).map((table): Table => ({ ...slot, address: table.pointer('hash'), buckets: table.number('mask') + 1 }))
  return await readChains(image, tables, { type, node: 'skc_node.next', faults })
}

/** The tables of the machine, and of namespaces that have their own (since 6.1 for TCP, and 6.2 for UDP). */
const tcpTables = (image: KernelImage, faults: Faults): Promise<bigint[]> => tablesOf(image, 'tcp_hashinfo', 'ipv4.tcp_death_row.hashinfo', faults)
const udpTables = (image: KernelImage, faults: Faults): Promise<bigint[]> => tablesOf(image, 'udp_table', 'ipv4.udp_table', faults)

async function tablesOf(image: KernelImage, symbol: string, member: string, faults: Faults): Promise<bigint[]> {
  const found = new Set<bigint>()
  if (image.has(symbol)) found.add(image.addressOf(symbol))
  const selection = new Selection(image.types, 'net', ['list.next'], [member])
  if (selection.has(member) && image.has('net_namespace_list')) {
    for await (const namespace of walkList(image, { head: image.addressOf('net_namespace_list'), selection, link: 'list', faults })) if (namespace.pointer(member) !== 0n) found.add(namespace.pointer(member))
  }
  // Neither is there: the error names the symbol.
  if (found.size === 0) found.add(image.addressOf(symbol))
  return [...found]
}

function strideOf(image: KernelImage, bucket: string, first: string): { stride: number; first: number } {
  const selection = new Selection(image.types, bucket, [first])
  return { stride: image.types.sizeOf(image.types.find(bucket)?.id ?? 0), first: selection.offsetOf(first) }
}

async function readChains(image: KernelImage, tables: readonly Table[], { type, node, faults }: { type: SocketType; node: 'skc_nulls_node.next' | 'skc_node.next'; faults: Faults }): Promise<KernelObject[]> {
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
    read: (addresses) => readWholeOrStart(image, type, addresses),
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
