/**
 * Watches one node through its lent region: tells the sampler which cells to sample, keeps that up to date as
 * servers come and go, and hands each change of verdict on.
 */
import type { RemoteMemory, Watch, WatchEvent, WatchedCell } from '../fabric/remote-memory.js'
import { isBackdoorsError } from '../errors.js'
import type { DirectoryEntry } from '../region/directory.js'
import type { RegionHeader } from '../region/header.js'
import { boxOffset, sensorCell } from '../region/layout.js'
import { readDirectory, readSensors } from '../region/region-reader.js'
import type { SensorReading } from '../region/sensor-cell.js'
import { followConditions, gaugesIn, standingConditions, type Condition, type ConditionRule, type ConditionStates, type GaugeReading } from './conditions.js'
import { judge } from './judge.js'
import type { BoxVerdict, ControlConnection, Evidence, NodeVerdict, Observation, ObservedBox, ObservedKernel, ObservedSensor } from './verdict.js'

export interface RegionWatchOptions {
  /** Name of the watcher, for evidence. */
  readonly by: string
  readonly header: RegionHeader
  readonly memory: RemoteMemory
  readonly intervalUs: number
  readonly unreachableAfterUs: number
  /** How often the directory is read for servers that came or went, in milliseconds. */
  readonly refreshMs: number
  /** @param knownForUs how long ago reads were found to fail; undefined where they succeed */
  readonly controlConnection: (knownForUs: number | undefined) => ControlConnection
  /** Where the machine's whole memory can be read: what its kernel says. Asked while the OS sensor says nothing, or has stopped. Must not reject. */
  readonly kernel?: () => Promise<ObservedKernel | undefined>
  readonly nowUs: () => number
  /** `setInterval`, or simulated time's. Returns what cancels it. */
  readonly every: (ms: number, run: () => void) => () => void
  readonly onVerdict: (verdict: NodeVerdict | BoxVerdict, evidence: Evidence) => void
  /** When a level or pressure sensor counts as past its limit, and who is told. Without it none is looked at. */
  readonly conditions?: { readonly rule: ConditionRule; readonly onChange: (condition: Condition, raised: boolean) => void }
  /** A refresh failed; the sampler decides whether the memory is gone, so this is only for logs. */
  readonly onTrouble: (error: unknown) => void
}

interface Sampled {
  readonly box: number
  readonly sensor: SensorReading
}

export class RegionWatch {
  readonly #options: RegionWatchOptions
  readonly #watch: Watch
  readonly #stopRefreshing: () => void
  readonly #verdicts = new Map<string, string>()
  #directory: readonly (DirectoryEntry | undefined)[] = []
  #sampled: readonly Sampled[] = []
  #gauges: readonly GaugeReading[] = []
  #conditions: ConditionStates = new Map()
  #refreshing: Promise<void> | undefined
  #again = false
  #kernel: ObservedKernel | undefined
  #unreachable: { readonly status: string; readonly atUs: number } | undefined
  #closed = false

  constructor(options: RegionWatchOptions) {
    this.#options = options
    this.#watch = options.memory.watch(this.#plan(), (event) => this.#onEvent(event))
    this.#stopRefreshing = options.every(options.refreshMs, () => void this.refresh())
    void this.refresh()
  }

  get state(): Watch['state'] {
    return this.#watch.state
  }

  /** Has the node's daemon ended in order? On shm its region can still be read then. */
  get hasLeft(): boolean {
    return this.#directory[0]?.state === 'closed'
  }

  /** Level and pressure sensors, as last read. */
  get gauges(): readonly GaugeReading[] {
    return this.#gauges
  }

