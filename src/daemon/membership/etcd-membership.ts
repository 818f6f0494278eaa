/**
 * Membership by etcd: every node registers itself, and learns of the others.
 *
 * A node's key stands under `PREFIX/CLUSTER/NODE` with a lease, so that etcd does not keep what nobody stands behind. But the end of a lease ends no
 * membership here: a node whose lease has ended is silent, and a silent node is the very one that has to be watched and recovered. (Were it
 * dropped, a dead node would be forgotten in the midst of its recovery, and a monitor's verdict would rest on etcd's.) Its peers go on with what
 * they know of it until it leaves in order: its daemon, when it is told to end, replaces the record by the marker `{"left":true}`. For a node that
 * will never come back, an operator puts that marker. So only two things are taken from etcd: who is there, and who has left; never who is dead.
 *
 * While etcd does not answer, or answers nonsense, the last membership stays in force. Everything that etcd holds is hostile: a record
 * that is invalid or clashes with others is passed over and reported, and spoils no other. Who somebody is, is proven by certificates;
 * whoever can write into etcd can make nodes watch, or cease to watch, and no more.
 */
import { z } from 'zod'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import { systemClock, type Clock } from '../../fabric/enrollment/clock.js'
import { defaultBackoff, type BackoffOptions } from '../../fabric/enrollment/enroller.js'
import type { DaemonConfig, PeerConfig } from '../config.js'
import { check, EtcdGateway, int64 } from './etcd-gateway.js'
import { EtcdRegistration } from './etcd-registration.js'
import type { EtcdConfig } from './membership-config.js'
import type { Membership, MembershipEvents } from './membership.js'
import { nodeOfKey, ownRecord, parseRecord, peersOf } from './member-record.js'
import { Pacer } from './pacer.js'
import { Roster } from './roster.js'

/** More keys than there can be members and markers of those that left; what is beyond them is not read. */
const maxKeys = 4096
/** So often all keys are read, whatever the watch says: a member of etcd that is cut off from the others tells nothing and says nothing. */
const defaultResyncMs = 60_000

const bytes = z.string().max(8 << 20).regex(/^[A-Za-z0-9+/]*={0,2}$/).default('').transform((text) => Buffer.from(text, 'base64'))
const keyValue = z.object({ key: bytes, value: bytes, create_revision: int64, mod_revision: int64 })
const listing = z.object({ header: z.object({ revision: int64 }), kvs: z.array(keyValue).max(maxKeys).default([]), more: z.boolean().default(false) })
const watched = z.object({
  result: z.object({ canceled: z.boolean().default(false), events: z.array(z.object({ type: z.enum(['PUT', 'DELETE']).default('PUT'), kv: keyValue })).default([]) }).optional(),
  error: z.unknown().optional(),
})

type KeyValue = z.output<typeof keyValue>

export interface EtcdMembershipOptions {
  readonly clock?: Clock
  /** As `Math.random`. */
  readonly random?: () => number
  readonly backoff?: Partial<BackoffOptions>
  readonly resyncMs?: number
  /** How long one endpoint may take to answer, in milliseconds. */
  readonly timeoutMs?: number
}

export class EtcdMembership implements Membership {
  readonly source = 'etcd'
  readonly #config: DaemonConfig
  readonly #events: MembershipEvents
  readonly #prefix: string
  readonly #own: Buffer
  readonly #gateway: EtcdGateway
  readonly #registration: EtcdRegistration
  readonly #roster: Roster
  readonly #pacer: Pacer
  readonly #resyncMs: number
  readonly #closing = new AbortController()
  /** What is wrong with either half of the work. */
  readonly #troubles = new Map<'following' | 'registering', BackdoorsError>()
  /** Keys whose record was refused, and reported. */
  readonly #refused = new Set<string>()
  #current: readonly PeerConfig[]
  #hasListed = false
  #running: Promise<unknown> | undefined
  #closed: Promise<void> | undefined

