/** Peers whose regions are files on this same machine: the embedded default. */
import { BackdoorsError } from '../../errors.js'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import { createShmSampler, type ShmSampler } from '../../fabric/shm/shm-sampler.js'
import type { SamplerSettings } from '../../fabric/sampling/shared-sampler.js'
import { control } from '../../region/layout.js'
import { readHeader } from '../../region/region-reader.js'
import type { RegionHeader } from '../../region/header.js'
import type { PeerConfig } from '../config.js'
import type { PeerFabric, PeerHandlers, PeerLink } from './peer-fabric.js'

/** How often a peer's file is looked at for a new incarnation, in milliseconds. */
const lookEveryMs = 200

export class ShmPeers implements PeerFabric {
  readonly #cluster: string
  readonly #keepers = new Set<Keeper>()
  /** One thread for all peers. */
  readonly #sampler: ShmSampler

  constructor(cluster: string, sampler: SamplerSettings = {}) {
    this.#cluster = cluster
    this.#sampler = createShmSampler(sampler)
  }

  keep(peer: PeerConfig, handlers: PeerHandlers): { close(): Promise<void> } {
    const keeper = new Keeper(peer, this.#cluster, handlers, this.#sampler)
    this.#keepers.add(keeper)
    return {
      close: async () => {
        this.#keepers.delete(keeper)
        await keeper.close()
      },
    }
  }

  /** Whoever can open the file can read it. */
  setMembers(_members: readonly PeerConfig[]): void {
    // There is nobody to cut off.
  }

  /** Files are guarded by their mode alone. */
  async reloadKeys(): Promise<void> {}

  async close(): Promise<void> {
    await Promise.all([...this.#keepers].map((keeper) => keeper.close()))
    this.#sampler.close()
  }
}

class Keeper {
  readonly #peer: PeerConfig
  readonly #cluster: string
  readonly #handlers: PeerHandlers
  readonly #sampler: ShmSampler
  readonly #timer: NodeJS.Timeout
  readonly #first: NodeJS.Immediate
  #incarnation: bigint | undefined
  #looking: Promise<void> = Promise.resolve()
  #troubled = false
  #closed = false

  constructor(peer: PeerConfig, cluster: string, handlers: PeerHandlers, sampler: ShmSampler) {
    this.#sampler = sampler
    this.#peer = peer
    this.#cluster = cluster
    this.#handlers = handlers
    const look = (): void => {
      this.#looking = this.#looking.then(() => this.#look())
    }
    // Not before whoever starts the daemon has had its turn, and listens to what is found.
    this.#first = setImmediate(look)
    this.#timer = setInterval(look, lookEveryMs).unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearImmediate(this.#first)
    clearInterval(this.#timer)
    await this.#looking
  }

  /** A region of an incarnation not seen yet gives a new link; a file that is gone or no region is trouble, once. */
  async #look(): Promise<void> {
    if (this.#closed) return
    let probe: ShmMemory | undefined
    try {
      probe = this.#open()
      const header = this.#check(await readHeader(probe))
      this.#troubled = false
      if (header.incarnation === this.#incarnation) return
      const link = new ShmLink(header, this.#open(), this.#open())
      this.#incarnation = header.incarnation
      this.#handlers.onLink(link)
    } catch (error) {
      if (!this.#troubled && !this.#closed) this.#handlers.onTrouble(error)
      this.#troubled = true
    } finally {
      await probe?.close()
    }
  }

  #open(): ShmMemory {
    const { name, region } = this.#peer
    return new ShmMemory({ peer: name, path: region as string, controlOffset: control.offset, controlLength: control.bytes, sampler: this.#sampler })
  }

  #check(header: RegionHeader): RegionHeader {
    const { name, region } = this.#peer
    if (header.node === name && header.cluster === this.#cluster) return header
    throw new BackdoorsError('PEER_UNKNOWN', `${region} is the region of node ${header.node} in cluster ${header.cluster}, not of ${name} in ${this.#cluster}.`, { peer: name, path: region as string })
  }
}

class ShmLink implements PeerLink {
  constructor(
    readonly header: RegionHeader,
    readonly sampling: ShmMemory,
    readonly recovery: ShmMemory,
  ) {}

  control(): 'none' {
    return 'none'
  }

  forRecovery(): Promise<ShmMemory> {
    return Promise.resolve(this.recovery)
  }

  renew(): void {
    // A file that is there again is found by the keeper; there is no connection to renew.
  }

  async close(): Promise<void> {
    await Promise.all([this.sampling.close(), this.recovery.close()])
  }
}
