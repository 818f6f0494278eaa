/** Addresses and states of sockets, as `ss` prints them. */

/** `include/net/tcp_states.h`, by its numbers; UDP has `ESTAB` and `UNCONN` of them. */
const states = ['', 'ESTAB', 'SYN-SENT', 'SYN-RECV', 'FIN-WAIT-1', 'FIN-WAIT-2', 'TIME-WAIT', 'UNCONN', 'CLOSE-WAIT', 'LAST-ACK', 'LISTEN', 'CLOSING', 'SYN-RECV', 'UNCONN'] as const
export type SocketState = Exclude<(typeof states)[number], ''>

/** Undefined where a socket can be in no such state. */
export function socketState(number: number): SocketState | undefined {
  const state = states[number]
  return state === '' ? undefined : state
}

export interface Endpoint {
  /** IPv4, or IPv6 in its shortest form. */
  readonly address: string
  /** 0 where there is none. */
  readonly port: number
}

export const ipv4Text = (bytes: Uint8Array): string => `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`

/** RFC 5952; addresses that stand for IPv4 end as those do. */
export function ipv6Text(bytes: Uint8Array): string {
  const isMapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  if (isMapped) return `::ffff:${ipv4Text(bytes.subarray(12))}`
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2] as number) << 8) | (bytes[i * 2 + 1] as number))
  let longest = { from: 0, length: 1 }
  for (let from = 0; from < 8; from++) {
    let length = 0
    while (from + length < 8 && groups[from + length] === 0) length++
    if (length > longest.length) longest = { from, length }
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':')
  if (longest.length < 2) return hex(groups)
  return `${hex(groups.slice(0, longest.from))}::${hex(groups.slice(longest.from + longest.length))}`
}

/** @param isOpen an IPv6 socket that takes IPv4 as well, which `ss` shows at the unspecified address as `*` */
export function endpointText({ address, port }: Endpoint, isOpen: boolean): string {
  const host = address === '::' && isOpen ? '*' : address.includes(':') ? `[${address}]` : address
  return `${host}:${port === 0 ? '*' : port}`
}