  constructor(etcd: EtcdConfig, config: DaemonConfig, events: MembershipEvents, { clock = systemClock, random = Math.random, backoff = {}, resyncMs = defaultResyncMs, timeoutMs }: EtcdMembershipOptions = {}) {
    this.#config = config
    this.#events = events
    this.#prefix = `${etcd.prefix}/${config.cluster}/`
    this.#own = Buffer.from(ownRecord(etcd, config))
    this.#resyncMs = resyncMs
    this.#gateway = new EtcdGateway(etcd, timeoutMs === undefined ? {} : { timeoutMs })
    const { signal } = this.#closing
    const pacer = (): Pacer => new Pacer({ clock, random, backoff: { ...defaultBackoff, ...backoff }, signal })
    this.#pacer = pacer()
    this.#registration = new EtcdRegistration({
      gateway: this.#gateway, key: this.#prefix + config.node, value: this.#own, leaseSeconds: etcd.leaseSeconds, pacer: pacer(), signal,
      onTrouble: (error) => this.#inTrouble('registering', error),
      onWell: () => this.#isWell('registering'),
    })
    this.#roster = new Roster(config.node, config.peers)
    this.#current = this.#roster.peers
  }

  get current(): readonly PeerConfig[] {
    return this.#current
  }

  /** A node whose record is refused, and of which nothing was known before, is there all the same. */
  get isKnown(): boolean {
    const isMissing = (name: string | undefined): boolean => name !== undefined && name !== this.#config.node && !this.#roster.has(name)
    return this.#hasListed && ![...this.#refused].some((path) => isMissing(nodeOfKey(path, this.#prefix)))
  }

  get trouble(): BackdoorsError | undefined {
    return this.#troubles.get('following') ?? this.#troubles.get('registering')
  }

  start(): void {
    if (this.#closing.signal.aborted) return
    this.#running ??= Promise.all([this.#registration.run(), this.#follow()])
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    await this.#running
    await this.#registration.leave().catch((error: unknown) => this.#events.onNote('etcd could not be told that this node leaves; its peers go on watching it', { err: error }))
  }

  /** Reads all keys, then hears of every change; and from the beginning whenever it may have missed one. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        const revision = await this.#list()
        this.#isWell('following')
        this.#pacer.started()
        if (await this.#watch(revision + 1n)) this.#pacer.succeeded()
        else await this.#pacer.afterFailure()
      } catch (error) {
        if (signal.aborted) return
        this.#inTrouble('following', error)
        await this.#pacer.afterFailure()
      }
    }
  }

  async #list(): Promise<bigint> {
    const { header: { revision }, kvs, more } = await this.#gateway.call('/v3/kv/range', { ...this.#range(), limit: maxKeys }, listing, this.#closing.signal)
    if (more) this.#refuse(this.#prefix, new BackdoorsError('MEMBER_INVALID', `There are more than ${maxKeys} keys in etcd under ${this.#prefix}; some are not read.`, { path: this.#prefix }))
    const names = new Set<string>()
    // Of two that clash, all nodes let in the one that was there first.
    for (const kv of kvs.sort((a, b) => Number(a.create_revision - b.create_revision))) names.add(this.#onPut(kv) ?? '')
    if (!names.has(this.#config.node)) this.#registration.lost(revision)
    this.#hasListed = true
    this.#update()
    return revision
  }

  /** @returns true when it is time to read all keys again, false when etcd cannot tell all changes any more: they have been compacted */
  async #watch(from: bigint): Promise<boolean> {
    const again = new AbortController()
    const stop = (): void => again.abort()
    const timer = setTimeout(stop, this.#resyncMs)
    this.#closing.signal.addEventListener('abort', stop)
    let wasCancelled = false
    try {
      await this.#gateway.watch({ create_request: { ...this.#range(), start_revision: String(from) } }, (message) => {
        wasCancelled = !this.#onMessage(message)
        return !wasCancelled
      }, again.signal)
    } catch (error) {
      if (!isBackdoorsError(error, 'CLOSED')) throw error
    } finally {
      clearTimeout(timer)
      this.#closing.signal.removeEventListener('abort', stop)
    }
    return !wasCancelled
  }

  #range(): { key: string; range_end: string } {
    // All keys that begin with the prefix: up to the one that ends in the character after "/".
    const end = `${this.#prefix.slice(0, -1)}0`
    return { key: Buffer.from(this.#prefix).toString('base64'), range_end: Buffer.from(end).toString('base64') }
  }

  /** @returns whether the watch goes on */
  #onMessage(message: unknown): boolean {
    const { result, error } = check(watched, message, 'the watch')
    if (result === undefined) throw new BackdoorsError('ETCD_UNAVAILABLE', `etcd has ended the watch: ${JSON.stringify(error ?? null).slice(0, 300)}`)
    for (const { type, kv } of result.events) {
      if (type === 'PUT') this.#onPut(kv)
      else this.#onGone(kv)
    }
    this.#update()
    return !result.canceled
  }

  /** @returns the node, where the key is one's */
  #onPut({ key, value, mod_revision }: KeyValue): string | undefined {
    const path = key.toString('utf8')
    const { node } = this.#config
    const name = nodeOfKey(path, this.#prefix)
    try {
      if (name === undefined) throw new BackdoorsError('MEMBER_INVALID', `The key ${JSON.stringify(path.slice(0, 200))} in etcd ends in no name of a node.`, { path: path.slice(0, 200) })
      const record = parseRecord(value, path)
      if (name === node) this.#onOwn(value, 'left' in record, mod_revision)
      else if ('left' in record) this.#onLeft(name)
      else this.#roster.put(name, peersOf(name, record, this.#config, path))
      this.#refused.delete(path)
    } catch (error) {
      this.#refuse(path, asBackdoorsError(error, 'MEMBER_INVALID', `the record ${path}`, { path }))
    }
    return name
  }

  /** Somebody may have marked this node as one that left, in error or late; it is here. */
  #onOwn(value: Buffer, hasLeft: boolean, revision: bigint): void {
    if (hasLeft) return this.#registration.lost(revision)
    const { putAt } = this.#registration
    // What stood there before is the last life's of this daemon.
    if (value.equals(this.#own) || putAt === 0n || revision <= putAt) return
    throw new BackdoorsError('MEMBER_INVALID', `Somebody else registers in etcd as node ${this.#config.node}: ${value.toString('utf8').slice(0, 300)}`, { peer: this.#config.node })
  }

  #onLeft(name: string): void {
    if (this.#roster.delete(name)) this.#events.onNote('this node has left the cluster in order', { peer: name })
  }

  /** A lease has ended, or somebody has deleted the key: neither says that the node has left. */
  #onGone({ key, mod_revision }: KeyValue): void {
    const name = nodeOfKey(key.toString('utf8'), this.#prefix)
    if (name === this.#config.node) this.#registration.lost(mod_revision)
    else if (name !== undefined && this.#roster.has(name)) this.#events.onNote('this node\'s lease in etcd has ended; it is watched on, as it has not left in order', { peer: name })
  }

  #update(): void {
    const peers = this.#roster.peers
    if (JSON.stringify(peers) === JSON.stringify(this.#current)) return
    this.#current = peers
    this.#events.onChange()
  }

  /** Once for each key, until it is good; and not without end, whatever is written. */
  #refuse(path: string, error: BackdoorsError): void {
    if (this.#refused.has(path) || this.#refused.size >= maxKeys) return
    this.#refused.add(path)
    this.#events.onTrouble(error)
  }

  #inTrouble(which: 'following' | 'registering', error: unknown): void {
    const isNew = this.#troubles.size === 0
    const trouble = asBackdoorsError(error, 'ETCD_UNAVAILABLE', `${which} in etcd`)
    this.#troubles.set(which, trouble)
    if (isNew) this.#events.onTrouble(trouble)
  }

  #isWell(which: 'following' | 'registering'): void {
    if (this.#troubles.delete(which) && this.#troubles.size === 0) this.#events.onWell()
  }
}
