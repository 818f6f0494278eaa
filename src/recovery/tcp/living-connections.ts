/** The TCP connections that this machine has, as its kernel lists them (`/proc/net/tcp`, proc_pid_net(5)): who has one does not restore it. */
import { readFileSync } from 'node:fs'
import { connectionName, type TcpConnection, type TcpEndpoint } from './connection.js'
import { unmapped } from './valid-connection.js'

/** `TCP_LISTEN`, of include/net/tcp_states.h. */
const listening = '0A'
const line = /^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) /gm

/** The name under which `livingConnections` lists it: IPv4 is IPv4, whatever its socket. */
export const livingName = ({ local, remote }: Pick<TcpConnection, 'local' | 'remote'>): string => connectionName({ local: unmapped(local), remote: unmapped(remote) })

/** Names of all that are in this process's network namespace, under repair or not; it takes milliseconds. Of a list that cannot be read, none. */
export function livingConnections(read: (path: string) => string = (path) => readFileSync(path, 'latin1')): ReadonlySet<string> {
  return new Set(['/proc/self/net/tcp', '/proc/self/net/tcp6'].flatMap((path) => namesIn(textOf(path, read))))
}

function textOf(path: string, read: (path: string) => string): string {
  try {
    return read(path)
  } catch {
    // A kernel without IPv6 has no such list.
    return ''
  }
}

function namesIn(text: string): string[] {
  return [...text.matchAll(line)].flatMap(([, localAddress = '', localPort = '', remoteAddress = '', remotePort = '', state]) =>
    (state === listening ? [] : [livingName({ local: endpoint(localAddress, localPort), remote: endpoint(remoteAddress, remotePort) })]))
}

/** Addresses are printed as words of 32 bits, in the order of a little-endian machine's bytes. */
function endpoint(address: string, port: string): TcpEndpoint {
  const bytes = Buffer.from(address, 'hex')
  return { address: bytes.length % 4 === 0 ? bytes.swap32() : bytes, port: Number.parseInt(port, 16) }
}
