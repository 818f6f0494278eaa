/**
 * Virtual IPs on this machine: taken when their node has been recovered here, and given up when it is back or this machine
 * itself has been fenced. Each step can be run again: an address that is there already is announced once more.
 */
import { constants } from 'node:os'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { NetworkAddon } from '../../native/network.js'
import { announcementFrames } from './announcement-frames.js'
import type { InterfaceAddress } from './interface-address.js'

export interface VirtualAddress {
  /** Whose address it is. */
  readonly node: string
  readonly address: InterfaceAddress
  readonly interface: string
  /** Does it go back to its node when that one is up again? */
  readonly failback: boolean
}

type Which = (address: VirtualAddress) => boolean
const all: Which = () => true

export interface AddressKeeperOptions {
  readonly addresses: readonly VirtualAddress[]
  readonly network: Pick<NetworkAddon, 'describeInterface' | 'addAddress' | 'removeAddress' | 'sendFrame'>
  /** Does this machine forward IPv6 that comes in by the interface? */
  readonly isRouter: (name: string) => boolean
  /** Runs something once, so many milliseconds from now. @returns how to call that off */
  readonly later: (ms: number, run: () => void) => () => void
  /** A repeated announcement, or giving an address up, failed. */
  readonly onTrouble: (address: VirtualAddress, error: unknown) => void
}

/**
 * A neighbour that missed the first announcement hears one of these, in milliseconds after it: as many, and as far apart, as
 * RFC 4861 allows (MAX_NEIGHBOR_ADVERTISEMENT, RETRANS_TIMER).
 */
export const repeatAfterMs: readonly number[] = [1000, 2000]

export class AddressKeeper {
  readonly #options: AddressKeeperOptions
  /** How to call the repeats off, of each address that is held. */
  readonly #held = new Map<VirtualAddress, (() => void)[]>()

  constructor(options: AddressKeeperOptions) {
    this.#options = options
  }

  /**
   * Adds the addresses of a node to their interfaces, and announces them. A failure does not keep the others from being taken.
   * @returns what is held now
   * @throws BackdoorsError ANNOUNCE_FAILED for the first that failed, with `interface`, `call` and `errno`
   */
  take(node: string, which = all): VirtualAddress[] {
    const wanted = this.#of(node, which)
    const failures = wanted.flatMap((each) => {
      try {
        this.#takeOne(each)
        return []
      } catch (error) {
        return [failureOf(each, error)]
      }
    })
    if (failures[0]) throw failures[0]
    return wanted
  }

  /** Removes the addresses of a node from their interfaces. @returns those that were there */
  release(node: string, which = all): VirtualAddress[] {
    return this.#releaseEach(this.#of(node, which))
  }

  /** Removes every address that it knows of: a machine that has been fenced must answer for none. @returns those that were there */
  releaseAll(): VirtualAddress[] {
    return this.#releaseEach(this.#options.addresses)
  }

  /** Announces no more. The addresses stay: their clients are served on. Idempotent. */
  close(): void {
    for (const address of this.#held.keys()) this.#callOff(address)
  }

  #of(node: string, which: Which): VirtualAddress[] {
    return this.#options.addresses.filter((each) => each.node === node && which(each))
  }

  #takeOne(each: VirtualAddress): void {
    const { network, later, onTrouble } = this.#options
    const { address, interface: name } = each
    const { isUp } = network.describeInterface(name)
    if (!isUp) throw new BackdoorsError('SYSTEM_CALL_FAILED', `interface ${name} is down`, { interface: name, errno: constants.errno.ENETDOWN, errnoName: 'ENETDOWN' })
    network.addAddress(name, address.bytes, address.prefixLength)
    this.#callOff(each)
    this.#held.set(each, [])
    this.#announce(each)
    this.#held.set(each, repeatAfterMs.map((ms) => later(ms, () => {
      try {
        this.#announce(each)
      } catch (error) {
        onTrouble(each, error)
      }
    })))
  }

  #announce({ address, interface: name }: VirtualAddress): void {
    const { network, isRouter } = this.#options
    // Asked each time: a bond takes the hardware address of another card.
    const { hardwareAddress, isEthernet } = network.describeInterface(name)
    if (!isEthernet) return
    const router = address.bytes.length === 16 && isRouter(name)
    for (const frame of announcementFrames(hardwareAddress, address.bytes, router)) network.sendFrame(name, frame)
  }

  #releaseEach(addresses: readonly VirtualAddress[]): VirtualAddress[] {
    const removed = addresses.filter((each) => this.#releaseOne(each))
    if (removed.length > 0) this.#restore(new Set(removed.map((each) => each.interface)))
    return removed
  }

  #releaseOne(each: VirtualAddress): boolean {
    const { network, onTrouble } = this.#options
    this.#callOff(each)
    this.#held.delete(each)
    try {
      return network.removeAddress(each.interface, each.address.bytes, each.address.prefixLength)
    } catch (error) {
      // Where there is no interface, there is no address.
      if (!isBackdoorsError(error, 'SYSTEM_CALL_FAILED') || error.details.errnoName !== 'ENODEV') onTrouble(each, error)
      return false
    }
  }

  /** With the first IPv4 address of a prefix Linux removes the others of it (`promote_secondaries` off). */
  #restore(interfaces: ReadonlySet<string>): void {
    for (const each of this.#held.keys()) {
      if (!interfaces.has(each.interface)) continue
      try {
        this.#options.network.addAddress(each.interface, each.address.bytes, each.address.prefixLength)
      } catch (error) {
        this.#options.onTrouble(each, error)
      }
    }
  }

  #callOff(address: VirtualAddress): void {
    for (const cancel of this.#held.get(address) ?? []) cancel()
    if (this.#held.has(address)) this.#held.set(address, [])
  }
}

function failureOf({ address, interface: name, node }: VirtualAddress, cause: unknown): BackdoorsError {
  const why = cause instanceof Error ? cause.message : String(cause)
  const details = isBackdoorsError(cause) ? cause.details : {}
  return new BackdoorsError('ANNOUNCE_FAILED', `The address ${address.text} of ${node} could not be taken on ${name}: ${why}`, { ...details, peer: node, interface: name, cause })
}
