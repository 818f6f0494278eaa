/** This node's own key in etcd: put with a lease, kept alive, put again when it is lost, and at an orderly end replaced by a marker. */
import { z } from 'zod'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import { int64, type EtcdGateway } from './etcd-gateway.js'
import { leftRecord } from './member-record.js'
import type { Pacer } from './pacer.js'

/** How long the marker of a node that has left stands, in seconds: a week, for those who were not there to see it put. */
const leftSeconds = 7 * 24 * 3600
/** An orderly end waits for etcd no longer than this, in milliseconds. */
const leaveWithinMs = 2500
/** So many times in the life of a lease it is renewed. */
const renewalsPerLease = 3

const header = z.object({ revision: int64 })
const granted = z.object({ ID: int64, TTL: int64 })
const kept = z.object({ result: z.object({ TTL: int64 }).optional(), error: z.unknown().optional() })
const putAnswer = z.object({ header })
const anything = z.unknown()

interface Lease {
  readonly id: string
  readonly renewEveryMs: number
}

export interface EtcdRegistrationOptions {
  readonly gateway: EtcdGateway
  readonly key: string
  readonly value: Uint8Array
  readonly leaseSeconds: number
  readonly pacer: Pacer
  /** Aborted when this node registers no more. */
  readonly signal: AbortSignal
  readonly onTrouble: (error: unknown) => void
  readonly onWell: () => void
}

export class EtcdRegistration {
  readonly #options: EtcdRegistrationOptions
  #lease: Lease | undefined
  #putAt = 0n
  /** The latest revision at which the key was seen not to be there. */
  #lostAt = 0n
  /** Was etcd ever asked to put the key? It may have done so even where no answer came. */
  #mayStand = false

  constructor(options: EtcdRegistrationOptions) {
    this.#options = options
  }

  /** Revision at which the key was put last; 0 where it has not been. */
  get putAt(): bigint {
    return this.#putAt
  }

  /** The key was seen to be gone, or to say that this node has left, as of `revision`: it is put again. */
  lost(revision: bigint): void {
    if (revision <= this.#putAt) return
    this.#lostAt = revision
    this.#options.pacer.wake()
  }

  /** Registers, and stays registered, until aborted. Never rejects. */
  async run(): Promise<void> {
    const { signal, pacer, onTrouble, onWell } = this.#options
    while (!signal.aborted) {
      try {
        this.#lease ??= await this.#register()
        if (!(await this.#renew(this.#lease))) {
          this.#lease = undefined
          await pacer.afterFailure()
          continue
        }
        onWell()
        pacer.succeeded()
        await pacer.pause(this.#lease.renewEveryMs)
        if (this.#lostAt > this.#putAt) this.#lease = undefined
      } catch (error) {
        if (signal.aborted) return
        // etcd may have forgotten the lease; where it only does not answer, the lease may outlive that.
        if (!isBackdoorsError(error, 'ETCD_UNAVAILABLE')) this.#lease = undefined
        onTrouble(error)
        await pacer.afterFailure()
      }
    }
  }

  /**
   * Says that this node has left in order; `run` must have ended. The marker replaces the key, so that whoever watches sees it, and whoever
   * was away finds it.
   * @throws BackdoorsError ETCD_UNAVAILABLE, ETCD_REFUSED, PROTOCOL_ERROR; peers then go on watching this node
   */
  async leave(): Promise<void> {
    if (!this.#mayStand) return
    const giveUp = new AbortController()
    const timer = setTimeout(() => giveUp.abort(), leaveWithinMs)
    try {
      const { ID } = await this.#grant(leftSeconds, giveUp.signal)
      await this.#put(leftRecord, String(ID), giveUp.signal)
      // The key has another lease now. This one would end by itself; but the sooner, the fewer there are.
      if (this.#lease) await this.#options.gateway.call('/v3/lease/revoke', { ID: this.#lease.id }, anything, giveUp.signal).catch(() => undefined)
    } finally {
      clearTimeout(timer)
    }
  }

  async #register(): Promise<Lease> {
    const { leaseSeconds, value, signal } = this.#options
    this.#lostAt = 0n
    const { ID, TTL } = await this.#grant(leaseSeconds, signal)
    // etcd may grant a longer one than was asked for, if it takes long itself to elect a leader.
    const seconds = Math.min(Math.max(Number(TTL), 1), 3600)
    this.#mayStand = true
    const { header: { revision } } = await this.#put(value, String(ID), signal)
    this.#putAt = revision
    return { id: String(ID), renewEveryMs: (seconds * 1000) / renewalsPerLease }
  }

  /** @returns false where etcd knows the lease no more */
  async #renew({ id }: Lease): Promise<boolean> {
    const { gateway, signal } = this.#options
    const { result } = await gateway.call('/v3/lease/keepalive', { ID: id }, kept, signal)
    if (result === undefined) throw new BackdoorsError('ETCD_UNAVAILABLE', 'etcd does not renew the lease of this node.')
    return result.TTL > 0n
  }

  #grant(seconds: number, signal: AbortSignal): Promise<z.output<typeof granted>> {
    return this.#options.gateway.call('/v3/lease/grant', { TTL: String(seconds) }, granted, signal)
  }

  #put(value: Uint8Array, lease: string, signal: AbortSignal): Promise<z.output<typeof putAnswer>> {
    const { gateway, key } = this.#options
    return gateway.call('/v3/kv/put', { key: Buffer.from(key).toString('base64'), value: Buffer.from(value).toString('base64'), lease }, putAnswer, signal)
  }
}
