/**
 * Which GID a queue pair should use, chosen as perftest chooses: by score. A wrong one shows only later, as a
 * time-out at RTR or as retries exceeded.
 */
import { BackdoorsError } from '../../errors.js'
import type { GidEntry, PortAttributes } from '../../native/verbs.js'

export interface GidChoice {
  readonly entry: GidEntry
  /** In words fit for `backdoors devices`. */
  readonly reason: string
}

export function isIpv4Mapped(gid: string): boolean {
  return gid.startsWith('00000000000000000000ffff')
}

/** fe80::/10; such an address is only good on its own link, and of the kernel's making rather than of an operator's. */
export function isLinkLocal(gid: string): boolean {
  return (Number.parseInt(gid.slice(0, 4), 16) & 0xffc0) === 0xfe80
}

/** Properties in the order of their weight: one outweighs all that follow. */
function meritsOf(entry: GidEntry): readonly [has: boolean, name: string][] {
  return [
    [entry.type === 'roce-v2', 'RoCE v2, which can be routed'],
    [!isLinkLocal(entry.gid), 'not link-local'],
    [isIpv4Mapped(entry.gid), 'an IPv4 address'],
  ]
}

function scoreOf(entry: GidEntry): number {
  return meritsOf(entry).reduce((score, [has]) => score * 2 + (has ? 1 : 0), 0)
}

/**
 * The best GID of a port. On InfiniBand that is index 0, the port's own.
 * @throws BackdoorsError NO_USABLE_GID where the port has none: on RoCE, while its interface has no address or is down.
 */
export function chooseGid(device: string, port: PortAttributes): GidChoice {
  if (port.linkLayer === 'InfiniBand') {
    const own = port.gids.find(({ index }) => index === 0)
    if (own !== undefined) return { entry: own, reason: "the port's own, on InfiniBand" }
  }
  const [first, ...others] = port.gids
  if (first === undefined) {
    const mend = 'give its network interface an address, and set it up ("ip link set … up")'
    throw new BackdoorsError('NO_USABLE_GID', `port ${port.number} of ${device} has no GID: ${mend}`, { path: device })
  }
  const entry = others.reduce((best, candidate) => (scoreOf(candidate) > scoreOf(best) ? candidate : best), first)
  const merits = meritsOf(entry).flatMap(([has, name]) => (has ? [name] : []))
  return { entry, reason: merits.length === 0 ? 'there is no better one' : merits.join(', ') }
}

/** The GID of an index somebody named. @throws BackdoorsError NO_USABLE_GID */
export function gidAt(device: string, port: PortAttributes, index: number): GidChoice {
  const entry = port.gids.find((candidate) => candidate.index === index)
  if (entry !== undefined) return { entry, reason: 'named by its index' }
  const present = port.gids.map((candidate) => candidate.index).join(', ')
  const message = `port ${port.number} of ${device} has no GID of index ${index}; in use: ${present || 'none'}`
  throw new BackdoorsError('NO_USABLE_GID', message, { path: device })
}
