/**
 * Restoring TCP connections on this machine: sockets in the middle of the connections that a dead kernel had.
 *
 * The order in which no packet of a client is ever answered by a reset: restore all, take their addresses and announce them, activate.
 * Until the address is taken, what clients send to it is not for this machine; from then on a socket stands for each.
 */
import { networkInterfaces } from 'node:os'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { CallFailed, NativeTcpConnection, NetworkAddon } from '../../native/network.js'
import { parseInterfaceAddress } from '../addresses/interface-address.js'
import { connectionName, endpointName, type ResetReason, type TcpConnection } from './connection.js'
import { checkConnection, unmapped } from './valid-connection.js'

type Network = Pick<NetworkAddon, 'restoreConnections' | 'activateConnections' | 'resetConnection' | 'closeDescriptor'>

export interface RestoreOptions {
  readonly network: Network
  readonly connections: readonly TcpConnection[]
  /** Is the address (4 or 16 bytes) one of this machine already? By default its interfaces are asked. */
  readonly isLocal?: (address: Uint8Array) => boolean
}

export interface RefusedConnection {
  readonly connection: TcpConnection
  readonly reason: ResetReason
  readonly error: BackdoorsError
}

export interface Restored {
  readonly restored: readonly RestoredSocket[]
  readonly refused: readonly RefusedConnection[]
}

/**
 * How much later than the dead kernel's clock this one's begins, in milliseconds. A client drops what seems older than what it has
 * seen (RFC 7323, 5), and nobody knows whether the clock was read before the last packet was sent.
 */
const timestampMarginMs = 100

/** A socket under repair, or one that lives; whoever takes its descriptor closes it. */
export class RestoredSocket {
  readonly connection: TcpConnection
  readonly #network: Network
  #descriptor: number | undefined

  /** @param descriptor is this object's from now on */
  constructor(network: Network, connection: TcpConnection, descriptor: number) {
    this.#network = network
    this.connection = connection
    this.#descriptor = descriptor
  }

