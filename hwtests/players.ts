/** What the tests are played with: a device, memory that is lent on it, and connections to that memory. */
import { beforeEach } from 'vitest'
import { isBackdoorsError } from '../src/errors.js'
import type { EndpointPair, MemoryWindow } from '../src/fabric/lending.js'
import { contractMemoryBytes } from '../src/fabric/testing/memory-fixture.js'
import { VerbsConnector, type VerbsConnection, VerbsDevice, type VerbsDeviceOptions, VerbsLender, type QueuePairSettings } from '../src/fabric/verbs/index.js'
import { memoryAddon } from '../src/native/load.js'
import type { SharedMemory } from '../src/native/memory.js'

export const controlRange = { offset: 4_096, length: 4_096 } as const

/** A peer that has vanished is noticed within about 4.096 µs × 2^timeout × (retryCount + 1): here 70 ms. */
export const impatient: QueuePairSettings = { timeout: 12, retryCount: 3 }

export function openDevice(options: VerbsDeviceOptions = {}): VerbsDevice {
  const device = process.env['BACKDOORS_DEVICE']
  return VerbsDevice.open({ ...(device === undefined ? {} : { device }), ...options })
}

/** Why there can be no hardware tests here, or undefined. */
function whatIsMissing(): string | undefined {
  try {
    openDevice().close()
    return undefined
  } catch (error) {
    if (isBackdoorsError(error, 'VERBS_UNAVAILABLE', 'DEVICE_NOT_FOUND', 'NO_USABLE_GID')) return error.message
    throw error
  }
}

/** Skips each test of a file, with the reason, where there is no device; where hardware is required they fail. */
export function needsDevice(): void {
  const missing = whatIsMissing()
  beforeEach((context) => {
    if (missing === undefined) return
    if (process.env['HWTESTS'] === 'required') throw new Error(`hardware is required, but: ${missing}`)
    context.skip(missing)
  })
}

export interface ConnectOptions {
  readonly queuePairs?: QueuePairSettings
  readonly timeoutMs?: number
  /** What the watcher is told of the windows: wrongly, for tests of what the peer's device refuses. */
  readonly tamper?: (windows: readonly MemoryWindow[]) => readonly MemoryWindow[]
}

/** Memory lent and reached on one device of this host. */
export class Loopback {
  readonly memory: SharedMemory
  readonly bytes: Uint8Array
  readonly lender: VerbsLender
  readonly #connections: VerbsConnection[] = []

  constructor(
    readonly device: VerbsDevice = openDevice(),
    readonly length = contractMemoryBytes,
  ) {
    const { SharedMemory: Memory } = memoryAddon()
    this.memory = new Memory({ create: true, memfd: true, path: 'backdoors-hwtests', length })
    this.bytes = new Uint8Array(this.memory.buffer)
    this.lender = new VerbsLender({ device, memory: this.memory, control: controlRange })
  }

  connect({ queuePairs = {}, timeoutMs, tamper = (windows) => windows }: ConnectOptions = {}): VerbsConnection {
    const timeout = timeoutMs === undefined ? {} : { timeoutMs }
    const connector = new VerbsConnector({ device: this.device, peer: 'lender', queuePairs, ...timeout })
    const { endpoints, windows } = this.accept(connector.endpoints)
    const connection = connector.connect(endpoints, tamper(windows))
    this.#connections.push(connection)
    return connection
  }

  accept(endpoints: EndpointPair): ReturnType<VerbsLender['accept']> {
    return this.lender.accept(`watcher-${this.#connections.length}`, endpoints)
  }

  /** Destroys every queue pair that answers: nobody is told, as when a machine dies. */
  kill(): void {
    for (const peer of this.lender.peers) this.lender.release(peer)
  }

  async close(): Promise<void> {
    for (const { sampling, recovery } of this.#connections) {
      await sampling.close()
      await recovery.close()
    }
    this.lender.close()
    this.memory.close()
    this.device.close()
  }
}
