/** A watcher's side of a connection: two queue pairs to one peer, and the peer's memory through each. */
import { BackdoorsError } from '../../errors.js'
import type { EndpointPair, MemoryWindow } from '../lending.js'
import type { VerbsDevice } from './device.js'
import type { QueuePairSettings } from './queue-pair-settings.js'
import { RcEndpoint } from './rc-endpoint.js'
import { VerbsMemory } from './verbs-memory.js'

export interface VerbsConnectorOptions {
  readonly device: VerbsDevice
  /** Name of the node at the other end. */
  readonly peer: string
  readonly queuePairs?: QueuePairSettings
  /** The own deadline of every operation, beside the NIC's, in milliseconds. Default 2000. */
  readonly timeoutMs?: number
}

export interface VerbsConnection {
  /** For watching, and for whatever else is read while all is well. */
  readonly sampling: VerbsMemory
  /** An idle spare: a failed read ends its queue pair, and a new one would need the processor of the dead. */
  readonly recovery: VerbsMemory
}

/**
 * @example
 * const connector = new VerbsConnector({ device, peer: 'node-2' })
 * const { endpoints, windows } = await exchange(connector.endpoints)
 * const { sampling, recovery } = connector.connect(endpoints, windows)
 */
export class VerbsConnector {
  /** What the peer has to know: its lender's `accept` takes it. */
  readonly endpoints: EndpointPair
  readonly #options: VerbsConnectorOptions
  readonly #sampling: RcEndpoint
  readonly #recovery: RcEndpoint
  #connected = false

  /** Makes both queue pairs. @throws BackdoorsError MEMLOCK_LIMIT, VERBS_CALL_FAILED, QP_TRANSITION */
  constructor(options: VerbsConnectorOptions) {
    this.#options = options
    // A watcher lends nothing by these queue pairs.
    const timeout = options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }
    const settings = { ...options.queuePairs, ...timeout, peer: options.peer, access: 0 }
    this.#sampling = new RcEndpoint(options.device, settings)
    this.#recovery = new RcEndpoint(options.device, settings)
    this.endpoints = { sampling: this.#sampling.local, recovery: this.#recovery.local }
  }

  /**
   * Connects to what the peer answered. The memories own the queue pairs from now on: each closes its own.
   * @throws BackdoorsError QP_TRANSITION, CLOSED where it was connected or closed before
   */
  connect(remote: EndpointPair, windows: readonly MemoryWindow[]): VerbsConnection {
    const { peer } = this.#options
    if (this.#connected) throw new BackdoorsError('CLOSED', `the queue pairs to ${peer} have been used: make new ones`, { peer })
    this.#connected = true
    try {
      this.#sampling.connect(remote.sampling, windows)
      this.#recovery.connect(remote.recovery, windows)
    } catch (error) {
      this.#end()
      throw error
    }
    const sampling = new VerbsMemory({ endpoint: this.#sampling, peer, windows })
    const recovery = new VerbsMemory({ endpoint: this.#recovery, peer, windows })
    return { sampling, recovery }
  }

  /** Gives up before connecting. Nothing happens afterwards. */
  close(): void {
    if (this.#connected) return
    this.#connected = true
    this.#end()
  }

  #end(): void {
    this.#sampling.close()
    this.#recovery.close()
  }
}
