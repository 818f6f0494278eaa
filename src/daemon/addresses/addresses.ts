/** Virtual IPs as the daemon moves them: at its start, with a recovery, when a node is back, and when this one is fenced. */
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleepMs } from 'node:timers/promises'
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { capabilityName, missingCapabilities, neededForAddresses } from '../../native/capabilities.js'
import { crc32c } from '../../native/crc32c.js'
import { networkAddon } from '../../native/load.js'
import type { BoxOwner } from '../../region/box-owner.js'
import type { RegionHeader } from '../../region/header.js'
import { daemonBox } from '../../region/layout.js'
import { readSensors } from '../../region/region-reader.js'
import { AddressKeeper, type VirtualAddress } from '../../recovery/addresses/address-keeper.js'
import { probeAddresses, type AddressAnswer, type ProbedAddress } from '../../recovery/addresses/address-probe.js'
import { parseInterfaceAddress, type InterfaceAddress } from '../../recovery/addresses/interface-address.js'
import { readFence } from '../../recovery/control-words.js'
import type { AddressConfig } from './addresses-config.js'
import type { Answerer } from './spoken-for.js'
import type { DaemonConfig } from '../config.js'

/**
 * A level sensor of the daemon's for each address that is configured, 1 while this node holds it, its own among them. It stands in
 * the lent memory, so that whoever recovers this node finds there which addresses have to move along, and which are elsewhere.
 */
export const heldSensor = (address: string): string => `address:${fingerprintOf(address).toString(16).padStart(8, '0')}`
const held = { yes: 1, no: 0, limit: 2 } as const
const goesBack = ({ failback }: { readonly failback: boolean }): boolean => failback

/** How often the interfaces are looked at, in milliseconds. */
const lookEveryMs = 1000
/** By then an address that goes back to its node has gone, in milliseconds. */
const learnAgainMs = 5000

export class Addresses {
  readonly #config: DaemonConfig
  readonly #box: BoxOwner
  readonly #log: Logger
  readonly #keeper: AddressKeeper | undefined
  #looking: NodeJS.Timeout | undefined
  #isClosed = false
  #owedTo: ReadonlySet<string> = new Set()
  /** By peer and interface of this machine: where that peer has answered while it was up. */
  readonly #hardware = new Map<string, Set<string>>()

  /** @param box the daemon's own */
  constructor(config: DaemonConfig, box: BoxOwner, log: Logger) {
    this.#config = config
    this.#box = box
    this.#log = log
    if (config.recovery.addresses.length > 0) this.#keeper = this.#makeKeeper()
  }

