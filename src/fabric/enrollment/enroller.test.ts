import { describe, expect, test, vi } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import type { EnrolledConnection } from './client.js'
import type { Closure } from './closure.js'
import { backoffMs, defaultBackoff, Enroller } from './enroller.js'
import type { EnrollerOptions } from './enroller.js'
import { ManualClock } from './testing/manual-clock.js'

/** A connection as the enroller sees it. */
class FakeConnection {
  readonly closed: Promise<Closure>
  closedWith: string | undefined
  #resolve!: (closure: Closure) => void
  constructor() {
    this.closed = new Promise((resolve) => (this.#resolve = resolve))
  }
  lose(reason: Closure['reason']): void {
    this.#resolve({ reason, by: 'peer', detail: '', lastHeardAgoMs: 0 })
  }
  async close(reason: string): Promise<void> {
    this.closedWith = reason
    this.#resolve({ reason: 'closed-orderly', by: 'us', detail: reason, lastHeardAgoMs: 0 })
    await this.closed
  }
}

const backoff = { minMs: 100, maxMs: 1000, factor: 2, stableAfterMs: 5000 }

/** An enroller whose tries are answered one by one by the test. */
function play(options: Partial<EnrollerOptions> = {}): {
  clock: ManualClock
  enroller: Enroller
  tries: { succeed(): FakeConnection; fail(): void; signal: AbortSignal }[]
  seen: string[]
} {
  const clock = new ManualClock()
  const tries: { succeed(): FakeConnection; fail(): void; signal: AbortSignal }[] = []
  const seen: string[] = []
  const enroller = new Enroller({
    peer: 'db-1',
    clock,
    random: () => 0.5,
    backoff,
    attempt: (signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new BackdoorsError('CLOSED', 'given up')))
        tries.push({
          signal,
          succeed: () => {
            const connection = new FakeConnection()
            resolve(connection as unknown as EnrolledConnection)
            return connection
          },
          fail: () => reject(new BackdoorsError('PEER_UNREACHABLE', 'no answer')),
        })
      }),
    onLink: () => seen.push('linked'),
    onLost: ({ reason }) => seen.push(`lost: ${reason}`),
    onFailure: ({ code }, failures, delayMs) => seen.push(`${code} ${failures} ${delayMs}`),
    ...options,
  })
  return { clock, enroller, tries, seen }
}

/** Lets promises that are settled already run on. */
const settle = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('the waits', () => {
  test('double up to the longest, the upper half of each at random', () => {
    expect([1, 2, 3, 4, 5, 60, 5000].map((failures) => backoffMs(failures, 0, backoff))).toEqual([50, 100, 200, 400, 500, 500, 500])
    expect([1, 2, 5].map((failures) => backoffMs(failures, 0.999_999, backoff)).map(Math.round)).toEqual([100, 200, 1000])
    expect(backoffMs(0, 0, backoff)).toBe(50)
    expect(backoffMs(1, 0, defaultBackoff)).toBe(100)
  })
})

describe('the enroller', () => {
  test('tries again after each failure, more patiently each time, until it is linked', async () => {
    const { clock, enroller, tries, seen } = play()
    enroller.start()
    enroller.start()
    for (const [index, delayMs] of [75, 150, 300].entries()) {
      expect(tries).toHaveLength(index + 1)
      tries[index]!.fail()
      await settle()
      clock.advance(delayMs - 1)
      await settle()
      expect(tries).toHaveLength(index + 1)
      clock.advance(1)
      await settle()
    }
    tries[3]!.succeed()
    await settle()
    expect(seen).toEqual(['PEER_UNREACHABLE 1 75', 'PEER_UNREACHABLE 2 150', 'PEER_UNREACHABLE 3 300', 'linked'])
    expect(enroller.connection).toBeDefined()
    await enroller.stop()
  })

  test('enrolls again after a loss; a link that was stable starts the waits over, one that falls at once does not', async () => {
    const { clock, enroller, tries, seen } = play()
    enroller.start()
    tries[0]!.fail()
    await settle()
    clock.advance(75)
    await settle()
    const short = tries[1]!.succeed()
    await settle()
    short.lose('reset')
    await settle()
    expect(enroller.failures).toBe(2)
    clock.advance(150)
    await settle()
    const long = tries[2]!.succeed()
    await settle()
    clock.advance(5000)
    long.lose('silent')
    await settle()
    expect(enroller.failures).toBe(0)
    clock.advance(75)
    await settle()
    expect(tries).toHaveLength(4)
    expect(seen.slice(1)).toEqual(['linked', 'lost: reset', 'linked', 'lost: silent'])
    await enroller.stop()
  })

  test('can be told to hurry', async () => {
    const { enroller, tries } = play()
    enroller.hurry()
    enroller.start()
    tries[0]!.fail()
    await settle()
    enroller.hurry()
    await settle()
    expect(tries).toHaveLength(2)
    await enroller.stop()
  })

  test('stops in a try, in a wait and in a link, and tries no more', async () => {
    const trying = play()
    trying.enroller.start()
    await trying.enroller.stop()
    expect(trying.tries[0]!.signal.aborted).toBe(true)

    const waiting = play()
    waiting.enroller.start()
    waiting.tries[0]!.fail()
    await settle()
    await waiting.enroller.stop()

    const linked = play()
    linked.enroller.start()
    const connection = linked.tries[0]!.succeed()
    await settle()
    await linked.enroller.stop()
    await linked.enroller.stop()
    expect(connection.closedWith).toBe('stopping')
    expect(linked.seen).toEqual(['linked', 'lost: closed-orderly'])

    for (const { tries, clock, enroller } of [trying, waiting, linked]) {
      clock.advance(100_000)
      await settle()
      expect(tries).toHaveLength(1)
      expect(clock.pendingMs).toEqual([])
      expect(enroller.connection).toBeUndefined()
    }
  })

  test('closes a link that comes when it has been stopped', async () => {
    const connection = new FakeConnection()
    let succeed!: () => void
    const attempt = vi.fn(() => new Promise<EnrolledConnection>((resolve) => (succeed = () => resolve(connection as unknown as EnrolledConnection))))
    const { enroller, seen } = play({ attempt })
    enroller.start()
    const stopping = enroller.stop()
    succeed()
    await stopping
    expect(connection.closedWith).toBe('stopping')
    expect(seen).toEqual([])
  })

  test('counts a link that its owner cannot use as a failure', async () => {
    const onLink = vi.fn(() => {
      throw new BackdoorsError('QP_TRANSITION', 'RTR failed')
    })
    const { enroller, tries, seen } = play({ onLink })
    enroller.start()
    const connection = tries[0]!.succeed()
    await settle()
    expect(connection.closedWith).toBe('this node cannot use what it was lent')
    expect(seen).toEqual(['QP_TRANSITION 1 75'])
    await enroller.stop()
  })
})
