/** The demo's nodes, in a folder of their own under /dev/shm. */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { DaemonConfigInput } from '../../daemon/config.js'
import type { Canary } from '../../safeguards.js'
import type { ServerAddress } from './connection.js'
import { DemoNode, loopback, type NodeEvents, type ServerProgram } from './demo-node.js'

export interface ClusterOptions {
  readonly nodes: number
  /** All sessions of the cluster; each box is made to hold them all. */
  readonly sessions: number
  readonly canary: Canary | undefined
  /** What the nodes' servers are. Default: the demo's example server. */
  readonly server?: ServerProgram
  /** Room for both versions of a session, in bytes. Default 2048. */
  readonly bytesPerSession?: number
  readonly onEvent: NodeEvents
}

const sharedMemory = '/dev/shm'
const usualBytesPerSession = 2048
/** For a node's first sessions. */
const spareBytes = 1 << 20

export class Cluster {
  readonly nodes: readonly DemoNode[]
  readonly #folder: string

  constructor({ nodes, sessions, canary, server, bytesPerSession = usualBytesPerSession, onEvent }: ClusterOptions) {
    this.#folder = mkdtempSync(join(sharedMemory, 'backdoors-demo-'))
    const names = Array.from({ length: nodes }, (_, i) => String.fromCharCode('a'.charCodeAt(0) + i))
    this.nodes = names.map((name) => {
      const config: DaemonConfigInput = {
        node: name,
        cluster: 'demo',
        region: { path: join(this.#folder, name), boxes: 6, sensorsPerBox: 4, sessionsPerBox: sessions + 64, heapBytes: sessions * bytesPerSession + spareBytes },
        peers: names.filter((peer) => peer !== name).map((peer) => ({ name: peer, region: join(this.#folder, peer) })),
        log: 'error',
        ...(canary ? { canary } : {}),
      }
      return new DemoNode({ name, folder: this.#folder, config, canary, onEvent, ...(server ? { server } : {}) })
    })
  }

  get addresses(): ServerAddress[] {
    return this.nodes.map(({ name, port }) => ({ node: name, host: loopback, port }))
  }

  /** @throws BackdoorsError what a daemon ended with */
  async startDaemons(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.startDaemon()))
  }

  /**
   * @param deadlineMs of the servers' sensors
   * @throws BackdoorsError what a server ended with
   */
  async startServers(deadlineMs: number): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.startServer(deadlineMs)))
  }

  /** Rejects when a process ends that should run on. */
  get troubled(): Promise<never> {
    return Promise.race(this.nodes.map(({ troubled }) => troubled))
  }

  /** Ends all processes and removes the folder. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()))
    this.#remove()
  }

  /** The same without waiting, for a process that is about to end. */
  closeNow(): void {
    for (const node of this.nodes) node.kill()
    this.#remove()
  }

  #remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
