import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { enroll, type EnrolledConnection, type RequestHandlers } from '../../fabric/enrollment/index.js'
import { eventually, TestAuthority, TestServer } from '../../fabric/enrollment/testing/fixtures.js'
import type { NodeVerdictKind } from '../../monitor/verdict.js'
import { lookWithinMs, observeHandler, observeMethod, Observers, opinionTimeoutMs, type Observed, type ObserverChannel } from './observers.js'

/** Longer than any machine is slow; nothing that passes waits for it. In milliseconds. */
const patienceMs = 60_000
const context = { peer: 'b', signal: new AbortController().signal }
const seen = (kind: NodeVerdictKind, look: Observed['look']): Observed => ({ verdict: { kind }, look })
const ask = (observed: Observed | undefined, body: unknown = { node: 'a' }, withinMs = patienceMs): unknown => observeHandler(() => observed, withinMs)(body, context)

describe('a node that is asked', () => {
  it.each<[string, Observed | undefined, object]>([
    ['reads it', seen('alive', () => Promise.resolve(true)), { sees: 'sees-alive', verdict: 'alive' }],
    ['reads it, though it has failed', seen('os-stalled', () => Promise.resolve(true)), { sees: 'sees-alive', verdict: 'os-stalled' }],
    ['reads it again, and has not judged it anew', seen('unreachable', () => Promise.resolve(true)), { sees: 'sees-alive', verdict: 'unreachable' }],
    ['hears its machine, though not its memory', seen('daemon-lost', () => Promise.resolve(false)), { sees: 'sees-alive', verdict: 'daemon-lost' }],
    ['cannot read it, and has found it unreachable', seen('unreachable', () => Promise.resolve(false)), { sees: 'sees-unreachable', verdict: 'unreachable' }],
    ['cannot read it, and knows of another that can', seen('link-cut', () => Promise.resolve(false)), { sees: 'sees-unreachable', verdict: 'link-cut' }],
    ['cannot read it just now, and does not know what that means', seen('alive', () => Promise.resolve(false)), { sees: 'undecided', verdict: 'alive' }],
    ['fails at reading it', seen('unreachable', () => Promise.reject(new Error('no'))), { sees: 'sees-unreachable', verdict: 'unreachable' }],
    ['has never been lent anything by it', seen('alive', () => undefined), { sees: 'does-not-watch' }],
    ['does not watch it', undefined, { sees: 'does-not-watch' }],
  ])('%s', async (_, observed, answer) => {
    expect(await ask(observed)).toEqual(answer)
  })

  it('does not wait for a read for ever', async () => {
    expect(await ask(seen('unreachable', () => new Promise(() => undefined)), { node: 'a' }, 1)).toEqual({ sees: 'sees-unreachable', verdict: 'unreachable' })
  })

  it('reads once for all who ask at a time, and anew for who asks later', async () => {
    let reads = 0
    const handler = observeHandler(() => seen('alive', () => Promise.resolve(++reads > 0)), patienceMs)
    await Promise.all(Array.from({ length: 32 }, () => handler({ node: 'a' }, context)))
    expect(reads).toBe(1)
    await handler({ node: 'a' }, context)
    expect(reads).toBe(2)
  })

  it.each([null, 'a', {}, { node: 7 }, { node: '' }, { node: 'A' }, { node: 'x'.repeat(64) }, { node: '127.0.0.1' }, { node: 'a', more: 1 }])('refuses %j', async (body) => {
    await expect(ask(seen('alive', () => Promise.resolve(true)), body)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('answers', () => {
  const channel = (answer: () => unknown): ObserverChannel => ({ request: async () => answer() })
  const opinionsOf = (channels: Record<string, ObserverChannel>) => new Observers(() => new Map(Object.entries(channels)), patienceMs).ask('a')

  it('are taken from everybody but the node itself', async () => {
    expect(await opinionsOf({ a: channel(() => ({ sees: 'sees-alive' })), c: channel(() => ({ sees: 'sees-unreachable', verdict: 'unreachable' })), d: channel(() => ({ sees: 'does-not-watch' })) })).toEqual([
      { by: 'c', sees: 'sees-unreachable', verdict: 'unreachable' }, { by: 'd', sees: 'does-not-watch' },
    ])
  })

  it.each([undefined, null, true, [], {}, { sees: 'everything' }, { sees: 'sees-unreachable', verdict: 'dead' }, { sees: 'sees-alive', by: 'somebody else' }, { sees: 'no-answer' }, { answers: true }, 'x'.repeat(60_000)])(
    'that are none are none: %.40j', async (answer) => {
      expect(await opinionsOf({ c: channel(() => answer) })).toEqual([{ by: 'c', sees: 'no-answer' }])
    })

  it('that do not come are none', async () => {
    const fail = (code: 'TIMEOUT' | 'CLOSED' | 'INVALID_ARGUMENT'): ObserverChannel => channel(() => {
      throw new BackdoorsError(code, 'no')
    })
    expect(await opinionsOf({ c: fail('TIMEOUT'), d: fail('CLOSED'), e: fail('INVALID_ARGUMENT') })).toMatchObject([{ sees: 'no-answer' }, { sees: 'no-answer' }, { sees: 'no-answer' }])
  })

  it('are asked of sixteen at most', async () => {
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`n${i}`, channel(() => ({ sees: 'does-not-watch' }))]))
    expect(await opinionsOf(many)).toHaveLength(16)
  })

  it('are waited for longer than a read may take, and that is bounded', () => {
    expect([lookWithinMs(500), opinionTimeoutMs(500)]).toEqual([500, 1000])
    expect([lookWithinMs(600_000), opinionTimeoutMs(600_000)]).toEqual([5000, 5500])
  })
})

describe('over the control connection', () => {
  let authority: TestAuthority
  let server: TestServer
  let here: EnrolledConnection
  beforeAll(async () => {
    authority = await TestAuthority.make()
  })
  afterAll(() => authority.remove())

  async function connect(atServer: RequestHandlers, atClient: RequestHandlers): Promise<void> {
    server = await new TestServer(await authority.credentials('db-1'), ['web-1'], { handlers: atServer }).start()
    here = await enroll(server.toEnroll(await authority.credentials('web-1'), { handlers: atClient }))
    await eventually(() => expect(server.server.connections.size).toBe(1))
  }
  afterEach(async () => {
    await here.close()
    await server.server.close()
  })

  const handlers = (kind: NodeVerdictKind, isRead: boolean): RequestHandlers => new Map([[observeMethod, observeHandler((node) => (node === 'a' ? seen(kind, () => Promise.resolve(isRead)) : undefined), patienceMs)]])

  it('both sides can ask, whoever made it', async () => {
    await connect(handlers('alive', true), handlers('unreachable', false))
    expect(await new Observers(() => new Map([['db-1', here]]), patienceMs).ask('a')).toEqual([{ by: 'db-1', sees: 'sees-alive', verdict: 'alive' }])
    expect(await new Observers(() => server.server.connections, patienceMs).ask('a')).toEqual([{ by: 'web-1', sees: 'sees-unreachable', verdict: 'unreachable' }])
    expect(await new Observers(() => server.server.connections, patienceMs).ask('q')).toEqual([{ by: 'web-1', sees: 'does-not-watch' }])
  })

  it('a release that does not know the question gives no answer, and stays connected', async () => {
    await connect(new Map(), new Map())
    expect(await new Observers(() => new Map([['db-1', here]]), patienceMs).ask('a')).toEqual([{ by: 'db-1', sees: 'no-answer' }])
    await expect(here.request(observeMethod, { node: 'a' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  it('who has gone gives none', async () => {
    await connect(handlers('alive', true), new Map())
    await here.close()
    expect(await new Observers(() => new Map([['db-1', here]]), patienceMs).ask('a')).toEqual([{ by: 'db-1', sees: 'no-answer' }])
  })
})
