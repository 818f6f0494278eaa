/** The sampler of the simulation: wakes at the plan's interval, reads the cells, and asks the rule what it means. */
import type { MemoryRange, Watch, WatchedCell, WatchEvent, WatchPlan, WatchState } from '../remote-memory.js'
import type { MockConnection, PostedOperation } from './mock-connection.js'
import { quiet, type Scheduled, type Simulation } from './simulation.js'
import { type CellSample, isSameCell, type Moment, WatchRule } from './watch-rule.js'

export interface MockWatchHost {
  readonly simulation: Simulation
  readonly connection: MockConnection
  readonly peer: string
  readonly check: (plan: WatchPlan) => void
  /** Until when the watcher is held up, in virtual time. */
  readonly heldUntilUs: () => number
  readonly hold: (us: number) => void
  readonly closed: () => void
}

/** Delays up to this are the ordinary jitter of any schedule; beyond, the watcher was late (as in the native sampler). */
const ordinaryJitterUs = 100

/** Weight of the newest round trip in the mean. */
const roundTripWeight = 1 / 8

/** What is read where there are no cells: any bytes tell whether the memory can be reached. */
const probe: MemoryRange = { offset: 0, length: 1 }

function cellRanges(cell: WatchedCell): MemoryRange[] {
  const counter = { offset: cell.counterOffset, length: 4 }
  return cell.pendingOffset === undefined ? [counter] : [counter, { offset: cell.pendingOffset, length: 4 }]
}

/** One plan's read: its ranges, the buffers they are read into, and how these make samples. */
class CellReader {
  readonly ranges: readonly MemoryRange[]
  readonly targets: readonly Uint8Array[]
  readonly #cells: readonly WatchedCell[]

  constructor(cells: readonly WatchedCell[]) {
    this.#cells = cells
    const ranges = cells.flatMap(cellRanges)
    this.ranges = ranges.length > 0 ? ranges : [probe]
    this.targets = this.ranges.map(({ length }) => new Uint8Array(length))
  }

  samples(): CellSample[] {
    const words = this.targets.values()
    const nextWord = (): number => {
      const bytes = words.next().value as Uint8Array
      return new DataView(bytes.buffer).getUint32(0, true)
    }
    return this.#cells.map((cell) => ({ counter: nextWord(), pending: cell.pendingOffset === undefined ? 1 : nextWord() }))
  }
}

export class MockWatch implements Watch {
  readonly #host: MockWatchHost
  readonly #listener: (event: WatchEvent) => void
  readonly #rule: WatchRule
  #plan: WatchPlan
  #reader: CellReader
  #wakeUp: Scheduled
  #intendedUs = 0
  #underWay: PostedOperation | undefined
  #closed = false
  #lastLookUs: number
  #lateUs = 0
  #rounds = 0
  #failedRounds = 0
  #maxLatenessUs = 0
  #lastRoundTripUs = 0
  #meanRoundTripUs = 0

  constructor(plan: WatchPlan, listener: (event: WatchEvent) => void, host: MockWatchHost) {
    this.#host = host
    this.#listener = listener
    this.#plan = plan
    this.#reader = new CellReader(plan.cells)
    this.#lastLookUs = host.simulation.now()
    this.#rule = new WatchRule(plan, this.#look(this.#lastLookUs))
    this.#wakeUp = this.#wakeAt(host.simulation.now())
  }

  get state(): WatchState {
    return {
      cells: this.#rule.cells,
      reachable: this.#rule.reachable,
      rounds: this.#rounds,
      failedRounds: this.#failedRounds,
      maxLatenessUs: this.#maxLatenessUs,
      lastRoundTripUs: this.#lastRoundTripUs,
      meanRoundTripUs: this.#meanRoundTripUs,
    }
  }

