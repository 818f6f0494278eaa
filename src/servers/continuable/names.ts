/** The name of a connection, from what `net` says of its ends. */
import { isIPv4 } from 'node:net'
import { connectionName } from '../../recovery/tcp/connection.js'

const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** As `net.Socket` has them. */
export interface SocketEnds {
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
}

/** As `connectionName` has it; an IPv4 address that is mapped into IPv6 is the IPv4 address. Undefined where the socket has no ends. */
export function nameOfSocket({ localAddress, localPort, remoteAddress, remotePort }: SocketEnds): string | undefined {
  if (localAddress === undefined || remoteAddress === undefined || localPort === undefined || remotePort === undefined) return undefined
  return connectionName({ local: { address: addressBytes(localAddress), port: localPort }, remote: { address: addressBytes(remoteAddress), port: remotePort } })
}

/** @param text as Node.js gives it: 4 numbers, or up to 8 groups with one gap and perhaps 4 numbers at their end and a zone */
export function addressBytes(text: string): Uint8Array {
  const plain = mapped.exec(text)?.[1] ?? text
  if (isIPv4(plain)) return Uint8Array.from(plain.split('.'), Number)
  const [before = '', after] = (plain.split('%')[0] as string).split('::')
  const head = groups(before)
  const tail = groups(after ?? '')
  const all = after === undefined ? head : [...head, ...new Array<number>(Math.max(0, 8 - head.length - tail.length)).fill(0), ...tail]
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}

function groups(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!isIPv4(group)) return [parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [(a << 8) | b, (c << 8) | d]
  })
}
