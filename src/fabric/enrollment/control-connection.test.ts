import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { enroll } from './client.js'
import type { EnrolledConnection } from './client.js'
import type { ControlConnection } from './control-connection.js'
import type { Credentials } from './credentials.js'
import { encodeFrame, FrameDecoder } from './framing.js'
import type { RequestHandler } from './requests.js'
import { eventually, helloFrame, rawClient, readToEnd, TestAuthority, TestServer } from './testing/fixtures.js'
import { ManualClock } from './testing/manual-clock.js'

let authority: TestAuthority
let lender: Credentials
let watcher: Credentials
beforeAll(async () => {
  authority = await TestAuthority.make()
  lender = await authority.credentials('db-1')
  watcher = await authority.credentials('web-1')
})
afterAll(async () => authority.remove())

const handlers = new Map<string, RequestHandler>([
  ['echo', (body) => body],
  ['whoAsks', (_, { peer }) => peer],
  ['nothing', () => undefined],
  ['never', () => new Promise(() => undefined)],
  ['fenced', () => Promise.reject(new BackdoorsError('FENCED', 'this node is fenced'))],
  ['corrupt', () => Promise.reject(new BackdoorsError('RECORD_CORRUPT', 'a record is corrupt'))],
  ['broken', () => Promise.reject(new Error('secret: /etc/backdoors'))],
  ['huge', () => 'x'.repeat(70_000)],
  ['bigint', () => 1n],
])
const limits = { pingIntervalMs: 1000, silentAfterMs: 3000, closeTimeoutMs: 500, maxRequests: 4 }

let node: TestServer
let hereClock: ManualClock
let thereClock: ManualClock
let here: EnrolledConnection
let there: ControlConnection
beforeEach(async () => {
  hereClock = new ManualClock()
  thereClock = new ManualClock()
  node = await new TestServer(lender, ['web-1'], { handlers, limits, clock: thereClock }).start()
  const arrival = once(node.server, 'enrolled')
  here = await enroll(node.toEnroll(watcher, { handlers, limits, clock: hereClock }))
  ;[, there] = (await arrival) as [string, ControlConnection]
})
afterEach(async () => {
  here.dismiss('the test is over')
  const closing = node.server.close()
  thereClock.advance(limits.closeTimeoutMs)
  await closing
})

/** A peer that has enrolled and then does as it is told. */
async function rawPeer(below?: Socket): Promise<TLSSocket> {
  const before = there.closed
  const socket = await rawClient(node, await authority.reload('web-1'), below === undefined ? {} : { socket: below })
  const arrival = once(node.server, 'enrolled')
  socket.write(helloFrame('web-1'))
  ;[, there] = (await arrival) as [string, ControlConnection]
  await before
  return socket
}

describe('keep-alive', () => {
  test('a ping is answered, both ways, and its round trip known', async () => {
    expect(here.roundTripMs).toBeUndefined()
    hereClock.advance(1000)
    thereClock.advance(1000)
    await eventually(() => expect([here.roundTripMs, there.roundTripMs]).toEqual([0, 0]))
  })

  test('an answer speaks for the time when it was asked for, not for when it was read', async () => {
    expect(here.answeredAgoMs).toBe(Infinity)
    hereClock.advance(1000)
    hereClock.advance(400)
    await eventually(() => expect(here.answeredAgoMs).toBe(400))
    expect(here.roundTripMs).toBe(400)
  })

  test('time in which this process did not run makes no answer younger', async () => {
    const socket = await rawPeer()
    socket.pause()
    thereClock.leap(60_000)
    expect(there.answeredAgoMs).toBe(Infinity)
    socket.destroy()
  })

  test('a peer that is heard is not silent, however long it lasts', async () => {
    for (let round = 0; round < 10; round += 1) {
      // As the peer's side is moved on its pings come, and are heard before this side's time goes on.
      const pings = eventually(() => expect(there.roundTripMs).toBe(0))
      thereClock.advance(1000)
      await pings
      await here.request('echo', round)
      hereClock.advance(1000)
    }
    expect(await Promise.race([here.closed, Promise.resolve('open')])).toBe('open')
  })

  test('a peer that is not heard for the deadline is silent', async () => {
    const socket = await rawPeer()
    socket.pause()
    thereClock.advance(2999)
    expect(node.server.connections.has('web-1')).toBe(true)
    thereClock.advance(1)
    expect(await there.closed).toMatchObject({ reason: 'silent', by: 'peer', lastHeardAgoMs: 3000 })
    socket.destroy()
  })

  test('dripping bytes that make no message is silence', async () => {
    const socket = await rawPeer()
    socket.write(Buffer.from([0, 0, 1]))
    for (let tick = 0; tick < 3; tick += 1) {
      socket.write(Buffer.from([1]))
      thereClock.advance(1000)
    }
    expect(await there.closed).toMatchObject({ reason: 'silent' })
    socket.destroy()
  })

  test('time in which this process did not run is not held against the peer', async () => {
    hereClock.leap(60_000)
    expect(await Promise.race([here.closed, Promise.resolve('open')])).toBe('open')
    await eventually(() => expect(here.roundTripMs).toBe(0))
  })
})

