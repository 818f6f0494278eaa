import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../fabric/enrollment/testing/manual-clock.js'
import { Pacer } from './pacer.js'

const backoff = { minMs: 100, maxMs: 1000, factor: 2, stableAfterMs: 5000 }

function pacer(): { pacer: Pacer; clock: ManualClock; closing: AbortController } {
  const clock = new ManualClock()
  const closing = new AbortController()
  return { pacer: new Pacer({ clock, random: () => 1, backoff, signal: closing.signal }), clock, closing }
}

/** Waits so long as the pacer says, and says how long that was. */
async function failed({ pacer: one, clock }: { pacer: Pacer; clock: ManualClock }): Promise<number> {
  const waiting = one.afterFailure()
  const waitMs = (clock.pendingMs[0] as number) - clock.nowMs()
  clock.advance(waitMs)
  await waiting
  return waitMs
}

describe('a pacer', () => {
  it('waits twice as long after each failure in a row, up to its limit, and from the beginning after a success', async () => {
    const one = pacer()
    const waits: number[] = []
    for (let i = 0; i < 5; i++) waits.push(await failed(one))
    one.pacer.succeeded()
    waits.push(await failed(one))
    expect(waits).toEqual([100, 200, 400, 800, 1000, 100])
  })

  it('begins anew where what failed had stood for long enough, and not where it fell at once', async () => {
    const one = pacer()
    expect([await failed(one), await failed(one)]).toEqual([100, 200])
    one.pacer.started()
    one.clock.advance(4999)
    expect(await failed(one)).toBe(400)
    one.pacer.started()
    one.clock.advance(5000)
    expect(await failed(one)).toBe(100)
  })

  it('ends a pause when it is woken, or the next one where there is none', async () => {
    const { pacer: one, clock } = pacer()
    const pause = one.pause(1000)
    one.wake()
    await pause
    one.wake()
    await one.pause(1000)
    expect(clock.pendingMs).toEqual([])
    const next = one.pause(1000)
    expect(clock.pendingMs).toEqual([1000])
    clock.advance(1000)
    await next
  })

  it('pauses no more when it is to end', async () => {
    const { pacer: one, clock, closing } = pacer()
    const pause = one.pause(1000)
    closing.abort()
    await pause
    await one.pause(1000)
    expect(clock.pendingMs).toEqual([])
  })
})
