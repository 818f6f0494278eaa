/** What a connection must fulfil before a kernel is asked to go on with it: it comes from a dead machine's memory, which may hold anything. */
import { BackdoorsError } from '../../errors.js'
import { connectionName, type TcpConnection, type TcpEndpoint } from './connection.js'

/** `MAX_TCP_WINDOW` shifted by the largest scale (RFC 7323, 2.3). */
const maxWindowBytes = 0xffff * 2 ** 14
const maxScale = 14
/** More than Linux lets a socket hold by default (`tcp_rmem`, `tcp_wmem`), and a bound for what is copied. */
const maxQueueBytes = 64 << 20

const isWhole = (value: unknown, most: number): value is number => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most
const isSequence = (value: unknown): boolean => isWhole(value, 0xffff_ffff)
/** How far `b` lies after `a`, round the end of the numbers; negative where it lies before. */
const distance = (a: number, b: number): number => (b - a) | 0

const isBytes = (value: unknown, most: number): boolean => value instanceof Uint8Array && value.length <= most
const isScale = (scale: { send: number; receive: number } | undefined): boolean => scale === undefined || (isWhole(scale.send, maxScale) && isWhole(scale.receive, maxScale))

function isEndpoint(endpoint: TcpEndpoint): boolean {
  if (!(endpoint.address instanceof Uint8Array) || !isWhole(endpoint.port, 0xffff) || endpoint.port === 0) return false
  const { address } = unmapped(endpoint)
  const [first = 0] = address
  // Neither everybody nor nobody.
  if (address.length === 4) return first !== 0 && first < 224
  return address.length === 16 && first !== 0xff && address.some((byte) => byte !== 0)
}

/** An IPv4 connection of a server that listens for both kinds (RFC 4291, 2.5.5.2) goes on as what it is. */
export function unmapped({ address, port }: TcpEndpoint): TcpEndpoint {
  const isMapped = address.length === 16 && address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff
  return isMapped ? { address: address.subarray(12), port } : { address, port }
}

/** Each with what it is that does not hold; the kernel checks the windows likewise (`tcp_repair_set_window`). */
const rules: readonly (readonly [field: string, holds: (connection: TcpConnection) => boolean])[] = [
  ['local', ({ local }) => isEndpoint(local)],
  ['remote', ({ local, remote }) => isEndpoint(remote) && unmapped(remote).address.length === unmapped(local).address.length],
  ['rcvNxt', ({ rcvNxt }) => isSequence(rcvNxt)],
  ['sndUna', ({ sndUna }) => isSequence(sndUna)],
  ['unread', ({ unread }) => isBytes(unread, maxQueueBytes)],
  ['unacknowledged', ({ unacknowledged }) => isBytes(unacknowledged, maxQueueBytes)],
  ['sndNxt', ({ sndUna, sndNxt, unacknowledged }) => isSequence(sndNxt) && distance(sndUna, sndNxt) >= 0 && distance(sndUna, sndNxt) <= unacknowledged.length],
  ['options.mssClamp', ({ options }) => isWhole(options.mssClamp, 0xffff) && options.mssClamp > 0],
  ['options.windowScale', ({ options }) => isScale(options.windowScale)],
  ['options.sack', ({ options }) => typeof options.sack === 'boolean'],
  ['options.timestamp', ({ options }) => options.timestamp === undefined || isSequence(options.timestamp)],
  ['window.sndWl1', ({ window, rcvNxt }) => isSequence(window.sndWl1) && distance(window.sndWl1, rcvNxt + window.rcvWnd) >= 0],
  ['window.sndWnd', ({ window }) => isWhole(window.sndWnd, maxWindowBytes)],
  ['window.maxWindow', ({ window }) => isWhole(window.maxWindow, maxWindowBytes) && window.maxWindow >= window.sndWnd],
  ['window.rcvWnd', ({ window }) => isWhole(window.rcvWnd, maxWindowBytes)],
  ['window.rcvWup', ({ window, rcvNxt }) => isSequence(window.rcvWup) && distance(window.rcvWup, rcvNxt) >= 0],
]

/** @throws BackdoorsError KERNEL_DATA_CORRUPT, with the `field` that does not hold */
export function checkConnection(connection: TcpConnection): void {
  const broken = rules.find(([, holds]) => !holds(connection))
  if (broken === undefined) return
  const [field] = broken
  const name = field === 'local' || field === 'remote' ? 'A connection' : `The connection ${connectionName(connection)}`
  throw new BackdoorsError('KERNEL_DATA_CORRUPT', `${name} contradicts itself: its ${field} cannot be.`, { field })
}
