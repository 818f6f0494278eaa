/** The configuration of virtual IPs: addresses that belong to a node, and move with its sessions. */
import { z } from 'zod'
import { parseInterfaceAddress } from '../../recovery/addresses/interface-address.js'

export const addressesSchema = z.array(z.strictObject({
  /** Whose address it is: a peer, or this node itself. */
  node: z.string(),
  /** With its prefix length: `10.0.0.50/24`, `2001:db8::50/64`. */
  address: z.string().refine((text) => parseInterfaceAddress(text) !== undefined, 'must be an address of one machine with its prefix length, e.g. 10.0.0.50/24 or 2001:db8::50/64'),
  /** The interface of this machine that takes it. */
  interface: z.string().regex(/^[^\s/:\0]{1,15}$/, 'must be the name of a network interface'),
  /** Does the address go back to its node when that one is up again? */
  failback: z.boolean().default(true),
})).max(256).default([])

export type AddressConfig = z.output<typeof addressesSchema>[number]

/** @returns the key at fault and why, where there is one */
export function faultInAddresses(addresses: readonly AddressConfig[], isNode: (name: string) => boolean): { field: string; why: string } | undefined {
  const seen = new Set<string>()
  for (const [i, { node, address }] of addresses.entries()) {
    const field = `recovery.addresses[${i}]`
    if (!isNode(node)) return { field: `${field}.node`, why: `${node} is neither a peer nor this node` }
    const bytes = parseInterfaceAddress(address)?.bytes.join()
    if (bytes !== undefined && seen.has(bytes)) return { field: `${field}.address`, why: `${address} stands twice` }
    if (bytes !== undefined) seen.add(bytes)
  }
  return undefined
}
