import { EventEmitter } from 'node:events'
import { asBackdoorsError, BackdoorsError } from '../errors.js'
import { noteStore } from '../recovery/adoption-notes.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { HeldStore } from '../region/session-writer.js'
import { checkWord, type SessionVersion } from '../region/session-record.js'
import type { Codec } from './codec.js'

export interface SessionStoreOptions<T> {
  /** Time to live after each commit, in milliseconds, a whole number below 2^32 (49 days). Default 0: without end. */
  readonly ttlMs?: number
  /** Version of the values' shape, a whole number below 2^32. Default 1. */
  readonly schemaVersion?: number
  /** Brings a value of another schema version up to date; without it such a value is SCHEMA_MISMATCH. */
  readonly migrate?: (value: unknown, fromVersion: number) => T
  /** Default: MessagePack. */
  readonly codec?: Codec<T>
}

/** Sessions that came over from a failed server. */
export interface Adopted {
  readonly from: string
  readonly ids: readonly string[]
}

/**
 * The sessions of one kind that this server keeps where a failure does not reach them. Ids are unique within a
 * store over the whole cluster.
 *
 * @example
 * const carts = node.sessions<Cart>('carts', { ttlMs: 3_600_000 })
 * carts.commit('u-17', cart)      // answer the client after this, not before
 * carts.on('adopted', ({ ids, from }) => log.info({ from }, `${ids.length} carts came over`))
 */
export class SessionStore<T> extends EventEmitter<{ adopted: [Adopted] }> {
  readonly name: string
  readonly #owner: BoxOwner
  readonly #store: HeldStore
  readonly #codec: Codec<T>
  readonly #migrate: ((value: unknown, fromVersion: number) => T) | undefined
  readonly #commitOptions: { readonly ttlMs: number; readonly schemaVersion: number }

  /** @throws BackdoorsError INVALID_ARGUMENT where the name, `ttlMs` or `schemaVersion` is none */
  constructor(owner: BoxOwner, name: string, codec: Codec<T>, options: SessionStoreOptions<T>) {
    super()
    const { ttlMs = 0, schemaVersion = 1 } = options
    if (name === noteStore) throw new BackdoorsError('INVALID_ARGUMENT', `The store name ${name} is the daemon's own.`, { field: 'name', store: name })
    checkWord('ttlMs', ttlMs)
    checkWord('schemaVersion', schemaVersion)
    this.name = name
    this.#owner = owner
    this.#store = owner.sessions.store(name)
    this.#codec = codec
    this.#migrate = options.migrate
    this.#commitOptions = { ttlMs, schemaVersion }
  }

  get size(): number {
    return this.#store.sessions.size
  }

  ids(): IterableIterator<string> {
    return this.#store.sessions.keys()
  }

  /**
   * Makes `value` the session's state, for this server and for whoever recovers it.
   * @throws BackdoorsError FENCED: another node serves this session now, the outcome is unknown, do not answer
   * the client. BOX_FULL, SESSION_TOO_LARGE, SESSION_ID_INVALID, INVALID_ARGUMENT: nothing has changed.
   * @param ttlMs of this session from this commit on, in the place of the store's
   */
  commit(id: string, value: T, ttlMs?: number): void {
    const options = ttlMs === undefined ? this.#commitOptions : { ...this.#commitOptions, ttlMs }
    this.#owner.sessions.commit(this.#store, id, this.#codec.encode(value), options)
  }

  /** For answers that come from reading alone. @throws BackdoorsError FENCED: what is read here may be old, do not answer */
  checkFence(): void {
    this.#owner.checkFence()
  }

  /** @throws BackdoorsError SCHEMA_MISMATCH, PAYLOAD_INVALID, RECORD_CORRUPT */
  get(id: string): T | undefined {
    const version = this.#owner.sessions.get(this.#store, id)
    return version === undefined ? undefined : this.#decode(version)
  }

  /** @returns whether there was such a session. @throws BackdoorsError FENCED */
  delete(id: string): boolean {
    return this.#owner.sessions.delete(this.#store, id)
  }

  #decode(version: SessionVersion): T {
    const { schemaVersion } = this.#commitOptions
    const about = { store: this.name, sessionId: version.id }
    let value: unknown
    try {
      value = this.#codec.decode(version.payload)
    } catch (error) {
      throw asBackdoorsError(error, 'PAYLOAD_INVALID', `The bytes of session ${version.id} are intact but do not decode; was it committed with another codec`, about)
    }
    if (version.schemaVersion === schemaVersion) return value as T
    if (this.#migrate) return this.#migrate(value, version.schemaVersion)
    throw new BackdoorsError('SCHEMA_MISMATCH', `Session ${version.id} of store ${this.name} has schema version ${version.schemaVersion}, this server expects ${schemaVersion}: give the store a "migrate" function.`, about)
  }
}
