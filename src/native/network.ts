/**
 * The typed statement of the addon's *network* target (`addon/network/`): addresses of network interfaces by rtnetlink,
 * and whole Ethernet frames by packet sockets. Functions only; nothing stays open between two calls.
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

export interface NetworkAddon extends AddonBase {
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
}
