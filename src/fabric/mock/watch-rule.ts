/**
 * When is a counter stalled, and when is a memory unreachable? A small state machine without clock or I/O: the
 * native sampler (`addon/common/sampled_target.cc`) implements the same rule.
 *
 * - A read shows the memory at some instant between its post and its completion. So a counter is known not to have
 *   moved from the completion of the read that first saw its value until the post of the last one that still sees it.
 * - Time in which the watcher itself was late does not count.
 * - While the pending word is 0 the age is held at 0; it begins with the first read that sees work pending.
 * - When reads succeed again after the memory was unreachable, ages begin anew.
 */
import type { CellState, WatchedCell, WatchEvent, WatchPlan } from '../remote-memory.js'

/** A moment as the watcher knows it: its clock, and all the time until then in which the watcher itself was late. */
export interface Moment {
  readonly atUs: number
  readonly lateUs: number
}

/** What one read saw of one cell; `pending` is taken as 1 where the counter always has to move. */
export interface CellSample {
  readonly counter: number
  readonly pending: number
}

interface CellHistory {
  readonly cell: WatchedCell
  seen: boolean
  counter: number
  pending: number
  since: Moment
  ageUs: number
  stalled: boolean
}

const newHistory = (cell: WatchedCell): CellHistory => ({
  cell, seen: false, counter: 0, pending: 0, since: { atUs: 0, lateUs: 0 }, ageUs: 0, stalled: false,
})

/** Two plans mean the same cell by the same offsets; its deadline may differ. */
export function isSameCell(left: WatchedCell, right: WatchedCell): boolean {
  return left.counterOffset === right.counterOffset && left.pendingOffset === right.pendingOffset
}

/** The time between two moments that counts against a peer; never negative. */
const countedUs = (from: Moment, to: Moment): number => Math.max(0, to.atUs - from.atUs - (to.lateUs - from.lateUs))

export class WatchRule {
  #plan: WatchPlan
  #cells: CellHistory[]
  #lastSuccess: Moment
  #reachable = true
  #failure: string | undefined

  constructor(plan: WatchPlan, start: Moment) {
    this.#plan = plan
    this.#cells = plan.cells.map(newHistory)
    this.#lastSuccess = start
  }

  get reachable(): boolean {
    return this.#reachable
  }

  get cells(): readonly CellState[] {
    return this.#cells.map(({ counter, pending, ageUs, stalled }) => ({ counter, pending, ageUs, stalled }))
  }

  /** Cells that stand in both plans at the same offsets keep their history. */
  update(plan: WatchPlan): void {
    const old = this.#cells
    this.#cells = plan.cells.map((cell) => {
      const history = old.find((candidate) => isSameCell(candidate.cell, cell))
      return history === undefined ? newHistory(cell) : { ...history, cell }
    })
    this.#plan = plan
  }

  /** The watcher looked, and the read is still under way. */
  stillPending(now: Moment): WatchEvent[] {
    return this.#judgeReachability(now)
  }

  /** A read failed with the error code `status`. */
  failed(now: Moment, status: string): WatchEvent[] {
    // The first failure tells the cause; those after it may only tell that the queue pair is broken.
    this.#failure ??= status
    return this.#judgeReachability(now)
  }

  /** A read that was posted at `posted` came back, with one sample for each cell. */
  succeeded(posted: Moment, completed: Moment, samples: readonly CellSample[]): WatchEvent[] {
    const events: WatchEvent[] = []
    const anew = !this.#reachable
    if (anew) events.push({ kind: 'reachable', atUs: completed.atUs })
    this.#reachable = true
    this.#failure = undefined
    this.#lastSuccess = completed
    this.#cells.forEach((history, cell) => {
      const sample = samples[cell]
      const event = sample === undefined ? undefined : look(history, cell, sample, { posted, completed, anew })
      if (event !== undefined) events.push(event)
    })
    return events
  }

  #judgeReachability(now: Moment): WatchEvent[] {
    if (!this.#reachable || countedUs(this.#lastSuccess, now) < this.#plan.unreachableAfterUs) return []
    this.#reachable = false
    return [{ kind: 'unreachable', status: this.#failure ?? 'TIMEOUT', sinceUs: this.#lastSuccess.atUs, atUs: now.atUs }]
  }
}

interface Look {
  readonly posted: Moment
  readonly completed: Moment
  readonly anew: boolean
}

function look(history: CellHistory, cell: number, sample: CellSample, { posted, completed, anew }: Look): WatchEvent | undefined {
  const { counter, pending } = sample
  const atUs = completed.atUs
  const hasMoved = !history.seen || counter !== history.counter
  const hadNothingToDo = history.seen && history.pending === 0
  history.seen = true
  history.counter = counter
  history.pending = pending
  // Work that is seen pending for the first time may have come just now, so the deadline runs from here.
  if (hasMoved || pending === 0 || hadNothingToDo || anew) history.since = completed
  history.ageUs = countedUs(history.since, posted)
  if (history.stalled && (hasMoved || pending === 0)) {
    history.stalled = false
    return { kind: 'moved', cell, counter, atUs }
  }
  if (history.stalled || history.ageUs < history.cell.deadlineUs) return undefined
  history.stalled = true
  return { kind: 'stalled', cell, counter, lastChangeUs: history.since.atUs, atUs }
}