  update(plan: WatchPlan): void {
    if (this.#closed) return
    this.#host.check(plan)
    // The sample under way is of the old plan's cells.
    this.#abandon()
    this.#plan = plan
    this.#reader = new CellReader(plan.cells)
    this.#rule.update(plan)
    // A wake-up that is overdue is no less late because it is set anew.
    if (this.#intendedUs < this.#host.simulation.now()) this.#look(this.#intendedUs)
    this.#wakeUp.cancel()
    this.#wakeUp = this.#wakeAt(this.#host.simulation.now())
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#wakeUp.cancel()
    this.#abandon()
    this.#host.closed()
  }

  #wakeAt(intendedUs: number): Scheduled {
    const { simulation, connection } = this.#host
    this.#intendedUs = intendedUs
    return simulation.schedule(intendedUs - simulation.now(), () => {
      const { lateProbability, lateUs } = connection.conditions
      if (connection.random.chance(lateProbability)) this.#host.hold(connection.random.integer(0, Math.floor(lateUs)))
      return this.#whenFree(() => this.#wake(intendedUs))
    })
  }

  /** Runs `action` now, or when the watcher is no longer held up. */
  #whenFree(action: () => unknown): unknown {
    const { simulation, heldUntilUs } = this.#host
    if (this.#closed) return quiet
    if (heldUntilUs() <= simulation.now()) return action()
    this.#wakeUp = simulation.schedule(heldUntilUs() - simulation.now(), () => this.#whenFree(action))
    return quiet
  }

  /** The moment now, for a watcher that would have looked at `intendedUs`. One delay is counted once. */
  #look(intendedUs: number): Moment {
    const nowUs = this.#host.simulation.now()
    const latenessUs = nowUs - Math.max(intendedUs, this.#lastLookUs)
    if (latenessUs > ordinaryJitterUs) this.#lateUs += latenessUs
    this.#maxLatenessUs = Math.max(this.#maxLatenessUs, latenessUs)
    this.#lastLookUs = nowUs
    return { atUs: nowUs, lateUs: this.#lateUs }
  }

  #wake(intendedUs: number): unknown {
    const now = this.#look(intendedUs)
    // Timers are absolute: a late wake-up does not shift those after it, and missed ones are not made up for.
    const { intervalUs } = this.#plan
    const missed = Math.floor((now.atUs - intendedUs) / intervalUs)
    this.#wakeUp = this.#wakeAt(intendedUs + (missed + 1) * intervalUs)
    if (this.#underWay !== undefined) return this.#deliver(this.#rule.stillPending(now))
    this.#sample(now)
    return quiet
  }

  #sample(posted: Moment): void {
    const { connection, simulation } = this.#host
    const { ranges, targets } = this.#reader
    const operation: PostedOperation = connection.post(
      'sample',
      ranges[0] ?? probe,
      (finished, isOver) => connection.copy(ranges, targets, finished, isOver),
      (failure) => this.#whenSeen(operation, simulation.now(), (completed) => this.#completed(posted, completed, failure?.code)),
    )
    this.#underWay = operation
  }

  /** A completion is seen when the watcher looks: a watcher that is held up looks late. */
  #whenSeen(operation: PostedOperation, cameUs: number, action: (completed: Moment) => unknown): unknown {
    const { simulation, heldUntilUs } = this.#host
    // A sample that was abandoned says nothing about the present plan.
    if (this.#underWay !== operation) return quiet
    if (heldUntilUs() <= simulation.now()) return action(this.#look(cameUs))
    simulation.schedule(heldUntilUs() - simulation.now(), () => this.#whenSeen(operation, cameUs, action))
    return quiet
  }

  #completed(posted: Moment, completed: Moment, status: string | undefined): unknown {
    this.#underWay = undefined
    this.#rounds += 1
    if (status !== undefined) {
      this.#failedRounds += 1
      return this.#deliver(this.#rule.failed(completed, status))
    }
    const roundTripUs = completed.atUs - posted.atUs
    const isFirst = this.#rounds - this.#failedRounds === 1
    this.#lastRoundTripUs = roundTripUs
    this.#meanRoundTripUs = isFirst ? roundTripUs : this.#meanRoundTripUs + roundTripWeight * (roundTripUs - this.#meanRoundTripUs)
    return this.#deliver(this.#rule.succeeded(posted, completed, this.#reader.samples()))
  }

  #deliver(events: readonly WatchEvent[]): unknown {
    const plan = this.#plan
    for (const judged of events) {
      // The listener may close the watch, and may change the plan that cell numbers refer to.
      const event = plan === this.#plan ? judged : renumber(judged, plan, this.#plan)
      if (this.#closed) break
      if (event === undefined) continue
      this.#host.simulation.record(`${this.#host.peer} ${describeEvent(event)}`)
      this.#listener(event)
    }
    return events.length === 0 ? quiet : undefined
  }

  #abandon(): void {
    const abandoned = this.#underWay
    this.#underWay = undefined
    abandoned?.close()
  }
}

/** The event as the new plan numbers its cells; undefined where the cell is no longer watched. */
function renumber(event: WatchEvent, from: WatchPlan, to: WatchPlan): WatchEvent | undefined {
  if (event.kind !== 'stalled' && event.kind !== 'moved') return event
  const watched = from.cells[event.cell] as WatchedCell
  const cell = to.cells.findIndex((candidate) => isSameCell(candidate, watched))
  return cell < 0 ? undefined : { ...event, cell }
}

function describeEvent(event: WatchEvent): string {
  switch (event.kind) {
    case 'stalled':
    case 'moved':
      return `cell ${String(event.cell)} ${event.kind} at ${String(event.counter)}`
    case 'unreachable':
      return `is unreachable: ${event.status}`
    case 'reachable':
      return 'is reachable'
  }
}
