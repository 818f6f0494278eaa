import { BackdoorsError } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { sensorCell as at, sensorKinds } from './layout.js'
import { decodeText, encodeName, viewOf } from './text.js'

export type SensorKind = Exclude<(typeof sensorKinds)[number], 'free'>

/** What a sensor is; written once, when it is made. */
export interface SensorDescription {
  /** 1 to 16 bytes of UTF-8. */
  readonly name: string
  /** `progress`: a counter that must move within its deadline while work is pending. `level`, `pressure`: a value and its limit. */
  readonly kind: SensorKind
  /** In microseconds; 0 for level and pressure sensors. */
  readonly deadlineUs: number
}

export interface SensorReading extends SensorDescription {
  /** Position of the cell in its box. */
  readonly cell: number
  readonly counter: number
  readonly pending: number
  readonly value: number
  readonly limit: number
}

/**
 * Writes the describing half of a cell (bytes 32 to 64) into the cell's 64 bytes.
 * @throws BackdoorsError INVALID_ARGUMENT
 */
export function describeSensor(into: Uint8Array, seed: number, sensor: SensorDescription): void {
  const name = encodeName('sensor name', sensor.name, at.maxNameBytes)
  const { deadlineUs } = sensor
  if (!Number.isInteger(deadlineUs) || deadlineUs < 0 || deadlineUs > 0xffff_ffff) {
    throw new BackdoorsError('INVALID_ARGUMENT', `The deadline of sensor ${sensor.name} must be a whole number of microseconds below 2^32 (71 minutes), not ${deadlineUs}.`, { field: 'deadlineUs' })
  }
  const view = viewOf(into)
  into.fill(0, at.kind, at.bytes)
  view.setUint32(at.kind, sensorKinds.indexOf(sensor.kind), true)
  view.setUint32(at.deadlineUs, deadlineUs, true)
  view.setUint32(at.nameBytes, name.length, true)
  into.set(name, at.name)
  view.setUint32(at.crc, crc32c(into, at.kind, at.crc - at.kind, seed), true)
}

/** @returns undefined for a free cell and 'corrupt' for one whose description cannot be trusted. */
export function decodeSensor(bytes: Uint8Array, seed: number, cell: number): SensorReading | 'corrupt' | undefined {
  if (bytes.length < at.bytes) return 'corrupt'
  const view = viewOf(bytes)
  const kind = sensorKinds[view.getUint32(at.kind, true)]
  const crc = view.getUint32(at.crc, true)
  if (kind === 'free' && crc === 0) return undefined
  if (crc !== crc32c(bytes, at.kind, at.crc - at.kind, seed)) return 'corrupt'
  const nameBytes = view.getUint32(at.nameBytes, true)
  const name = nameBytes <= at.maxNameBytes ? decodeText(bytes, at.name, nameBytes) : undefined
  if (kind === undefined || kind === 'free' || !name) return 'corrupt'
  return {
    name,
    kind,
    cell,
    deadlineUs: view.getUint32(at.deadlineUs, true),
    counter: view.getUint32(at.counter, true),
    pending: view.getUint32(at.pending, true),
    value: view.getFloat64(at.value, true),
    limit: view.getFloat64(at.limit, true),
  }
}
