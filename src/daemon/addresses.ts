/** Virtual IPs as the daemon moves them: at its start, with a recovery, when a node is back, and when this one is fenced. */
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import type { Logger } from 'pino'
import { BackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { capabilityName, missingCapabilities, neededForAddresses } from '../native/capabilities.js'
import { networkAddon } from '../native/load.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { RegionHeader } from '../region/header.js'
import { daemonBox } from '../region/layout.js'
import { readSensors } from '../region/region-reader.js'
import { AddressKeeper, type VirtualAddress } from '../recovery/addresses/address-keeper.js'
import { parseInterfaceAddress, type InterfaceAddress } from '../recovery/addresses/interface-address.js'
import { readFence } from '../recovery/control-words.js'
import { nodeNumber, type DaemonConfig } from './config.js'

/**
 * A level sensor of the daemon's, 1 while this node holds that one's addresses. It stands in the lent memory, so that
 * whoever recovers this node finds there which addresses have to move along.
 */
const heldSensor = (node: string): string => `address:${nodeNumber(node)}`
const held = { yes: 1, no: 0, limit: 2 } as const
const goesBack = ({ failback }: { readonly failback: boolean }): boolean => failback

export class Addresses {
  readonly #config: DaemonConfig
  readonly #box: BoxOwner
  readonly #log: Logger
  readonly #keeper: AddressKeeper | undefined

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

  /** Takes the sensors that it will need, before others take the last ones of the box. */
  reserve(): void {
    const { node, recovery } = this.#config
    for (const other of new Set(recovery.addresses.map((each) => each.node))) if (other !== node) this.#say(other, held.no)
  }

  /** Takes the addresses of this node itself, and says which of others it holds from an earlier life. */
  start(): void {
    const { node, recovery } = this.#config
    if (!this.#keeper) return
    const present = presentAddresses()
    for (const each of recovery.addresses) if (each.node !== node && present.has(bytesOf(each.address))) this.#say(each.node, held.yes)
    try {
      this.#report('this node has its addresses', this.#keeper.take(node, goesBack))
    } catch (error) {
      // It lends and recovers all the same; the interface may come up, and be given its address, later.
      this.#log.error({ err: error }, 'this node could not take its own addresses')
    }
  }

  /**
   * Takes the addresses of a node that has been recovered here, and those that it had taken over from others.
   * @param memory the failed node's region
   * @throws BackdoorsError ANNOUNCE_FAILED, FENCED
   */
  async takeOver(memory: RemoteMemory, header: RegionHeader): Promise<void> {
    const keeper = this.#keeper
    if (!keeper) return
    const nodes = [header.node, ...(await this.#heldBy(memory, header))]
    if (this.#box.fenced) throw new BackdoorsError('FENCED', 'This node has been fenced meanwhile, so it takes nobody\'s addresses.', { peer: this.#config.node })
    const failures = nodes.flatMap((node) => {
      try {
        const taken = keeper.take(node)
        if (taken.length > 0) this.#say(node, held.yes)
        this.#report(`the addresses of ${node} are served here now`, taken)
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
    if (!this.#keeper || !own.some(goesBack)) return
    try {
      if ((await readFence(memory, 'node')) !== 0) return
      const released = this.#keeper.release(peer, goesBack)
      this.#report(`${peer} is back; its addresses were given up`, released)
      if (released.length > 0 && own.every(goesBack)) this.#say(peer, held.no)
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

  /** Nodes whose addresses the failed one had taken over. What cannot be read costs these, and not its own. */
  async #heldBy(memory: RemoteMemory, header: RegionHeader): Promise<string[]> {
    const others = [...new Set(this.#config.recovery.addresses.map(({ node }) => node))].filter((node) => node !== header.node && node !== this.#config.node)
    if (others.length === 0) return []
    try {
      const [box] = await readSensors(memory, header, [daemonBox])
      const isHeld = (node: string): boolean => box?.sensors.some(({ name, kind, value }) => name === heldSensor(node) && kind === 'level' && value === held.yes) ?? false
      return others.filter(isHeld)
    } catch (error) {
      this.#log.warn({ peer: header.node, err: error }, 'could not read which addresses the failed node had taken over')
      return []
    }
  }

  #say(node: string, value: number): void {
    try {
      this.#box.sensor({ name: heldSensor(node), kind: 'level', deadlineUs: 0 }).level(value, held.limit)
    } catch (error) {
      this.#log.warn({ node, err: error }, 'no sensor is left to say that this node\'s addresses are held here: whoever recovers this node will not take them over')
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
