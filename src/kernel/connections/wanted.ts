/** Which connections are wanted: by the address and the port of their own end. */
import type { TcpEndpoint } from '../../recovery/tcp/connection.js'
import type { KernelObject } from '../kernel-object.js'
import type { SocketType } from '../views/socket-tables.js'

export interface WantedConnections {
  /** Of 4 or 16 bytes in network order; one of IPv6 that stands for IPv4 is taken as that. */
  readonly addresses: readonly Uint8Array[]
  /** Default: all. */
  readonly ports?: readonly number[]
}

export interface Endpoints {
  readonly local: TcpEndpoint
  readonly remote: TcpEndpoint
}

const families = { ipv4: 2, ipv6: 10 } as const

const isMapped = (address: Uint8Array): boolean => address.length === 16 && address[10] === 0xff && address[11] === 0xff && address.subarray(0, 10).every((byte) => byte === 0)
/** What an IPv6 socket calls `::ffff:10.0.0.9` is 10.0.0.9 to its peer. */
const plain = (address: Uint8Array): Uint8Array => (isMapped(address) ? address.subarray(12) : address)
const keyOf = (address: Uint8Array): string => address.join()

export class Wanted {
  readonly #addresses: ReadonlySet<string>
  readonly #ports: ReadonlySet<number> | undefined
  readonly #common: SocketType['common']

  constructor({ addresses, ports }: WantedConnections, { common }: SocketType) {
    this.#addresses = new Set(addresses.map((address) => keyOf(plain(address))))
    this.#ports = ports && new Set(ports)
    this.#common = common
  }

  /** @returns undefined where it is another's, and `unknown` where it is no socket of IPv4 or IPv6 */
  endpointsOf(socket: KernelObject): Endpoints | 'unknown' | undefined {
    if (this.#ports?.has(socket.number(this.#common.skc_num)) === false) return undefined
    const endpoints = endpointsOf(socket, this.#common)
    if (endpoints === undefined) return 'unknown'
    return this.#addresses.has(keyOf(endpoints.local.address)) ? endpoints : undefined
  }
}

/** @returns undefined of what is neither IPv4 nor IPv6 */
export function endpointsOf(socket: KernelObject, common: SocketType['common']): Endpoints | undefined {
  const family = socket.number(common.skc_family)
  const hasIpv6 = socket.selection.has(common.skc_v6_rcv_saddr) && socket.selection.has(common.skc_v6_daddr)
  if (family !== families.ipv4 && !(family === families.ipv6 && hasIpv6)) return undefined
  const isIpv6 = family === families.ipv6
  const port = socket.number(common.skc_dport)
  return {
    local: { address: plain(socket.bytes(isIpv6 ? common.skc_v6_rcv_saddr : common.skc_rcv_saddr)).slice(), port: socket.number(common.skc_num) },
    // As it is on the wire: the other byte first.
    remote: { address: plain(socket.bytes(isIpv6 ? common.skc_v6_daddr : common.skc_daddr)).slice(), port: ((port & 0xff) << 8) | (port >> 8) },
  }
}
