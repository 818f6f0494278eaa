import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { applied, type Reply, type Request, type SessionState } from './protocol.js'
import { SessionServer } from './session-server.js'

class Played {
  readonly states = new Map<string, SessionState>()
  fenced = false
  fencedAtCommit = false
  told = 0
  readonly server = new SessionServer({
    node: 'a',
    sessions: {
      get: (id) => this.states.get(id),
      commit: (id, state) => {
        this.states.set(id, state)
        if (this.fencedAtCommit) throw new BackdoorsError('FENCED', 'fenced between the two looks at the fence')
      },
    },
    isFenced: () => this.fenced,
    onFenced: () => this.told++,
  })

  apply(n: number, text = `request ${n}`, open = n === 1): Reply {
    return this.server.answer({ kind: 'apply', id: 1, session: 's1', n, text, open })
  }
}

const show: Request = { kind: 'show', id: 1, session: 's1' }

describe('the demo\'s server', () => {
  it('applies each request once, and answers again what it is asked again', () => {
    const played = new Played()
    const first = applied(undefined, 'request 1', 'a')
    expect(played.apply(1)).toEqual({ kind: 'ok', state: first })
    expect(played.apply(1)).toEqual({ kind: 'ok', state: first })
    const second = applied(first, 'request 2', 'a')
    expect(played.apply(2)).toEqual({ kind: 'ok', state: second })
    expect(played.server.answer(show)).toEqual({ kind: 'ok', state: second })
  })

  it('refuses a request out of turn, and knows nothing of a session that was not made here', () => {
    const played = new Played()
    expect(played.apply(1, 'request 1', false)).toEqual({ kind: 'unknown' })
    expect(played.apply(2)).toEqual({ kind: 'unknown' })
    expect(played.server.answer(show)).toEqual({ kind: 'unknown' })
    played.apply(1)
    expect(played.apply(3)).toEqual({ kind: 'refused', n: 1 })
  })

  it('says that a session is broken which is no state', () => {
    const played = new Played()
    played.states.set('s1', { n: 'one' } as unknown as SessionState)
    expect(played.apply(2)).toEqual({ kind: 'broken', code: 'NO_SESSION_STATE' })
  })

  it('acknowledges nothing that was committed into the fence', () => {
    const played = new Played()
    played.fencedAtCommit = true
    expect(played.apply(1)).toEqual({ kind: 'fenced' })
    expect(played.told).toBe(1)
  })

  it('answers nobody once it is fenced, not even what needs no commit', () => {
    const played = new Played()
    played.apply(1)
    played.fenced = true
    expect(played.server.answer(show)).toEqual({ kind: 'fenced' })
    played.fenced = false
    expect(played.apply(1)).toEqual({ kind: 'fenced' })
    expect(played.told).toBe(1)
  })
})
