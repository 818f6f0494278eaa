/** One end of an RC connection: a queue pair with a completion queue of its own. */
import { randomInt } from 'node:crypto'
import { negotiate } from '../enrollment/negotiate.js'
import type { MemoryWindow, QueuePairEndpoint } from '../lending.js'
import { verbsAddon } from '../../native/load.js'
import type { CompletionQueue, QueuePair } from '../../native/verbs.js'
import type { VerbsDevice } from './device.js'
import { defaultQueuePairSettings, type QueuePairSettings } from './queue-pair-settings.js'

const psnLimit = 2 ** 24

export interface RcEndpointOptions extends QueuePairSettings {
  /** Name of the node at the other end. */
  readonly peer: string
  /** Sum of `accessFlags` that the peer may use; 0 for an end that only asks. */
  readonly access: number
  /** The own deadline of every operation, beside the NIC's, in milliseconds. Default 2000. */
  readonly timeoutMs?: number
}

const defaultTimeoutMs = 2_000

export class RcEndpoint {
  readonly queuePair: QueuePair
  /** What the other end has to know. */
  readonly local: QueuePairEndpoint
  /** The own deadline of every operation, in microseconds. */
  readonly timeoutUs: number
  readonly #queue: CompletionQueue

  /** @throws BackdoorsError MEMLOCK_LIMIT, VERBS_CALL_FAILED, QP_TRANSITION */
  constructor(
    readonly device: VerbsDevice,
    options: RcEndpointOptions,
  ) {
    this.timeoutUs = (options.timeoutMs ?? defaultTimeoutMs) * 1000
    const { mtu, ...settings } = { ...defaultQueuePairSettings, ...options }
    const { attributes, port, gid } = device
    const verbs = verbsAddon()
    // An error completes every outstanding request, so there has to be room for all of them.
    this.#queue = new verbs.CompletionQueue(device.context, settings.depth)
    const psn = randomInt(psnLimit)
    const at = { port: port.number, gidIndex: gid.entry.index, psn }
    this.queuePair = new verbs.QueuePair(device.domain, this.#queue, { ...settings, ...at })
    this.local = {
      qpn: this.queuePair.qpn,
      psn,
      gid: gid.entry.gid,
      lid: port.lid,
      mtu: mtu ?? port.activeMtu,
      maxRdAtomic: Math.min(settings.maxRdAtomic, attributes.maxRdAtomic),
      maxDestRdAtomic: Math.min(settings.maxRdAtomic, attributes.maxDestRdAtomic),
    }
  }

  /** @throws BackdoorsError QP_TRANSITION */
  connect(remote: QueuePairEndpoint, windows: readonly MemoryWindow[] = []): void {
    this.queuePair.setWindows(windows)
    this.queuePair.connect({ ...remote, ...negotiate(this.local, remote) })
  }

  /** Idempotent. */
  close(): void {
    this.queuePair.close()
    this.#queue.close()
  }
}