  /** Still this object's. @throws BackdoorsError CLOSED */
  get descriptor(): number {
    if (this.#descriptor === undefined) throw new BackdoorsError('CLOSED', `The socket of ${connectionName(this.connection)} is closed, or somebody else's.`)
    return this.#descriptor
  }

  get isOpen(): boolean {
    return this.#descriptor !== undefined
  }

  /** Gives the descriptor away, for example to a `net.Socket` of this process. @throws BackdoorsError CLOSED */
  take(): number {
    const descriptor = this.descriptor
    this.#descriptor = undefined
    return descriptor
  }

  /** Under repair the socket goes without a word; once it lives, as any does, unless another process has it, too. Idempotent. */
  close(): void {
    if (this.#descriptor === undefined) return
    this.#network.closeDescriptor(this.take())
  }

  /** Tells the client by a reset that the connection is over, under repair or not, and closes it. Idempotent. @throws BackdoorsError SYSTEM_CALL_FAILED */
  reset(): void {
    if (this.#descriptor === undefined) return
    this.#network.resetConnection(this.take())
  }
}

/**
 * Restores each connection that can be; of those that are refused, nothing is left open. Nothing is sent yet.
 *
 * @example
 * const { restored, refused } = restoreConnections({ network: networkAddon(), connections })
 * addresses.take('b')
 * const { activated } = activateConnections(networkAddon(), restored)
 */
export function restoreConnections({ network, connections, isLocal = addressesOfInterfaces() }: RestoreOptions): Restored {
  const refused: RefusedConnection[] = []
  const sound = connections.filter((connection) => {
    try {
      checkConnection(connection)
      if (isLocal(unmapped(connection.local).address)) throw alreadyLocal(connection)
      return true
    } catch (error) {
      if (!isBackdoorsError(error)) throw error
      refused.push({ connection, reason: error.code === 'KERNEL_DATA_CORRUPT' ? 'garbage' : 'address-taken', error })
      return false
    }
  })
  const restored: RestoredSocket[] = []
  try {
    for (const batch of batchesOf(sound)) {
      const results = network.restoreConnections(batch.map(forKernel))
      for (const [index, connection] of batch.entries()) {
        const result = results[index]
        if (result !== undefined && 'descriptor' in result) restored.push(new RestoredSocket(network, connection, result.descriptor))
        else refused.push(refusalOf(connection, result))
      }
    }
  } catch (error) {
    abandonConnections(restored)
    throw error
  }
  return { restored, refused }
}

/** What one call is given it copies: of all queues together, the copy could take half a gigabyte more. In bytes. */
const batchBytes = 16 << 20

/** So many that their queues have `batchBytes` together, and one at least. */
function* batchesOf(connections: readonly TcpConnection[]): Generator<readonly TcpConnection[]> {
  let [from, bytes] = [0, 0]
  for (const [i, { unread, unacknowledged }] of connections.entries()) {
    const length = unread.length + unacknowledged.length
    if (i > from && bytes + length > batchBytes) {
      yield connections.slice(from, i)
      ;[from, bytes] = [i, 0]
    }
    bytes += length
  }
  if (from < connections.length) yield connections.slice(from)
}

/**
 * Lets restored connections live; to be called when their addresses are this machine's. One that cannot is closed, and refused. A
 * second call is harmless.
 */
export function activateConnections(network: Network, restored: readonly RestoredSocket[]): { activated: readonly RestoredSocket[]; refused: readonly RefusedConnection[] } {
  const open = restored.filter(({ isOpen }) => isOpen)
  const results = network.activateConnections(open.map(({ descriptor }) => descriptor))
  const refused = open.flatMap((each, index) => {
    const failed = results[index]
    if (failed === undefined) return []
    each.close()
    return [refusalOf(each.connection, failed)]
  })
  return { activated: open.filter(({ isOpen }) => isOpen), refused }
}

/**
 * Each doubles the time that a client waits: six make 200 ms 12.8 s, and a hint too many does nothing. Linux waits 200 ms at the least,
 * and a minute or two at the most.
 */
const mostBackOffs = 6
/** As many as `resendSent` sends. */
const mostSegments = 10
const nothing = new Uint8Array()
/** What every host takes (RFC 9293, 3.7.1). */
const leastMss = 536

/**
 * Lets clients whose requests were lost send them again now, and not when their backed-off time-outs end (RFC 6069, which Linux follows):
 * at once where the first time-out, which is not backed off, is over since they last tried; else when it is. To be called once the
 * connections live. It is a courtesy: what fails is told, and costs nothing.
 * @returns the failure, if there was one (CAP_NET_RAW is needed)
 */
export function hintResend(network: Pick<NetworkAddon, 'hintResend'>, activated: readonly RestoredSocket[]): BackdoorsError | undefined {
  return notSent(network.hintResend(activated.map(({ connection }) => withoutQueues(connection)), mostBackOffs), 'Clients could not be told to send again')
}

/**
 * Sends clients once more what the dead machine had sent and they have not acknowledged, ten segments at the most: the kernel would do so
 * at its time-out for a new connection, in a second or later. Otherwise as `hintResend`.
 */
export function resendSent(network: Pick<NetworkAddon, 'resendSent'>, activated: readonly RestoredSocket[]): BackdoorsError | undefined {
  return notSent(network.resendSent(activated.flatMap(({ connection }) => withSegmentsOnly(connection))), 'What had been sent could not be sent again')
}

/** No window reaches from one to the other (RFC 7323, 2.3). */
const farApart = [0, 2 ** 31] as const

/**
 * Has this machine's kernel reset connections that it has no sockets for. Their clients may wait for an answer and never say a word again, and
 * nobody knows for certain where they stand: so each is asked by two segments without data, one of which is out of its window at least. It answers
 * where it stands, and the kernel answers that by a reset of the very sequence number. To be called once their addresses are here and all others live.
 * @returns the failure, if there was one (CAP_NET_RAW is needed)
 */
export function resetOthers(network: Pick<NetworkAddon, 'askPeers'>, others: readonly Pick<TcpConnection, 'local' | 'remote'>[]): BackdoorsError | undefined {
  return notSent(network.askPeers(others.flatMap((ends) => farApart.map((sequence) => emptyAt(ends, sequence)))), 'Clients whose connections are not continued could not be told so')
}

/** Of one whose numbers are not known. */
const emptyAt = ({ local, remote }: Pick<TcpConnection, 'local' | 'remote'>, sequence: number): NativeTcpConnection => ({
  local: unmapped(local), remote: unmapped(remote), rcvNxt: 0, sndUna: sequence, sndNxt: sequence, unread: nothing, unacknowledged: nothing,
  options: { mssClamp: leastMss, windowScale: undefined, sack: false, timestamp: undefined }, window: { sndWl1: 0, sndWnd: 0, maxWindow: 0, rcvWnd: 0, rcvWup: 0 },
})

function notSent(failed: CallFailed | undefined, doing: string): BackdoorsError | undefined {
  if (failed === undefined) return undefined
  const { call, errno, errnoName } = failed
  return new BackdoorsError('SYSTEM_CALL_FAILED', `${doing}: ${call}: ${errnoName}.`, { call, errno, errnoName })
}

/** Gives restored connections up without a word: the recovery has been abandoned, and somebody else may go on with them. Idempotent. */
export function abandonConnections(restored: readonly RestoredSocket[]): void {
  for (const each of restored) each.close()
}

function refusalOf(connection: TcpConnection, failed: CallFailed | undefined): RefusedConnection {
  const { call, errno, errnoName } = failed ?? { call: 'socket', errno: 0, errnoName: 'nothing' }
  const message = `The connection ${connectionName(connection)} could not be restored: ${call}: ${errnoName}.`
  return { connection, reason: reasonOf(errnoName), error: new BackdoorsError('SYSTEM_CALL_FAILED', message, { call, errno, errnoName }) }
}

function reasonOf(errnoName: string): ResetReason {
  if (errnoName === 'EPERM' || errnoName === 'EACCES') return 'not-permitted'
  // Linux says of a pair of ends that is in use EADDRNOTAVAIL when connecting, and EADDRINUSE when binding.
  return errnoName === 'EADDRNOTAVAIL' || errnoName === 'EADDRINUSE' ? 'port-in-use' : 'not-restored'
}

const alreadyLocal = ({ local }: TcpConnection): BackdoorsError =>
  new BackdoorsError('ANNOUNCE_FAILED', `The address of ${endpointName(local)} is on this machine already, so that clients may have been refused before their connections were restored.`)

function forKernel(connection: TcpConnection): NativeTcpConnection {
  const { timestamp } = connection.options
  // The lowest bit would choose microseconds (TCP_TIMESTAMP, since Linux 6.7).
  const goOnFrom = timestamp === undefined ? undefined : ((timestamp + timestampMarginMs + 1) & ~1) >>> 0
  return { ...connection, local: unmapped(connection.local), remote: unmapped(connection.remote), options: { ...connection.options, timestamp: goOnFrom } }
}

/** What is passed is copied: of a message about a connection, which quotes a header, no queue. */
const withoutQueues = (connection: TcpConnection): NativeTcpConnection => ({ ...forKernel(connection), sndUna: connection.sndNxt, unread: nothing, unacknowledged: nothing })

/** As many segments as are sent again, of what was sent; nothing where nothing was. */
function withSegmentsOnly(connection: TcpConnection): NativeTcpConnection[] {
  const { sndUna, sndNxt, unacknowledged, options: { mssClamp } } = connection
  const length = Math.min((sndNxt - sndUna) >>> 0, mostSegments * mssClamp)
  if (length === 0) return []
  return [{ ...forKernel(connection), sndNxt: (sndUna + length) >>> 0, unread: nothing, unacknowledged: unacknowledged.subarray(0, length) }]
}

/** Those that this machine has at the moment. */
export function addressesOfInterfaces(): (address: Uint8Array) => boolean {
  const present = new Set(Object.values(networkInterfaces()).flatMap((each) => each ?? []).map(({ cidr }) => parseInterfaceAddress(cidr ?? '')?.bytes.join()))
  return (address) => present.has(address.join())
}
