import { describe, expect, it } from 'vitest'
import { expectCode } from '../../addon/test/native-fixture.js'
import { monotonicMs } from './clock.js'
import { memoryAddon } from './load.js'

describe('monotonicMs', () => {
  it('is CLOCK_MONOTONIC, between two looks at it in microseconds', () => {
    const [fromUs, nowMs, toUs] = [memoryAddon().monotonicUs(), monotonicMs(), memoryAddon().monotonicUs()]
    expect(nowMs).toBeGreaterThanOrEqual(fromUs / 1000)
    expect(nowMs).toBeLessThanOrEqual(toUs / 1000)
  })

  it.each([[undefined], [new Float64Array(0)], [new Float32Array(1)], [[0]]])('refuses to write into %o', (into) => {
    expectCode(() => memoryAddon().writeMonotonicMs(into as unknown as Float64Array), 'INVALID_ARGUMENT', { field: 'into' })
  })
})