  /**
   * Sees that addresses could be taken; to be called before anything is begun.
   * @throws BackdoorsError CAPABILITY_MISSING
   */
  check(): void {
    if (!this.#keeper) return
    checkCapabilities()
    for (const name of new Set(this.#config.recovery.addresses.map((each) => each.interface))) this.#checkInterface(name)
  }

  /** Says which addresses it holds from an earlier life; to be called before others take the last sensors of the box. */
  reserve(): void {
    if (!this.#keeper) return
    this.#sayPresent()
    // An operator may set one by hand.
    this.#looking = setInterval(() => this.#sayPresent(), lookEveryMs).unref()
  }

  /** Peers whose addresses are here, from whatever life of this daemon, and go back to them: whoever holds them has to see these peers come. */
  get owedTo(): ReadonlySet<string> {
    return this.#owedTo
  }

  #sayPresent(): void {
    const { node: own, recovery: { addresses } } = this.#config
    const present = presentAddresses()
    for (const { address } of addresses) this.#say(address, present.has(bytesOf(address)))
    this.#owedTo = new Set(addresses.filter((each) => each.node !== own && goesBack(each) && present.has(bytesOf(each.address))).map(({ node }) => node))
  }

  /** Takes the addresses of this node itself. */
  start(): void {
    // A node that has been fenced has given them up, and gets none.
    if (!this.#keeper || this.#box.fenced) return
    try {
      this.#report('this node has its addresses', this.#sayHeld(this.#keeper.take(this.#config.node, goesBack)))
    } catch (error) {
      // It lends and recovers all the same; the interface may come up, and be given its address, later.
      this.#log.error({ err: error }, 'this node could not take its own addresses')
    }
  }

  /**
   * The addresses of a node that is being recovered here, and those that it had taken over from others.
   * @param memory the failed node's region
   */
  async heldBy(memory: RemoteMemory, header: RegionHeader): Promise<AddressConfig[]> {
    if (!this.#keeper) return []
    const isHeld = await this.#heldBy(memory, header)
    return this.#config.recovery.addresses.filter(({ node, address }) => node !== this.#config.node && isHeld(node, address))
  }

  /**
   * Asks the network who answers for addresses that a failed node may have held, less those that are here. Never rejects.
   * @returns by address as it is configured
   */
  async answered(peer: string): Promise<ReadonlyMap<string, Answerer>> {
    const answerers = new Map<string, Answerer>()
    for (const { address, hardware } of await this.#ask(({ node }) => node !== this.#config.node)) {
      const known = this.#hardware.get(`${peer} ${address.interface}`)
      const before = answerers.get(address.text)
      answerers.set(address.text, {
        hardware: before ? `${before.hardware} and ${hardware}` : hardware,
        isAnother: before?.isAnother === true || (known !== undefined && !known.has(hardware)),
      })
    }
    return answerers
  }

  /** Never rejects. */
  async #ask(which: (address: AddressConfig) => boolean): Promise<AddressAnswer<ProbedAddress & { readonly text: string }>[]> {
    const { addresses, probeAddresses: isAsked } = this.#config.recovery
    if (!isAsked) return []
    try {
      const present = presentAddresses()
      const asked = addresses.filter((each) => which(each) && !present.has(bytesOf(each.address)))
        .map(({ address, interface: name }) => ({ text: address, interface: name, bytes: (parseInterfaceAddress(address) as InterfaceAddress).bytes }))
      return await probeAddresses({
        addresses: asked, network: networkAddon(), pause: sleepMs,
        onTrouble: (name, error) => this.#log.warn({ interface: name, err: error }, 'nobody could be asked on this interface whether addresses are somebody\'s'),
      })
    } catch (error) {
      this.#log.warn({ err: error }, 'nobody could be asked whether addresses are somebody\'s')
      return []
    }
  }

  /**
   * By which hardware addresses a peer that is up answers: later, another one is another machine's. Asked twice: as it connects, who has
   * held its addresses meanwhile may answer in its place.
   */
  async #learn(peer: string): Promise<void> {
    for (const afterMs of [0, learnAgainMs]) {
      await sleepMs(afterMs, undefined, { ref: false })
      if (this.#isClosed) return
      for (const { address, hardware } of await this.#ask(({ node }) => node === peer)) {
        const key = `${peer} ${address.interface}`
        const known = this.#hardware.get(key)
        if (known) known.add(hardware)
        else this.#hardware.set(key, new Set([hardware]))
      }
    }
  }

  /**
   * Takes them.
   * @param held as `heldBy` has them
   * @throws BackdoorsError ANNOUNCE_FAILED, FENCED
   */
  takeOver(held: readonly AddressConfig[]): void {
    const keeper = this.#keeper
    if (!keeper) return
    if (this.#box.fenced) throw new BackdoorsError('FENCED', 'This node has been fenced meanwhile, so it takes nobody\'s addresses.', { peer: this.#config.node })
    const wanted = new Set(held.map(({ address }) => bytesOf(address)))
    const nodes = [...new Set(held.map(({ node }) => node))]
    const failures = nodes.flatMap((node) => {
      try {
        this.#report(`addresses of ${node} are served here now`, this.#sayHeld(keeper.take(node, ({ address }) => wanted.has(address.bytes.join()))))
        return []
      } catch (error) {
        return [error]
      }
    })
    if (failures.length > 0) throw failures[0]
  }

  /** Gives the addresses of a peer back (those with `failback`) that is connected, and lives: its region is not one that was fenced. */
  async peerConnected(peer: string, memory: RemoteMemory): Promise<void> {
    const own = this.#config.recovery.addresses.filter(({ node }) => node === peer)
    if (!this.#keeper || own.length === 0) return
    void this.#learn(peer)
    if (!own.some(goesBack)) return
    try {
      if ((await readFence(memory, 'node')) !== 0) return
      const released = this.#keeper.release(peer, goesBack)
      this.#report(`${peer} is back; its addresses were given up`, released)
      for (const { address } of released) this.#say(address.text, false)
    } catch (error) {
      this.#log.warn({ peer, err: error }, 'could not see whether the peer lives, so its addresses stay as they are')
    }
  }

  /** This node has been fenced: others serve its clients. */
  giveAllUp(): void {
    if (this.#keeper) this.#report('this node has been fenced; it gives all virtual addresses up', this.#keeper.releaseAll())
  }

  /** Announces no more. What is held is kept, for the servers serve on. Idempotent. */
  close(): void {
    this.#isClosed = true
    clearInterval(this.#looking)
    this.#keeper?.close()
  }

  #makeKeeper(): AddressKeeper {
    const addresses: VirtualAddress[] = this.#config.recovery.addresses.map((each) => ({
      ...each, address: parseInterfaceAddress(each.address) as InterfaceAddress,
    }))
    return new AddressKeeper({
      addresses, network: networkAddon(), isRouter,
      later: (ms, run) => {
        const timer = setTimeout(run, ms).unref()
        return () => clearTimeout(timer)
      },
      onTrouble: ({ address, interface: name }, error) => this.#log.warn({ address: address.text, interface: name, err: error }, 'trouble with a virtual address'),
    })
  }

  /**
   * Which addresses the failed node held, by what it says in its memory. Of what it says nothing, and where that cannot be read, it
   * is taken to have held its own.
   */
  async #heldBy(memory: RemoteMemory, { node: failed, ...header }: RegionHeader): Promise<(node: string, address: string) => boolean> {
    const values = new Map<string, number>()
    try {
      const [box] = await readSensors(memory, { node: failed, ...header }, [daemonBox])
      for (const { name, kind, value } of box?.sensors ?? []) if (kind === 'level') values.set(name, value)
    } catch (error) {
      this.#log.warn({ peer: failed, err: error }, 'could not read which addresses the failed node held')
    }
    return (node, address) => {
      const value = values.get(heldSensor(address))
      return value === undefined ? node === failed : value === held.yes
    }
  }

  #sayHeld(addresses: VirtualAddress[]): VirtualAddress[] {
    for (const { address } of addresses) this.#say(address.text, true)
    return addresses
  }

  #say(address: string, isHeld: boolean): void {
    try {
      this.#box.sensor({ name: heldSensor(address), kind: 'level', deadlineUs: 0 }).level(isHeld ? held.yes : held.no, held.limit)
    } catch (error) {
      this.#log.warn({ address, err: error }, 'no sensor is left to say whether this address is held here: whoever recovers this node will not know')
    }
  }

  #report(what: string, addresses: readonly VirtualAddress[]): void {
    if (addresses.length > 0) this.#log.warn({ addresses: addresses.map(({ address, interface: name }) => `${address.text} on ${name}`) }, what)
  }