describe('the end of a connection is told apart', () => {
  test('with a bye: orderly, and both know who said it', async () => {
    await Promise.all([here.close('going home'), here.close()])
    expect(await here.closed).toMatchObject({ reason: 'closed-orderly', by: 'us', detail: 'going home' })
    expect(await there.closed).toMatchObject({ reason: 'closed-orderly', by: 'peer', detail: 'going home' })
  })

  test('with a bye from both at once: orderly', async () => {
    await Promise.all([here.close(), there.close()])
    expect([(await here.closed).reason, (await there.closed).reason]).toEqual(['closed-orderly', 'closed-orderly'])
  })

  test('with an end (FIN) that nobody announced: reset', async () => {
    const socket = await rawPeer()
    socket.end()
    expect(await there.closed).toMatchObject({ reason: 'reset', by: 'peer' })
  })

  test('with an abort (RST), in the middle of a frame: reset', async () => {
    const below = connect(node.address)
    const socket = await rawPeer(below)
    await new Promise((resolve) => socket.write(Buffer.from([0, 0]), resolve))
    below.resetAndDestroy()
    expect(await there.closed).toMatchObject({ reason: 'reset', by: 'peer' })
  })

  test.each([
    ['a message that there is not', encodeFrame({ type: 'format-disk' }), 'PROTOCOL_ERROR'],
    ['a second hello', helloFrame('web-1'), 'PROTOCOL_ERROR'],
    ['too large a message', Buffer.from('7fffffff', 'hex'), 'MESSAGE_TOO_LARGE'],
  ])('with %s: misbehaved', async (_, bytes, code) => {
    const socket = await rawPeer()
    socket.write(bytes)
    expect(await there.closed).toMatchObject({ reason: 'misbehaved', by: 'us', error: { code } })
  })

  test('with a peer that asks without end and takes no answer: cut off before much waits for it', async () => {
    const socket = await rawPeer()
    socket.pause()
    const ask = encodeFrame({ type: 'request', id: 1, method: 'echo', body: 'x'.repeat(60_000) })
    const over = there.closed.then(() => true)
    while (!(await Promise.race([over, new Promise((resolve) => setImmediate(resolve, false))]))) {
      if (!socket.writableNeedDrain) socket.write(ask)
    }
    expect(await there.closed).toMatchObject({ reason: 'silent', by: 'us' })
    socket.destroy()
  })

  test('a bye that the peer does not take is waited for no longer than the close time-out', async () => {
    const socket = await rawPeer()
    socket.pause()
    const closing = there.close()
    thereClock.advance(500)
    await closing
    expect(await there.closed).toMatchObject({ reason: 'closed-orderly', by: 'us' })
    socket.destroy()
  })
})

describe('requests', () => {
  test('are answered, both ways', async () => {
    expect(await here.request('echo', { a: [1, 'ü', null] })).toEqual({ a: [1, 'ü', null] })
    expect(await here.request('whoAsks', null)).toBe('web-1')
    expect(await there.request('whoAsks', null)).toBe('db-1')
    expect(await here.request('nothing', undefined)).toBeNull()
  })

  test.each([
    ['fenced', 'FENCED', 'this node is fenced'],
    ['corrupt', 'PROTOCOL_ERROR', 'RECORD_CORRUPT'],
    ['broken', 'DAEMON_UNAVAILABLE', 'the request failed here'],
    ['huge', 'MESSAGE_TOO_LARGE', 'exceeds the limit'],
    ['bigint', 'INVALID_ARGUMENT', 'plain JSON'],
    ['unheardOf', 'INVALID_ARGUMENT', 'no method unheardOf'],
  ])('that fail say why: %s', async (method, code, message) => {
    await expect(here.request(method, null)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string, details: { peer: 'db-1' } })
    expect(await here.request('echo', 1)).toBe(1)
  })

  test('do not tell a peer what a fault in a handler says of this machine', async () => {
    await expect(here.request('broken', null)).rejects.toMatchObject({ message: expect.not.stringContaining('/etc') as string })
  })

  test('that are not answered in time fail, and a late answer is dropped', async () => {
    const asking = here.request('never', null, 100)
    hereClock.advance(100)
    await expect(asking).rejects.toMatchObject({ code: 'TIMEOUT', details: { peer: 'db-1' } })
    expect(await here.request('echo', 1)).toBe(1)
  })

  test('are bounded on the side that asks', async () => {
    const asking = Array.from({ length: 4 }, async () => here.request('never', null))
    await expect(here.request('echo', 1)).rejects.toMatchObject({ code: 'QUEUE_FULL' })
    here.dismiss('enough')
    for (const one of asking) await expect(one).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('are bounded on the side that answers', async () => {
    const socket = await rawPeer()
    for (let id = 1; id <= 5; id += 1) socket.write(encodeFrame({ type: 'request', id, method: 'never', body: null }))
    const decoder = new FrameDecoder()
    const [piece] = (await once(socket, 'data')) as [Buffer]
    decoder.push(piece)
    expect(JSON.parse(decoder.next()!.toString())).toMatchObject({ type: 'welcome' })
    const answer = decoder.next() ?? ((await once(socket, 'data')) as [Buffer])[0].subarray(4)
    expect(JSON.parse(answer.toString())).toMatchObject({ type: 'response', id: 5, ok: false, code: 'QUEUE_FULL' })
    socket.destroy()
    await readToEnd(socket)
  })

  test('that cannot be sent fail at once and leave nothing behind', async () => {
    await expect(here.request('echo', 'x'.repeat(70_000))).rejects.toMatchObject({ code: 'MESSAGE_TOO_LARGE' })
    await expect(here.request('NOT A METHOD', 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await here.request('echo', 1)).toBe(1)
    here.dismiss('over')
    await expect(here.request('echo', 1)).rejects.toMatchObject({ code: 'CLOSED' })
    expect(hereClock.pendingMs).toEqual([])
  })
})
