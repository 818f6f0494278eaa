import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { DirectoryEntry } from '../region/directory.js'
import type { BoxSensors } from '../region/region-reader.js'
import type { SensorReading } from '../region/sensor-cell.js'
import { followConditions, gaugesIn, serverSensorName, standingConditions, type ConditionChange, type ConditionRule, type ConditionStates, type GaugeReading } from './conditions.js'

const rule: ConditionRule = { raiseAfterUs: 1000, clearAfterUs: 5000, clearBelow: 0.9 }

const gauge = (value: number, more: Partial<GaugeReading> = {}): GaugeReading => ({ key: 'k', server: 'web', sensor: 'rss-bytes', value, limit: 100, ...more })

/** Looks at these values, 500 µs apart, and collects what is told. */
function look(values: readonly (number | undefined)[]): { told: [number, boolean][]; states: ConditionStates } {
  let states: ConditionStates = new Map()
  const told: [number, boolean][] = []
  for (const [i, value] of values.entries()) {
    const followed = followConditions(states, value === undefined ? [] : [gauge(value)], i * 500, rule)
    states = followed.states
    told.push(...followed.changes.map(({ raised }): [number, boolean] => [i, raised]))
  }
  return { told, states }
}

const repeat = (value: number, times: number): number[] => Array.from({ length: times }, () => value)

describe('a sensor', () => {
  it('past its limit for long enough is a condition, since it went past', () => {
    const { told, states } = look([50, 101, 120, 130])
    expect(told).toEqual([[3, true]])
    expect(standingConditions(states)).toEqual([{ kind: 'pressure', server: 'web', sensor: 'rss-bytes', value: 130, limit: 100, sinceUs: 500 }])
  })

  it('past its limit for a moment is none, and the time begins anew', () => {
    expect(look([101, 101, 100, 101, 101, 99]).told).toEqual([])
  })

  it('that is only just below its limit again goes on being one', () => {
    const { told, states } = look([...repeat(200, 3), ...repeat(95, 40)])
    expect(told).toEqual([[2, true]])
    expect(standingConditions(states)).toMatchObject([{ value: 95, sinceUs: 0 }])
  })

  it('well below its limit for long enough is none any more', () => {
    expect(look([...repeat(200, 3), ...repeat(90, 11)]).told).toEqual([[2, true], [13, false]])
    expect(look([...repeat(200, 3), ...repeat(90, 10), 91, ...repeat(90, 10)]).told).toEqual([[2, true]])
  })

  it('that is not there any more is none any more, at once', () => {
    const { told, states } = look([...repeat(200, 3), undefined])
    expect(told).toEqual([[2, true], [3, false]])
    expect(standingConditions(states)).toEqual([])
  })
})

describe('any values', () => {
  it('are told in turns, raised first, and raised only of what was past its limit ever since', () => {
    const values = fc.array(fc.constantFrom(0, 89, 90, 91, 100, 101, 500), { maxLength: 200 })
    fc.assert(fc.property(values, (seen) => {
      let states: ConditionStates = new Map()
      const changes: ConditionChange[] = []
      for (const [i, value] of seen.entries()) {
        const followed = followConditions(states, [gauge(value)], i * 500, rule)
        states = followed.states
        for (const change of followed.changes) {
          changes.push(change)
          const steps = (change.raised ? rule.raiseAfterUs : rule.clearAfterUs) / 500
          const since = seen.slice(i - steps, i + 1)
          expect(since.length).toBe(steps + 1)
          expect(since.every((each) => (change.raised ? each > 100 : each <= 90))).toBe(true)
        }
      }
      expect(changes.map(({ raised }) => raised)).toEqual(changes.map((_, i) => i % 2 === 0))
    }))
  })
})

describe('the gauges of a node', () => {
  const entry = (name: string, more: Partial<DirectoryEntry> = {}): DirectoryEntry => ({ name, state: 'open', generation: 1, pid: 7, sequenceFloor: 0, exited: false, ...more })
  const reading = (name: string, more: Partial<SensorReading> = {}): SensorReading => ({ name, kind: 'level', cell: 0, deadlineUs: 0, counter: 0, pending: 0, value: 1, limit: 2, ...more })
  const sensors = (...found: SensorReading[]): BoxSensors => ({ sensors: found, corrupt: 0 })

  it('are of the machine, of the server that has them, or of the server that the daemon measures', () => {
    const directory = [entry('daemon'), entry('web'), entry('mail')]
    const own = sensors(reading('mem-used-bytes'), reading('os', { kind: 'progress' }), reading(serverSensorName(2, 'open-fds'), { cell: 2 }))
    expect(gaugesIn(directory, [0, 1], [own, sensors(reading('loop-delay-ms', { kind: 'pressure' }))])).toMatchObject([
      { server: undefined, sensor: 'mem-used-bytes' }, { server: 'mail', sensor: 'open-fds' }, { server: 'web', sensor: 'loop-delay-ms' },
    ])
  })

  it('are another\'s when another owns the box', () => {
    const keys = [1, 2].map((generation) => gaugesIn([entry('daemon'), entry('web', { generation })], [0], [sensors(reading('1/rss-bytes'))])[0]?.key)
    expect(new Set(keys).size).toBe(2)
  })

  it('of who is gone, was never there, or has no limit, do not count', () => {
    const directory = [entry('daemon'), entry('web', { exited: true }), entry('mail', { state: 'closed' }), undefined]
    const own = ['1/rss-bytes', '2/rss-bytes', '3/rss-bytes', '200/rss-bytes'].map((name, cell) => reading(name, { cell }))
    const odd = [0, -1, NaN, Infinity].map((limit, cell) => reading('odd', { cell: 4 + cell, limit })).concat([NaN, Infinity].map((value, cell) => reading('odd', { cell: 8 + cell, value })))
    expect(gaugesIn(directory, [0, 1], [sensors(...own, ...odd), sensors(reading('loop-delay-ms'))])).toEqual([])
  })

  it('of a server that calls one of its own like a daemon\'s measurement of another are its own', () => {
    expect(gaugesIn([entry('daemon'), entry('web'), entry('mail')], [1], [sensors(reading('2/rss-bytes'))])).toMatchObject([{ server: 'web', sensor: '2/rss-bytes' }])
  })
})
