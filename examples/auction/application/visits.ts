/**
 * The visits that this node has. Each is worked on by one request at a time, and whatever was interrupted in it is finished
 * before anything else is done.
 */
import type { SessionStore } from 'backdoors'
import type { StepRun } from '../database/steps.js'
import { emptyVisit, finished, type Step, type Visit } from './visit.js'

/** What it needs of a session store of `attach`. */
export type VisitStore = Pick<SessionStore<Visit>, 'get' | 'commit' | 'ids'>

export interface VisitsOptions {
  readonly store: VisitStore
  /** Runs the step in the database, exactly once however often it is called. */
  readonly run: (step: Step) => Promise<StepRun>
  /** A step that somebody else began has been finished here. */
  readonly onFinished?: (step: Step, run: StepRun) => void
  /** Between the database's commit and the session's: where a failure tells most. */
  readonly betweenCommits?: (step: Step) => Promise<void>
}

export class Visits {
  readonly #options: VisitsOptions
  /** The end of the last work on each visit that is worked on. */
  readonly #busy = new Map<string, Promise<void>>()

  constructor(options: VisitsOptions) {
    this.#options = options
  }

  has(id: string): boolean {
    return this.#options.store.get(id) !== undefined
  }

  make(id: string): void {
    this.#options.store.commit(id, emptyVisit)
  }

  /**
   * Runs `work` alone on this visit. A step left pending in it is finished first.
   * @param work is given undefined where the visit is not here
   */
  async with<T>(id: string, work: (visit: Visit | undefined) => Promise<T>): Promise<T> {
    const before = this.#busy.get(id) ?? Promise.resolve()
    const result = before.then(async () => work(await this.#finished(id)))
    const end = result.then(() => undefined, () => undefined)
    this.#busy.set(id, end)
    try {
      return await result
    } finally {
      if (this.#busy.get(id) === end) this.#busy.delete(id)
    }
  }

  commit(id: string, visit: Visit): Visit {
    this.#options.store.commit(id, visit)
    return visit
  }

  /** Commits that the step will be done, does it, and commits what came of it. */
  async step(id: string, visit: Visit, step: Step): Promise<Visit> {
    const { run, betweenCommits } = this.#options
    const pending = this.commit(id, { ...visit, pending: step })
    const { result } = await run(step)
    await betweenCommits?.(step)
    return this.commit(id, finished(pending, step, result))
  }

  /** Finishes what was interrupted in these visits, without waiting for their visitors. Never rejects. */
  async finish(ids: Iterable<string>): Promise<void> {
    // One after the other: nobody waits for them, and those who do come by `with`. What fails here is tried again there.
    for (const id of ids) if (this.#options.store.get(id)?.pending) await this.with(id, async () => undefined).catch(() => undefined)
  }

  async #finished(id: string): Promise<Visit | undefined> {
    const { store, run, onFinished } = this.#options
    const visit = store.get(id)
    if (!visit?.pending) return visit
    const { pending } = visit
    const outcome = await run(pending)
    const next = this.commit(id, finished(visit, pending, outcome.result))
    onFinished?.(pending, outcome)
    return next
  }
}
