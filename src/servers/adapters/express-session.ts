/**
 * A store for express-session, which @fastify/session takes as well. What a server answers after it has saved a
 * session is still true when another node serves it.
 */
import { Store, type SessionData } from 'express-session'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { SessionStore } from '../session-store.js'
import { Arrivals } from './arrivals.js'

/** As it is committed: when it ends (0 = with its store's time to live), its JSON, and its cookie's, where that was touched since. */
export type StoredSession = readonly [expiresAtMs: number, json: string, cookie?: string]

export interface BackdoorsStoreOptions {
  /** Of a session whose cookie has no end, in milliseconds from its last use. Default: a day. */
  readonly ttlMs?: number
  /**
   * How long a session that is not here is waited for, in milliseconds, before there is none: clients of a failed server
   * may come before their sessions do. Default 0. Requests with an id that nobody knows take so long.
   */
  readonly waitMs?: number
  /** Default: JSON. */
  readonly serializer?: { parse(text: string): SessionData; stringify(session: SessionData): string }
}

/** A record's time to live has 32 bits: 49 days. */
const longestTtlMs = 2 ** 32 - 1
const dayMs = 86_400_000

/**
 * Calls back before its methods return, but where a session is waited for; so express-session sends its answer in one piece.
 * Errors are those of `SessionStore`, given to the callback. Where one is FENCED, the connection of the request that asked is cut as well,
 * because express-session would answer in spite of the error.
 *
 * @example
 * app.use(session({ store: new BackdoorsStore(node.sessions('web')), secret, resave: false, saveUninitialized: false }))
 */
export class BackdoorsStore extends Store {
  readonly #sessions: SessionStore<StoredSession>
  readonly #arrivals: Arrivals
  readonly #ttlMs: number
  readonly #waitMs: number
  readonly #serializer: { parse(text: string): SessionData; stringify(session: SessionData): string }

  /** @param sessions all of this store's; give it no other use */
  constructor(sessions: SessionStore<StoredSession>, options: BackdoorsStoreOptions = {}) {
    super()
    const { ttlMs = dayMs, waitMs = 0, serializer = JSON } = options
    if (!(ttlMs >= 1)) throw new BackdoorsError('INVALID_ARGUMENT', 'ttlMs must be a positive number of milliseconds.', { field: 'ttlMs' })
    this.#sessions = sessions
    this.#arrivals = new Arrivals(sessions as unknown as SessionStore<never>)
    this.#ttlMs = ttlMs
    this.#waitMs = waitMs
    this.#serializer = serializer
  }

  get(sid: string, callback: (error: unknown, session?: SessionData | null) => void): void {
    const here = outcomeOf(() => this.#find(sid), sid)
    if (here.value !== undefined || here.error !== undefined || !(this.#waitMs > 0)) {
      callback(here.error ?? null, here.value ?? null)
      return
    }
    // A throw of the callback's is its own: it must not come back to it as an error of this store.
    void this.#arrivals.find(() => this.#find(sid), this.#waitMs).then(
      (session) => process.nextTick(callback, null, session ?? null),
      (error: unknown) => process.nextTick(callback, unreadable(error, sid)),
    )
  }

  set(sid: string, session: SessionData, callback?: (error?: unknown) => void): void {
    this.#commit(sid, session, callback, () => [endOf(session), this.#textOf(sid, session)])
  }

  /** Its time to live begins anew, and its cookie becomes this one; its data stay, and are not looked into. */
  override touch(sid: string, session: SessionData, callback?: (error?: unknown) => void): void {
    this.#commit(sid, session, callback, () => {
      this.#sessions.checkFence()
      const stored = this.#live(sid)
      return stored === undefined ? undefined : [endOf(session), stored[1], JSON.stringify(session.cookie)]
    })
  }

  destroy(sid: string, callback?: (error?: unknown) => void): void {
    const { error } = outcomeOf(() => this.#sessions.delete(sid), sid)
    callback?.(error ?? null)
  }

  /** By their ids, as express-session's own store. */
  override all(callback: (error: unknown, sessions?: Record<string, SessionData> | null) => void): void {
    const { value, error } = outcomeOf(() => {
      const found = Object.create(null) as Record<string, SessionData>
      for (const sid of [...this.#sessions.ids()]) {
        const session = this.#find(sid)
        if (session !== undefined) found[sid] = session
      }
      return found
    })
    callback(error ?? null, value ?? null)
  }

  /** Of those that live. Looks at each. */
  override length(callback: (error: unknown, length?: number) => void): void {
    const { value, error } = outcomeOf(() => [...this.#sessions.ids()].filter((sid) => this.#live(sid) !== undefined).length)
    callback(error ?? null, value)
  }

  override clear(callback?: (error?: unknown) => void): void {
    const { error } = outcomeOf(() => {
      for (const sid of [...this.#sessions.ids()]) this.#sessions.delete(sid)
    })
    callback?.(error ?? null)
  }

  #find(sid: string): SessionData | undefined {
    // What another node serves by now must not be answered from here, be it only read.
    this.#sessions.checkFence()
    const stored = this.#live(sid)
    if (stored === undefined) return undefined
    const session = this.#serializer.parse(stored[1])
    if (stored[2] !== undefined) session.cookie = JSON.parse(stored[2]) as SessionData['cookie']
    return session
  }

  #textOf(sid: string, session: SessionData): string {
    try {
      return this.#serializer.stringify(session)
    } catch (error) {
      throw unwritable(error, sid)
    }
  }

  #live(sid: string): StoredSession | undefined {
    const stored = this.#sessions.get(sid)
    return stored === undefined || (stored[0] !== 0 && stored[0] <= Date.now()) ? undefined : stored
  }

  #commit(sid: string, session: SessionData, callback: ((error?: unknown) => void) | undefined, make: () => StoredSession | undefined): void {
    const { error } = outcomeOf(() => {
      const stored = make()
      if (stored === undefined) return
      const leftMs = stored[0] === 0 ? this.#ttlMs : stored[0] - Date.now()
      if (leftMs > 0) this.#sessions.commit(sid, stored, Math.min(Math.ceil(leftMs), longestTtlMs))
      else this.#sessions.delete(sid)
    }, sid)
    if (isBackdoorsError(error, 'FENCED')) cut(session)
    callback?.(error ?? null)
  }
}

/** When the session's cookie ends, in milliseconds since the epoch; 0 where it has no end. */
function endOf({ cookie }: SessionData): number {
  const { expires } = cookie as { expires?: Date | string | number | null | boolean }
  if (expires === undefined || expires === null || typeof expires === 'boolean') return 0
  const end = expires instanceof Date ? expires.getTime() : new Date(expires).getTime()
  return Number.isNaN(end) ? 0 : end
}

/** express-session's sessions know their request, and it sends its answer whether a session could be saved or not. */
function cut(session: SessionData): void {
  const { req } = session as { req?: { socket?: { destroy?(): void } } }
  req?.socket?.destroy?.()
}

function outcomeOf<T>(run: () => T, sid?: string): { value?: T; error?: BackdoorsError } {
  try {
    return { value: run() }
  } catch (error) {
    return { error: unreadable(error, sid) }
  }
}

const unreadable = (error: unknown, sid = ''): BackdoorsError => asBackdoorsError(error, 'PAYLOAD_INVALID', `Session ${sid} is intact but is no text of this serializer`, { sessionId: sid })
const unwritable = (error: unknown, sid: string): BackdoorsError => asBackdoorsError(error, 'INVALID_ARGUMENT', `Session ${sid} cannot be made text`, { sessionId: sid })
