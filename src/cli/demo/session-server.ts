/** What the demo's example server does with a request; its process is in `server.ts`. */
import { isBackdoorsError } from '../../errors.js'
import { applied, isSessionState, type Reply, type Request, type SessionState } from './protocol.js'

/** What it needs of a session store of `attach`. */
export interface Sessions {
  get(id: string): SessionState | undefined
  commit(id: string, state: SessionState): void
}

export interface SessionServerOptions {
  readonly node: string
  readonly sessions: Sessions
  /** Has this server been fenced? */
  readonly isFenced: () => boolean
  /** Called once, when it stops serving. */
  readonly onFenced: () => void
}

/** Applies each request of a session exactly once, and answers after the commit. Once fenced it serves nobody. */
export class SessionServer {
  readonly #options: SessionServerOptions
  #stopped = false

  constructor(options: SessionServerOptions) {
    this.#options = options
  }

  answer(request: Request): Reply {
    if (this.#stopped) return { kind: 'fenced' }
    try {
      const reply = this.#serve(request)
      // An answer that needed no commit has not met the fence yet.
      if (!this.#options.isFenced()) return reply
      return this.stop()
    } catch (error) {
      if (isBackdoorsError(error, 'FENCED')) return this.stop()
      if (isBackdoorsError(error)) return { kind: 'broken', code: error.code }
      throw error
    }
  }

  stop(): Reply {
    if (!this.#stopped) this.#options.onFenced()
    this.#stopped = true
    return { kind: 'fenced' }
  }

  #serve(request: Request): Reply {
    const { node, sessions } = this.#options
    const state = sessions.get(request.session)
    if (state !== undefined && !isSessionState(state)) return { kind: 'broken', code: 'NO_SESSION_STATE' }
    if (request.kind === 'show') return state ? { kind: 'ok', state } : { kind: 'unknown' }
    const { n, text, open } = request
    if (state === undefined && !(open && n === 1)) return { kind: 'unknown' }
    // Asked again, because the answer was lost: it has been applied, and is not applied twice.
    if (state?.n === n) return { kind: 'ok', state }
    if (n !== (state?.n ?? 0) + 1) return { kind: 'refused', n: state?.n ?? 0 }
    const next = applied(state, text, node)
    sessions.commit(request.session, next)
    return { kind: 'ok', state: next }
  }
}
