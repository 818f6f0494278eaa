/** Level and pressure sensors that are past their limits: told with hysteresis, and nobody is condemned for them. */
import type { DirectoryEntry } from '../region/directory.js'
import type { BoxSensors } from '../region/region-reader.js'
import type { SensorReading } from '../region/sensor-cell.js'

/** A level or pressure sensor, as last read. */
export interface GaugeReading {
  /** The same for the same sensor of the same owner, and for no other. */
  readonly key: string
  /** The server that it is about; undefined for the machine. */
  readonly server: string | undefined
  /** Its name, with the unit of value and limit. */
  readonly sensor: string
  readonly value: number
  readonly limit: number
}

/** Something of a machine or a server is scarce. It may be slow for it; it has not failed. */
export interface Condition {
  readonly kind: 'pressure'
  readonly server?: string
  readonly sensor: string
  readonly value: number
  readonly limit: number
  /** Since when the value is past its limit, by the watcher's clock, in microseconds. */
  readonly sinceUs: number
}

export interface ConditionRule {
  /** Past its limit for so long: a condition. */
  readonly raiseAfterUs: number
  /** Well below its limit for so long: none any more. */
  readonly clearAfterUs: number
  /** Well below: at most this part of the limit. */
  readonly clearBelow: number
}

export interface ConditionChange {
  readonly condition: Condition
  readonly raised: boolean
}

/** Of one sensor: what was told, and since when it looks otherwise. */
interface Tracked {
  readonly condition: Condition | undefined
  readonly turnedUs: number | undefined
}

export type ConditionStates = ReadonlyMap<string, Tracked>

/** What a daemon measures of a server stands in the daemon's own box, as `BOX/what`: a box has one writer. */
const ofServer = /^([1-9][0-9]{0,2})\/(.+)$/

/** A daemon's name for what it measures of the server in `box`. */
export const serverSensorName = (box: number, what: string): string => `${box}/${what}`

/**
 * The gauges in the boxes read, each with whom it is about. Whoever is gone has none, whatever its cells say.
 * @param open numbers of the boxes that `sensors` are of, in the same order; box 0 is the daemon's
 */
export function gaugesIn(directory: readonly (DirectoryEntry | undefined)[], open: readonly number[], sensors: readonly BoxSensors[]): GaugeReading[] {
  const readings: GaugeReading[] = []
  for (const [i, box] of open.entries()) {
    for (const sensor of sensors[i]?.sensors ?? []) {
      const reading = sensor.kind === 'progress' ? undefined : gaugeOf(directory, box, sensor)
      if (reading) readings.push(reading)
    }
  }
  return readings
}

function gaugeOf(directory: readonly (DirectoryEntry | undefined)[], box: number, { name, cell, value, limit }: SensorReading): GaugeReading | undefined {
  const [, number, what] = (box === 0 && ofServer.exec(name)) || []
  const about = number === undefined ? box : Number(number)
  const owner = directory[about]
  // A limit of 0 is none; and what is no number is nobody's.
  if (owner?.state !== 'open' || owner.exited || !(limit > 0) || !Number.isFinite(limit) || !Number.isFinite(value)) return undefined
  return { key: `${box}/${cell}/${about}/${owner.generation}/${name}`, server: about === 0 ? undefined : owner.name, sensor: what ?? name, value, limit }
}

/**
 * Follows the sensors by one look at them. Pure: time is an argument.
 * @returns the new states, and what is to be told
 */
export function followConditions(states: ConditionStates, readings: readonly GaugeReading[], nowUs: number, rule: ConditionRule): { states: ConditionStates; changes: ConditionChange[] } {
  const next = new Map<string, Tracked>()
  const changes: ConditionChange[] = []
  for (const reading of readings) {
    const before = states.get(reading.key)
    const after = follow(before, reading, nowUs, rule)
    next.set(reading.key, after)
    if (after.condition && !before?.condition) changes.push({ condition: after.condition, raised: true })
    if (before?.condition && !after.condition) changes.push({ condition: { ...before.condition, value: reading.value, limit: reading.limit }, raised: false })
  }
  // Whoever is gone is under no pressure any more.
  for (const [key, { condition }] of states) if (condition && !next.has(key)) changes.push({ condition, raised: false })
  return { states: next, changes }
}

function follow(before: Tracked | undefined, { server, sensor, value, limit }: GaugeReading, nowUs: number, rule: ConditionRule): Tracked {
  const raised = before?.condition
  const isTurned = raised ? value <= limit * rule.clearBelow : value > limit
  const turnedUs = isTurned ? (before?.turnedUs ?? nowUs) : undefined
  const isDue = turnedUs !== undefined && nowUs - turnedUs >= (raised ? rule.clearAfterUs : rule.raiseAfterUs)
  if (raised) return isDue ? { condition: undefined, turnedUs: undefined } : { condition: { ...raised, value, limit }, turnedUs }
  if (!isDue) return { condition: undefined, turnedUs }
  return { condition: { kind: 'pressure', ...(server === undefined ? {} : { server }), sensor, value, limit, sinceUs: turnedUs }, turnedUs: undefined }
}

export const standingConditions = (states: ConditionStates): Condition[] => [...states.values()].flatMap(({ condition }) => condition ?? [])
