/** Addresses with their prefix lengths, as `ip address` writes them: text to bytes. */
import { isIPv4, isIPv6 } from 'node:net'

export interface InterfaceAddress {
  /** As it was written, e.g. `10.0.0.50/24`. */
  readonly text: string
  /** 4 bytes for IPv4, 16 for IPv6, in network order. */
  readonly bytes: Uint8Array
  readonly prefixLength: number
}

const ipv4Bytes = 4
const ipv6Bytes = 16

/**
 * @returns undefined for what is no address of one machine with a prefix length: no zone, no multicast or unspecified
 * address, no IPv4 in the clothes of IPv6
 */
export function parseInterfaceAddress(text: string): InterfaceAddress | undefined {
  const [, address, prefix] = /^([0-9a-fA-F.:]+)\/(0|[1-9][0-9]{0,2})$/.exec(text) ?? []
  if (address === undefined) return undefined
  const bytes = isIPv4(address) ? parseIpv4(address) : isIPv6(address) ? parseIpv6(address) : undefined
  const prefixLength = Number(prefix)
  if (bytes === undefined || prefixLength < 1 || prefixLength > bytes.length * 8 || !isOfOneMachine(bytes)) return undefined
  return { text, bytes, prefixLength }
}

const parseIpv4 = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number))

/** Of text that is known to be an IPv6 address (RFC 4291, 2.2). */
function parseIpv6(text: string): Uint8Array {
  // The last 32 bits may be written as an IPv4 address.
  const [, before = text, dotted] = /^(.*:)([0-9.]+\.[0-9.]+)$/.exec(text) ?? []
  const tail = dotted === undefined ? [] : [...parseIpv4(dotted)]
  const [left = '', right] = (dotted === undefined || before.endsWith('::') ? before : before.slice(0, -1)).split('::')
  const bytesOf = (groups: string): number[] => groups.split(':').filter((group) => group !== '').flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff])
  const head = bytesOf(left)
  const rest = [...bytesOf(right ?? ''), ...tail]
  const gap = Array.from({ length: ipv6Bytes - head.length - rest.length }, () => 0)
  return Uint8Array.from([...head, ...gap, ...rest])
}

function isOfOneMachine(bytes: Uint8Array): boolean {
  const first = bytes[0] as number
  // Multicast and what lies above it, 0.0.0.0/8, and loopback.
  if (bytes.length === ipv4Bytes) return first > 0 && first < 224 && first !== 127
  const leading = bytes.findIndex((byte) => byte !== 0)
  const isMapped = leading === 10 && bytes[10] === 0xff && bytes[11] === 0xff
  const isLoopback = leading === 15 && bytes[15] === 1
  return first !== 0xff && leading >= 0 && !isMapped && !isLoopback
}
