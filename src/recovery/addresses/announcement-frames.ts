/**
 * The Ethernet frames by which a machine tells its neighbours that an address is now its own: gratuitous ARP for IPv4, an
 * unsolicited neighbour advertisement for IPv6. Pure functions of addresses.
 */

export const etherTypeArp = 0x0806
export const etherTypeIpv6 = 0x86dd
export const broadcast = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
/** All nodes of the link, `ff02::1`, and its Ethernet address (RFC 2464, 7). */
const allNodes = Uint8Array.of(0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
const allNodesHardware = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1)

export const icmpV6 = 58
export const neighbourAdvertisement = 136
export const targetLinkLayerAddress = 2
const arpOperations = { request: 1, reply: 2 } as const
/** RFC 4861, 4.4. */
const advertisementFlags = { router: 0x80, override: 0x20 } as const

export const u16 = (value: number): [number, number] => [value >> 8, value & 0xff]

export const ethernet = (to: Uint8Array, from: Uint8Array, etherType: number, payload: Iterable<number>): Uint8Array => Uint8Array.from([...to, ...from, ...u16(etherType), ...payload])

/**
 * An ARP announcement (RFC 826; RFC 5227, 3): sender and target protocol address are both `address`, so that whoever has an
 * entry for it takes the new hardware address.
 *
 * @param form some systems heed requests only, and some replies only. In a request the target's hardware address is
 * unknown, hence 0; a reply goes to everybody.
 * @param hardware 6 bytes
 * @param address 4 bytes
 * @returns 42 bytes; the interface pads them
 */
export function gratuitousArp(form: keyof typeof arpOperations, hardware: Uint8Array, address: Uint8Array): Uint8Array {
  const ethernetHardware = 1
  const target = form === 'request' ? new Uint8Array(6) : broadcast
  const payload = [...u16(ethernetHardware), ...u16(0x0800), 6, 4, ...u16(arpOperations[form]), ...hardware, ...address, ...target, ...address]
  return ethernet(broadcast, hardware, etherTypeArp, payload)
}

/**
 * An unsolicited neighbour advertisement (RFC 4861, 7.2.6) to all nodes of the link, with the override flag, so that what
 * they remember is replaced.
 *
 * @param hardware 6 bytes
 * @param address 16 bytes; the source as well as the target
 * @param isRouter does this machine forward? Without the flag its neighbours would drop it as their router
 * @returns 86 bytes
 */
export function unsolicitedNeighbourAdvertisement(hardware: Uint8Array, address: Uint8Array, isRouter: boolean): Uint8Array {
  const flags = advertisementFlags.override | (isRouter ? advertisementFlags.router : 0)
  const message = Uint8Array.from([neighbourAdvertisement, 0, 0, 0, flags, 0, 0, 0, ...address, targetLinkLayerAddress, 1, ...hardware])
  message.set(u16(icmpV6Checksum(address, allNodes, message)), 2)
  // Only with this hop limit is it known to come from the same link (RFC 4861, 7.1.2).
  const hopLimit = 255
  const header = [0x60, 0, 0, 0, ...u16(message.length), icmpV6, hopLimit, ...address, ...allNodes]
  return ethernet(allNodesHardware, hardware, etherTypeIpv6, [...header, ...message])
}

/** The one's complement of the one's complement sum over the pseudo-header (RFC 8200, 8.1) and a message of even length. */
export function icmpV6Checksum(source: Uint8Array, destination: Uint8Array, message: Uint8Array): number {
  const bytes = [...source, ...destination, 0, 0, ...u16(message.length), 0, 0, 0, icmpV6, ...message]
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] as number)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ~sum & 0xffff
}

/** All frames that announce `address` (4 or 16 bytes) at `hardware`. */
export function announcementFrames(hardware: Uint8Array, address: Uint8Array, isRouter: boolean): Uint8Array[] {
  if (address.length === 16) return [unsolicitedNeighbourAdvertisement(hardware, address, isRouter)]
  return [gratuitousArp('request', hardware, address), gratuitousArp('reply', hardware, address)]
}
