/**
 * A TCP connection as a kernel had it: what has to be known of it to go on with it on another machine. Plain values, with which neither
 * the kernel that they come from nor the one that they are for has anything to do.
 *
 * Sequence numbers are whole numbers below 2^32 and go round; all are as `struct tcp_sock` (include/linux/tcp.h) has them, whose names
 * they bear.
 */

/** One end: an address of 4 or 16 bytes in network order, and a port. */
export interface TcpEndpoint {
  readonly address: Uint8Array
  readonly port: number
}

/** What both ends agreed to when they connected, and what depends on it. */
export interface TcpOptions {
  /** Largest segment that the peer takes, in bytes (`rx_opt.mss_clamp`). */
  readonly mssClamp: number
  /** Shifts of the windows, 0 to 14; undefined where the ends did not agree to scale them. */
  readonly windowScale: { readonly send: number; readonly receive: number } | undefined
  readonly sack: boolean
  /**
   * Undefined without timestamps; else the newest that the dead kernel may have sent, in milliseconds of its own clock for them.
   * (One that counts microseconds, which Linux can since 6.7, is not continued.)
   */
  readonly timestamp: number | undefined
}

/** As `struct tcp_repair_window` (include/uapi/linux/tcp.h) has it. */
export interface TcpWindow {
  readonly sndWl1: number
  readonly sndWnd: number
  readonly maxWindow: number
  readonly rcvWnd: number
  readonly rcvWup: number
}

export interface TcpConnection {
  readonly local: TcpEndpoint
  readonly remote: TcpEndpoint
  /** The next byte that the peer is expected to send. */
  readonly rcvNxt: number
  /** The first byte that the peer has not acknowledged. */
  readonly sndUna: number
  /** The next byte that would be sent: of `unacknowledged`, what comes after it never was. */
  readonly sndNxt: number
  /** Received in order and not yet read by the server: it ends at `rcvNxt`. */
  readonly unread: Uint8Array
  /** Written by the server and not yet acknowledged, sent or not: it begins at `sndUna`. */
  readonly unacknowledged: Uint8Array
  /** Bytes of the stream that the server had read since this kernel had the connection: `bytes_received` less `unread`. */
  readonly read: number
  /**
   * Bytes of the stream that the server had written since: `bytes_acked` and `unacknowledged`. Of a connection that this end had
   * opened it is one more: Linux counts the SYN as acknowledged.
   */
  readonly written: number
  readonly options: TcpOptions
  readonly window: TcpWindow
}

/**
 * Why a connection is not continued but reset, or left alone. Each is counted under this name and listed in docs/connections.md.
 *
 * Found in the dead kernel: `not-established` (it was being opened, or either end had closed it), `in-use` (the panic caught the socket
 * half changed), `garbage` (its memory contradicts itself), `unreadable`.
 * Met on this machine, or in its network: `address-taken`, `port-in-use`, `not-permitted`, `not-restored` (the kernel refused it for another reason),
 * `address-answered` (another machine speaks for its address).
 * Said by the server: `no-server` (none continues its port), `no-record` (its state was never committed), `input-missing` (bytes were read
 * and not committed), `output-unknown` (bytes were sent that were not committed), `not-repeatable` (a request was begun that must not run
 * twice), `output-differs` (it was made anew, and was not the same), `too-large` (more was under way than is kept), `not-continuable`
 * (the server gave its connection up), `no-answer` (the server did not say what became of it), `replay-silent` (what was to be made anew did
 * not come). Records have their places in this list: new ones come last.
 */
export const resetReasons = [
  'not-established', 'in-use', 'garbage', 'unreadable',
  'address-taken', 'port-in-use', 'not-permitted', 'not-restored',
  'no-server', 'no-record', 'input-missing', 'output-unknown', 'not-repeatable', 'output-differs', 'too-large', 'not-continuable', 'no-answer', 'replay-silent',
  'address-answered',
] as const
export type ResetReason = (typeof resetReasons)[number]

/** Names a connection over the whole cluster: `10.0.0.9:7480 10.0.0.50:40712`, IPv6 addresses as 8 groups of hexadecimal digits in brackets. */
export const connectionName = ({ local, remote }: Pick<TcpConnection, 'local' | 'remote'>): string => `${endpointName(local)} ${endpointName(remote)}`

export function endpointName({ address, port }: TcpEndpoint): string {
  if (address.length === 4) return `${address.join('.')}:${port}`
  const groups = Array.from({ length: 8 }, (_, i) => (((address[2 * i] ?? 0) << 8) | (address[2 * i + 1] ?? 0)).toString(16))
  return `[${groups.join(':')}]:${port}`
}
