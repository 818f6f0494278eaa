/**
 * The Ethernet frames by which a machine asks whether an address is somebody's, before it takes it, and what is read from answers: ARP
 * probes for IPv4 (RFC 5227, 2.1.1), the solicitations of duplicate address detection for IPv6 (RFC 4862, 5.4). Pure functions of bytes.
 */
import { broadcast, ethernet, etherTypeArp, etherTypeIpv6, icmpV6, icmpV6Checksum, neighbourAdvertisement, targetLinkLayerAddress, u16 } from './announcement-frames.js'

const neighbourSolicitation = 135
const unspecified = new Uint8Array(16)
/** Of a frame: where what stands there begins, in bytes. */
const arpAt = { sender: 22, senderAddress: 28, end: 42 } as const
const advertisementAt = { nextHeader: 20, type: 54, target: 62, option: 78, end: 86 } as const

/**
 * Asks, for an address of 4 bytes, without saying that it is one's own.
 * @param hardware 6 bytes
 * @returns 42 bytes; the interface pads them
 */
function arpProbe(hardware: Uint8Array, address: Uint8Array): Uint8Array {
  const [ethernetHardware, request] = [1, 1]
  return ethernet(broadcast, hardware, etherTypeArp, [...u16(ethernetHardware), ...u16(0x0800), 6, 4, ...u16(request), ...hardware, 0, 0, 0, 0, ...new Uint8Array(6), ...address])
}

/**
 * Asks for an address of 16 bytes. Who has it answers to all nodes, because the question comes from nobody.
 * @returns 78 bytes
 */
function solicitation(hardware: Uint8Array, address: Uint8Array): Uint8Array {
  const last = address.subarray(13)
  // The solicited-node address, and its Ethernet address (RFC 4291, 2.7.1; RFC 2464, 7).
  const group = Uint8Array.of(0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...last)
  const message = Uint8Array.of(neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0, ...address)
  message.set(u16(icmpV6Checksum(unspecified, group, message)), 2)
  const hopLimit = 255
  return ethernet(Uint8Array.of(0x33, 0x33, 0xff, ...last), hardware, etherTypeIpv6, [0x60, 0, 0, 0, ...u16(message.length), icmpV6, hopLimit, ...unspecified, ...group, ...message])
}

/** Asks whose `address` (4 or 16 bytes) is. */
export const probeFrame = (hardware: Uint8Array, address: Uint8Array): Uint8Array => (address.length === 16 ? solicitation : arpProbe)(hardware, address)

/** Who says that an address is his. */
export interface AddressClaim {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  /** 6 bytes. */
  readonly hardware: Uint8Array
}

/** @returns undefined of a frame that claims nothing, or is no ARP and no neighbour advertisement */
export function claimIn(frame: Uint8Array): AddressClaim | undefined {
  const etherType = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0)
  if (etherType === etherTypeArp && frame.length >= arpAt.end) {
    const address = frame.slice(arpAt.senderAddress, arpAt.senderAddress + 4)
    // A probe is from nobody.
    return address.some((byte) => byte !== 0) ? { address, hardware: frame.slice(arpAt.sender, arpAt.sender + 6) } : undefined
  }
  const { nextHeader, type, target, option, end } = advertisementAt
  if (etherType !== etherTypeIpv6 || frame.length < option || frame[nextHeader] !== icmpV6 || frame[type] !== neighbourAdvertisement) return undefined
  const tellsHardware = frame.length >= end && frame[option] === targetLinkLayerAddress
  return { address: frame.slice(target, option), hardware: tellsHardware ? frame.slice(option + 2, end) : frame.slice(6, 12) }
}
