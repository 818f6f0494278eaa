/** A region that is read over RDMA, and what its control connection says of the machine that lends it. */
import type { EnrolledConnection } from '../../fabric/enrollment/index.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import type { ControlConnection } from '../../monitor/verdict.js'
import type { RegionHeader } from '../../region/header.js'
import type { PeerLink } from './peer-fabric.js'

export interface VerbsLinkOptions {
  readonly header: RegionHeader
  readonly sampling: RemoteMemory
  readonly recovery: RemoteMemory
  readonly connection: EnrolledConnection
  /** Closes the memories; by default each its own queue pair. */
  readonly close?: () => Promise<void>
  /** Makes this link anew; by default by ending its connection, whereupon the enroller makes both. */
  readonly renew?: () => void
  /** The recovery memory as it is at the time of a recovery; by default the same as ever. */
  readonly forRecovery?: () => Promise<RemoteMemory>
  /** Of a host, its kernel as a recovery reads it. */
  readonly kernel?: () => KernelImage
}

/** Only the answer to a ping that was sent after the reads were known to fail says that the machine outlives them. */
export function answers({ answeredAgoMs }: EnrolledConnection, knownForUs: number | undefined): ControlConnection {
  return knownForUs === undefined || answeredAgoMs * 1000 < knownForUs ? 'answers' : 'unheard'
}

export class VerbsLink implements PeerLink {
  readonly header: RegionHeader
  readonly sampling: RemoteMemory
  readonly recovery: RemoteMemory
  readonly kernel: (() => KernelImage) | undefined
  readonly #options: VerbsLinkOptions
  #lost: ControlConnection | undefined

  constructor(options: VerbsLinkOptions) {
    this.header = options.header
    this.sampling = options.sampling
    this.recovery = options.recovery
    this.kernel = options.kernel
    this.#options = options
  }

  async forRecovery(): Promise<RemoteMemory> {
    return (await this.#options.forRecovery?.()) ?? this.recovery
  }

  control(knownForUs: number | undefined): ControlConnection {
    return this.#lost ?? answers(this.#options.connection, knownForUs)
  }

  /** The connection is over, or more was learned since of the machine behind it. */
  lost(control: ControlConnection): void {
    this.#lost = control
  }

  /** The enroller makes a new link as soon as this one's connection has ended. */
  renew(): void {
    if (this.#options.renew) this.#options.renew()
    else void this.#options.connection.close('the memory does not answer')
  }

  async close(): Promise<void> {
    if (this.#options.close) await this.#options.close()
    else await Promise.all([this.sampling.close(), this.recovery.close()])
  }
}