  #checkInterface(name: string): void {
    try {
      const { isUp, isEthernet } = networkAddon().describeInterface(name)
      if (!isUp) this.#log.warn({ interface: name }, 'this interface is down: no virtual address can be taken on it')
      if (!isEthernet) this.#log.info({ interface: name }, 'this interface is no Ethernet: virtual addresses on it are not announced to neighbours')
    } catch (error) {
      this.#log.warn({ interface: name, err: error }, 'no virtual address can be taken on this interface')
    }
  }
}

/** Of the address as bytes: however it is written, it is one sensor. */
function fingerprintOf(address: string): number {
  const bytes = Uint8Array.from(parseInterfaceAddress(address)?.bytes ?? [])
  return crc32c(bytes, 0, bytes.length, 0) >>> 0
}

const bytesOf = (address: string): string => parseInterfaceAddress(address)?.bytes.join() ?? ''

/** Those of interfaces that are up. */
const presentAddresses = (): Set<string> => new Set(Object.values(networkInterfaces()).flatMap((each) => each ?? []).map(({ cidr }) => bytesOf(cidr ?? '')))

function checkCapabilities(): void {
  const missing = missingCapabilities(neededForAddresses).map(capabilityName)
  if (missing.length === 0) return
  const mend = `"AmbientCapabilities=${neededForAddresses.map(capabilityName).join(' ')}" in its systemd unit`
  throw new BackdoorsError('CAPABILITY_MISSING', `recovery.addresses needs ${missing.join(' and ')}, which this process has not: give the daemon the right (${mend}), or move addresses by an announce command that has it.`, { field: 'recovery.addresses' })
}

function isRouter(name: string): boolean {
  try {
    return readFileSync(`/proc/sys/net/ipv6/conf/${name}/forwarding`, 'utf8').trim() === '1'
  } catch {
    return false
  }
}
