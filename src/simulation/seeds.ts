/** Runs many seeds, on several threads where that is asked for, and gives their outcomes in the order of the seeds. */
import { Worker } from 'node:worker_threads'
import type { Outcome } from './run.js'
import { runScenario } from './run.js'
import { drawScenario, type ScenarioOptions } from './scenario.js'

export interface SeedsOptions {
  readonly first: number
  readonly count: number
  readonly scenario: ScenarioOptions
  /** Threads; with 1, all of it runs in this one. */
  readonly jobs: number
}

/** What a thread is given, and what it gives back: an outcome without its story is short. */
export interface Job {
  readonly seed: number
  readonly scenario: ScenarioOptions
}

export async function* runSeeds({ first, count, scenario, jobs }: SeedsOptions): AsyncGenerator<Outcome> {
  if (jobs <= 1 || count <= 1) {
    for (let seed = first; seed < first + count; seed++) yield await runScenario(drawScenario(seed, scenario))
    return
  }
  const threads = Array.from({ length: Math.min(jobs, count) }, () => new Thread())
  try {
    // Each thread has a queue of its own, so a seed's outcome waits for none but those before it there.
    const outcomes = Array.from({ length: count }, (_, index) => (threads[index % threads.length] as Thread).run({ seed: first + index, scenario }))
    for (const outcome of outcomes) outcome.catch(() => undefined)
    for (const outcome of outcomes) yield await outcome
  } finally {
    await Promise.all(threads.map((thread) => thread.end()))
  }
}

class Thread {
  readonly #worker = new Worker(new URL('./worker.js', import.meta.url))
  #last: Promise<unknown> = Promise.resolve()

  run(job: Job): Promise<Outcome> {
    const run = this.#last.then(() => this.#post(job))
    this.#last = run.catch(() => undefined)
    return run
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }

  #post(job: Job): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#worker.off('message', onMessage)
        this.#worker.off('error', onError)
      }
      const onMessage = (outcome: Outcome): void => {
        settle()
        resolve(outcome)
      }
      const onError = (error: Error): void => {
        settle()
        reject(error)
      }
      this.#worker.on('message', onMessage)
      this.#worker.on('error', onError)
      this.#worker.postMessage(job)
    })
  }
}