  /** Sensors that are past their limits, as last read. */
  get conditions(): Condition[] {
    return standingConditions(this.#conditions)
  }

  /** Can the memory be read at this moment? */
  look(): Promise<boolean> {
    if (!this.#watch.state.reachable) return Promise.resolve(false)
    return readDirectory(this.#options.memory, this.#options.header).then(() => true, () => false)
  }

  /** What the next verdict rests on. */
  observe(): Observation {
    const { reachable, cells } = this.#watch.state
    const sensors = this.#sampled.map(({ box, sensor }, i): { box: number; observed: ObservedSensor } => {
      const cell = cells[i]
      const { name, deadlineUs } = sensor
      return { box, observed: { name, deadlineUs, counter: cell?.counter ?? 0, pending: cell?.pending ?? 0, ageUs: cell?.ageUs ?? 0, stalled: cell?.stalled ?? false } }
    })
    const boxes: ObservedBox[] = []
    for (const [box, entry] of this.#directory.entries()) {
      if (box === 0 || entry?.state !== 'open') continue
      const own = sensors.filter((sensor) => sensor.box === box).map(({ observed }) => observed)
      boxes.push({ box, name: entry.name, generation: entry.generation, exited: entry.exited, sensors: own })
    }
    const osSensor = sensors.find(({ box }) => box === 0)?.observed
    const unreachable = reachable ? undefined : this.#unreachable
    const status = unreachable === undefined ? {} : { status: unreachable.status }
    const control = this.#options.controlConnection(unreachable && this.#options.nowUs() - unreachable.atUs)
    return { reachable, ...status, control, osSensor, boxes, ...(this.#kernel ? { kernel: this.#kernel } : {}) }
  }

  /**
   * Reads directory and sensors anew, adapts the plan, and judges. Runs one at a time; what is asked for during a
   * run is run after it, so that a verdict never rests on a directory read before its cause.
   */
  async refresh(): Promise<void> {
    if (this.#refreshing) {
      this.#again = true
      return this.#refreshing
    }
    this.#refreshing = this.#readUntilFresh()
    await this.#refreshing
  }

  async #readUntilFresh(): Promise<void> {
    do {
      this.#again = false
      await this.#readPlan()
    } while (this.#again && !this.#closed)
    this.#refreshing = undefined
  }

  /** Judges this server anew at the next refresh, as if nothing had been said of it. */
  forget(box: number, generation: number): void {
    this.#verdicts.delete(`${box}/${generation}`)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#stopRefreshing()
    this.#watch.close()
  }

  async #readPlan(): Promise<void> {
    const { memory, header } = this.#options
    // Nothing can be read, but whether the machine answers otherwise may have become known.
    if (!this.#watch.state.reachable) return this.#judge()
    try {
      const directory = await readDirectory(memory, header)
      const open = directory.flatMap((entry, box) => (entry?.state === 'open' ? [box] : []))
      const sensors = await readSensors(memory, header, open)
      if (this.#closed) return
      const sampled = open.flatMap((box, i) => (sensors[i]?.sensors ?? []).filter(({ kind }) => kind === 'progress').map((sensor) => ({ box, sensor })))
      const changed = JSON.stringify(sampled.map(identity)) !== JSON.stringify(this.#sampled.map(identity))
      this.#directory = directory
      this.#sampled = sampled
      this.#gauges = gaugesIn(directory, open, sensors)
      this.#followConditions(this.#gauges)
      if (changed) this.#watch.update(this.#plan())
      await this.#askKernel()
      if (!this.#again && !this.#closed) this.#judge()
    } catch (error) {
      if (!this.#closed && !isBackdoorsError(error, 'CLOSED')) this.#options.onTrouble(error)
    }
  }

  async #askKernel(): Promise<void> {
    const { osSensor } = this.observe()
    this.#kernel = osSensor === undefined || osSensor.stalled ? await this.#options.kernel?.() : undefined
  }

  #followConditions(readings: readonly GaugeReading[]): void {
    const { conditions, nowUs } = this.#options
    if (!conditions) return
    const { states, changes } = followConditions(this.#conditions, readings, nowUs(), conditions.rule)
    this.#conditions = states
    for (const { condition, raised } of changes) conditions.onChange(condition, raised)
  }

  #plan(): { cells: WatchedCell[]; intervalUs: number; unreachableAfterUs: number } {
    const { header, intervalUs, unreachableAfterUs } = this.#options
    const cells = this.#sampled.map(({ box, sensor }) => {
      const start = boxOffset(header.plan, box) + sensor.cell * sensorCell.bytes
      return { counterOffset: start + sensorCell.counter, pendingOffset: start + sensorCell.pending, deadlineUs: sensor.deadlineUs }
    })
    return { cells, intervalUs, unreachableAfterUs }
  }

  #onEvent(event: WatchEvent): void {
    if (this.#closed) return
    if (event.kind === 'unreachable') {
      this.#unreachable = { status: event.status, atUs: event.atUs }
      this.#judge()
      return
    }
    // A sensor that stopped may belong to a server that closed its box or exited: the directory tells, so the
    // verdict waits for it.
    void this.refresh()
  }

  #judge(): void {
    const judgement = judge(this.observe())
    if (!judgement) return
    this.#tell('node', judgement.node)
    if (judgement.node.kind !== 'alive') return
    for (const box of judgement.boxes) this.#tell(`${box.box}/${box.generation}`, box)
  }

  /** Hands a verdict on where it differs from the last one on the same subject; everybody begins alive. */
  #tell(subject: string, verdict: NodeVerdict | BoxVerdict): void {
    if ((this.#verdicts.get(subject) ?? 'alive') === verdict.kind) return
    this.#verdicts.set(subject, verdict.kind)
    const { by, nowUs, onVerdict } = this.#options
    const sensor = verdict.sensor === undefined ? {} : { sensor: verdict.sensor }
    onVerdict(verdict, { by, atUs: nowUs(), seen: verdict.seen, ...sensor })
  }
}

const identity = ({ box, sensor }: Sampled): unknown[] => [box, sensor.cell, sensor.name, sensor.deadlineUs]
