import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRegion, openRegion } from '../region/region.js'
import { readHeader, readSensors } from '../region/region-reader.js'
import type { SensorHandle } from '../region/sensor-handle.js'
import type { SensorReading } from '../region/sensor-cell.js'
import { BytesMemory } from '../region/testing/bytes-memory.js'
import { attach } from './attach.js'
import { LoopDelay } from './loop-delay.js'

describe('the delay of an event loop', () => {
  /** Beats at these times, after the last; what the sensor shows after each. */
  function play(gapsMs: readonly number[]): number[] {
    const shown: number[] = []
    const sensor = { level: (value: number, limit: number) => shown.push(limit === 25 ? value : NaN) } as unknown as SensorHandle
    let nowMs = 1000
    const delay = new LoopDelay(sensor, { everyMs: 10, limitMs: 25, nowMs })
    for (const gapMs of gapsMs) delay.beat((nowMs += gapMs))
    return shown
  }

  it('is by how much a timer was late, and none where it was early', () => {
    expect(play([10, 12, 9])).toEqual([0, 0, 2, 2])
  })

  it('is shown for one to two seconds, then it is over', () => {
    const calm = Array.from({ length: 210 }, () => 10)
    const shown = play([60, ...calm])
    expect(shown.slice(1, 100).every((value) => value === 50)).toBe(true)
    expect(shown.at(-1)).toBe(0)
  })

  it('that lasted for seconds is shown, and what was before it forgotten', () => {
    expect(play([30, 5010, 10]).slice(1)).toEqual([20, 5000, 5000])
  })
})

describe('a server with a sensor of its event loop', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'backdoors-loop-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  async function sensorsWith(sensorsPerBox: number): Promise<SensorReading[]> {
    const path = join(folder, `region-${sensorsPerBox}`)
    createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox, sessionsPerBox: 8, heapBytes: 4096 }).memory.close()
    const node = await attach({ region: path, name: 'web' })
    node.sensor('event-loop', { deadlineMs: 50 })
    const region = openRegion(path)
    const memory = new BytesMemory(region.bytes)
    const [found] = await readSensors(memory, await readHeader(memory), [1])
    region.memory.close()
    await node.close()
    return found?.sensors ?? []
  }

  it('shows the delay beside it, with half of the deadline as the limit', async () => {
    expect(await sensorsWith(8)).toMatchObject([{ name: 'event-loop' }, { name: 'loop-delay-ms', kind: 'pressure', value: 0, limit: 25 }])
  })

  it('keeps a small box to itself', async () => {
    expect((await sensorsWith(7)).map(({ name }) => name)).toEqual(['event-loop'])
  })
})
