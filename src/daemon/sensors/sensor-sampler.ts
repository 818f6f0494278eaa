/**
 * Fills the level and pressure sensors of this machine and of the servers on it. They all stand in the daemon's own box, as a box
 * has one writer; those of a server bear the number of its box.
 */
import { availableParallelism } from 'node:os'
import type { Logger } from 'pino'
import { isBackdoorsError } from '../../errors.js'
import { serverSensorName } from '../../monitor/conditions.js'
import { monotonicMs } from '../../native/clock.js'
import type { BoxOwner } from '../../region/box-owner.js'
import { decodeDirectoryEntry } from '../../region/directory.js'
import { directoryEntry, directoryEntryOffset } from '../../region/layout.js'
import type { Region } from '../../region/region.js'
import type { SensorHandle } from '../../region/sensor-handle.js'
import type { SensorsConfig } from '../watching/detector-config.js'
import { ListenQueues } from './listen-queues.js'
import { measureHost } from './host-sensors.js'
import type { Measure } from './measure.js'
import { ProcFiles } from './proc-files.js'
import { ServerMeter, serverMeasures } from './server-sensors.js'

export interface SensorSamplerOptions {
  readonly region: Region
  /** The daemon's own. */
  readonly box: BoxOwner
  readonly config: SensorsConfig
  readonly log: Logger
  readonly files?: ProcFiles
  readonly cpus?: number
}

export class SensorSampler {
  readonly #options: SensorSamplerOptions
  readonly #files: ProcFiles
  readonly #queues: ListenQueues
  readonly #cpus: number
  readonly #sensors = new Map<string, SensorHandle | 'no room'>()
  /** By box; of one generation of it. */
  readonly #meters = new Map<number, { readonly generation: number; readonly meter: ServerMeter }>()
  #timer: NodeJS.Timeout | undefined
  #sampling: Promise<void> | undefined
  #closed = false

  constructor(options: SensorSamplerOptions) {
    this.#options = options
    this.#files = options.files ?? new ProcFiles()
    this.#queues = new ListenQueues(this.#files, monotonicMs)
    this.#cpus = options.cpus ?? availableParallelism()
  }

  /** Samples now and then on, unless the configuration says not to. */
  start(): void {
    const { enabled, intervalMs } = this.#options.config
    if (!enabled) return
    this.#timer = setInterval(() => void this.sample(), intervalMs).unref()
    void this.sample()
  }

  /** Names of sensors for which the daemon's box had no room. */
  get missing(): string[] {
    return [...this.#sensors].flatMap(([name, sensor]) => (sensor === 'no room' ? [name] : []))
  }

  /** One round; while one is under way, that one. Never rejects. */
  sample(): Promise<void> {
    this.#sampling ??= this.#sample()
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'the level and pressure sensors could not be filled'))
      .finally(() => (this.#sampling = undefined))
    return this.#sampling
  }

  /** Nothing is written to the region once this has resolved. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#sampling
  }

  async #sample(): Promise<void> {
    for (const measure of measureHost(this.#files, this.#options.config.limits, this.#cpus)) this.#fill(measure.name, measure)
    const { plan } = this.#options.region.header
    for (let box = 1; box < plan.boxCount; box++) {
      // Beats, verdicts and recoveries of the daemon's go first.
      await new Promise(setImmediate)
      const meter = this.#meterOf(box)
      const measures = (await meter?.measure()) ?? []
      // The box may have changed hands meanwhile: then what was measured is of nobody.
      const still = meter !== undefined && this.#meterOf(box) === meter
      for (const name of serverMeasures) this.#fillServer(box, name, still ? measures.find((measure) => measure.name === name) : undefined)
    }
  }

  #fillServer(box: number, name: string, measure: Measure | undefined): void {
    const full = serverSensorName(box, name)
    if (measure) this.#fill(full, measure)
    else if (this.#sensors.has(full)) this.#fill(full, { name, kind: 'level', value: 0, limit: 0 })
  }

  #fill(name: string, { kind, value, limit }: Measure): void {
    if (this.#closed) return
    const sensor = this.#sensors.get(name) ?? this.#make(name, kind)
    if (sensor !== 'no room') sensor.level(value, limit)
  }

  #make(name: string, kind: Measure['kind']): SensorHandle | 'no room' {
    let sensor: SensorHandle | 'no room'
    try {
      sensor = this.#options.box.sensor({ name, kind, deadlineUs: 0 })
    } catch (error) {
      if (!isBackdoorsError(error, 'SENSORS_EXHAUSTED')) throw error
      sensor = 'no room'
      this.#options.log.warn({ sensor: name }, 'the daemon\'s box has no room for this sensor, so peers do not see it; raise region.sensorsPerBox')
    }
    this.#sensors.set(name, sensor)
    return sensor
  }

  /** Of the server that holds this box now; undefined where there is none. */
  #meterOf(box: number): ServerMeter | undefined {
    const { region, config } = this.#options
    if (this.#closed) return undefined
    const start = directoryEntryOffset(region.header.plan, box)
    const entry = decodeDirectoryEntry(region.bytes.subarray(start, start + directoryEntry.bytes))
    if (entry?.state !== 'open' || entry.exited) {
      this.#meters.delete(box)
      return undefined
    }
    const known = this.#meters.get(box)
    if (known?.generation === entry.generation) return known.meter
    const meter = new ServerMeter(this.#files, this.#queues, entry.pid, config.limits)
    this.#meters.set(box, { generation: entry.generation, meter })
    return meter
  }
}
