/**
 * The typed statement of the addon's *network* target (`addon/network/`): addresses of network interfaces by rtnetlink,
 * whole Ethernet frames by packet sockets, TCP connections by TCP_REPAIR, and descriptors over unix sockets. What has no `close` is a
 * function that leaves nothing open but the descriptors that it returns.
 *
 * Each throws INVALID_ARGUMENT, or SYSTEM_CALL_FAILED with `call`, `errno` and `interface` (ENODEV: there is no such
 * interface; EPERM: CAP_NET_ADMIN or CAP_NET_RAW is not held).
 */
import type { AddonBase } from './addon-base.js'

export interface NetworkInterface {
  readonly index: number
  readonly isUp: boolean
  /** Does it take Ethernet frames? Loopback and tunnels do not. */
  readonly isEthernet: boolean
  /** 6 bytes; zeros or nonsense where it is no Ethernet interface. */
  readonly hardwareAddress: Uint8Array
}

/** A connection as src/recovery/tcp/connection.ts has it, with all that this target reads of it. */
export interface NativeTcpConnection {
  readonly local: NativeTcpEndpoint
  readonly remote: NativeTcpEndpoint
  readonly rcvNxt: number
  readonly sndUna: number
  readonly sndNxt: number
  readonly unread: Uint8Array
  readonly unacknowledged: Uint8Array
  readonly options: {
    readonly mssClamp: number
    readonly windowScale: { readonly send: number; readonly receive: number } | undefined
    readonly sack: boolean
    /** What this kernel's clock for timestamps goes on from; an odd number would mean microseconds to Linux 6.7 and later. */
    readonly timestamp: number | undefined
  }
  readonly window: { readonly sndWl1: number; readonly sndWnd: number; readonly maxWindow: number; readonly rcvWnd: number; readonly rcvWup: number }
}

export interface NativeTcpEndpoint {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  readonly port: number
}

export interface CallFailed {
  readonly call: string
  readonly errno: number
  readonly errnoName: string
}

/** Whose the descriptor is that it holds, has to close it. */
export type RestoredOrNot = { readonly descriptor: number } | CallFailed

export interface ChannelListeners {
  /** The descriptors, which this process did not have before, are the listener's to close. */
  readonly onMessage: (bytes: Uint8Array, descriptors: number[]) => void
  /** What was queued has left. */
  readonly onDrain: () => void
  /** The peer has closed it, or it failed: errno, or 0. Not called for `close()`. */
  readonly onClose: (errno: number) => void
}

/** A connected SOCK_SEQPACKET unix socket. Not garbage before it is closed. */
export interface NativeDescriptorChannel {
  /**
   * At once, or queued with copies of the descriptors: they stay the caller's, who may close them when it returns.
   * @param bytes 1 to 65,536
   * @param descriptors at most 64
   * @returns false where more should wait for `onDrain`
   * @throws CLOSED, QUEUE_FULL, INVALID_ARGUMENT, SYSTEM_CALL_FAILED
   */
  send(bytes: Uint8Array, descriptors: readonly number[]): boolean
  setKeepsAlive(keeps: boolean): void
  /** Idempotent. What is queued is lost. */
  close(): void
}

/** Its file is there, for its owner only (0600), until it is closed. Others than the same user and root are turned away. */
export interface NativeDescriptorListener {
  setKeepsAlive(keeps: boolean): void
  /** Idempotent. */
  close(): void
}

/** Keeps the process going until it is closed. */
export interface NativeNeighbourListener {
  /** Idempotent. */
  close(): void
}

export interface NetworkAddon extends AddonBase {
  /** By the path of a socket, or around a connected descriptor, which is the channel's from then on. @throws SYSTEM_CALL_FAILED */
  DescriptorChannel: new (target: string | number, listeners: ChannelListeners) => NativeDescriptorChannel
  /** @throws SYSTEM_CALL_FAILED, EADDRINUSE where a file of this name is there */
  DescriptorListener: new (path: string, onConnection: (descriptor: number) => void) => NativeDescriptorListener
  /**
   * Listens on an interface for what comes in of ARP, or of neighbour advertisements: Ethernet frames, of which the first 128 bytes are given.
   * Needs CAP_NET_RAW.
   */
  NeighbourListener: new (name: string, isIpv6: boolean, onFrame: (frame: Uint8Array) => void) => NativeNeighbourListener
  /** Needs no capability. */
  describeInterface(name: string): NetworkInterface
  /**
   * Adds an address of 4 or 16 bytes, in network order, to an interface. An IPv6 address is usable at once (IFA_F_NODAD).
   * @returns whether it is new; false where the interface has it already
   */
  addAddress(name: string, address: Uint8Array, prefixLength: number): boolean
  /** @returns whether it was there */
  removeAddress(name: string, address: Uint8Array, prefixLength: number): boolean
  /** Sends a frame as it is, from its Ethernet header on, without waiting. */
  sendFrame(name: string, frame: Uint8Array): void

  /**
   * Makes a socket in the middle of each connection. Nothing is sent, the local address need not be one of this machine, and where one fails
   * the others are restored. Each stays under repair until it is activated; closed before that, it goes without a word.
   * @returns one result for each, in their order
   */
  restoreConnections(connections: readonly NativeTcpConnection[]): RestoredOrNot[]
  /** Ends repair: each socket asks its peer where it stands. @returns undefined for each that lives, in their order */
  activateConnections(descriptors: readonly number[]): (CallFailed | undefined)[]
  /**
   * Lets the peers of these connections send again what they have sent in vain: as many ICMP messages to each, each of which takes one step
   * of a back-off back (RFC 6069). What was not sent in vain is not sent again. A peer that does not follow the standard does nothing.
   * Needs CAP_NET_RAW.
   * @param times 1 to 16
   * @returns the first failure, after the others were sent
   */
  hintResend(connections: readonly NativeTcpConnection[], times: number): CallFailed | undefined
  /**
   * Sends the first ten segments at the most of what the dead machine had sent, and seen no acknowledgement of, once more. A peer that has
   * them says so. Needs CAP_NET_RAW.
   * @returns the first failure, after the others were sent
   */
  resendSent(connections: readonly NativeTcpConnection[]): CallFailed | undefined
  /**
   * Sends each peer a segment without data, at `sndNxt`: one that this is out of the window of says where it stands (RFC 9293, 3.10.7.4).
   * Needs CAP_NET_RAW.
   * @returns the first failure, after the others were sent
   */
  askPeers(connections: readonly NativeTcpConnection[]): CallFailed | undefined
  /** Ends a connection by a reset, whatever other descriptors there are of it, and closes this one, also where it throws. */
  resetConnection(descriptor: number): void
  /** Never of a descriptor that is closed already: its number may be somebody else's. */
  closeDescriptor(descriptor: number): void
}
