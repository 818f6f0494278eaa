/** Whether a server is slower because it is watched: pairs of runs, one watched and one not, in a random order. */
import { Agent, get } from 'node:http'
import { join } from 'node:path'
import { Random } from '../../fabric/mock/random.js'
import { BenchChild } from './children.js'
import { bootstrapInterval, distributionOf, quantile, sorted, type Distribution, type Interval } from './statistics.js'
import { roundsMore, WatchedFile, withFolder } from './watched-file.js'

export interface IntrusionOptions {
  readonly pairs: number
  readonly secondsEach: number
  readonly connections?: number
  readonly intervalUs?: number
}

/** Of all runs of one kind. */
export interface ServerFigures {
  readonly requestsPerSecond: Distribution
  readonly p99Ms: Distribution
}

export interface IntrusionResult {
  readonly pairs: number
  readonly secondsEach: number
  readonly connections: number
  readonly intervalUs: number
  readonly unwatched: ServerFigures
  readonly watched: ServerFigures
  /** Watched by unwatched, less 1, in percent: of each pair, averaged, with the interval that holds the average with 95% confidence. */
  readonly throughputChangePercent: Interval
  readonly p99ChangePercent: Interval
}

interface Run {
  readonly requestsPerSecond: number
  readonly p99Ms: number
}

const warmUpSeconds = 1

export async function benchIntrusion({ pairs, secondsEach, connections = 8, intervalUs = 1000 }: IntrusionOptions, progress: (text: string) => void): Promise<IntrusionResult> {
  return withFolder(async (folder) => {
    const file = new WatchedFile(join(folder, 'server'))
    const { child, said } = await BenchChild.start('server', file.path, 2500)
    const agent = new Agent({ keepAlive: true, maxSockets: connections })
    const load = (seconds: number): Promise<Run> => loadServer({ agent, port: Number(said) }, connections, seconds)
    const watched = async (): Promise<Run> => {
      const cells = [{ counterOffset: 0, deadlineUs: 10e6 }, { counterOffset: 64, deadlineUs: 10e6 }]
      const watch = file.memory.watch({ cells, intervalUs, unreachableAfterUs: 60e6 }, () => undefined)
      await roundsMore(watch, 2)
      return load(secondsEach).finally(() => watch.close())
    }
    try {
      await load(Math.min(warmUpSeconds, secondsEach))
      const random = new Random(1)
      const [unwatchedRuns, watchedRuns]: [Run[], Run[]] = [[], []]
      for (let pair = 0; pair < pairs; pair++) {
        progress(`pair ${pair + 1} of ${pairs}`)
        const isWatchedFirst = random.chance(0.5)
        if (isWatchedFirst) watchedRuns.push(await watched())
        unwatchedRuns.push(await load(secondsEach))
        if (!isWatchedFirst) watchedRuns.push(await watched())
      }
      const change = (pick: (run: Run) => number): Interval =>
        bootstrapInterval(watchedRuns.map((run, i) => (pick(run) / pick(unwatchedRuns[i] as Run) - 1) * 100), random)
      return {
        pairs, secondsEach, connections, intervalUs, unwatched: figuresOf(unwatchedRuns), watched: figuresOf(watchedRuns),
        throughputChangePercent: change(({ requestsPerSecond }) => requestsPerSecond), p99ChangePercent: change(({ p99Ms }) => p99Ms),
      }
    } finally {
      agent.destroy()
      await child.end()
      await file.close()
    }
  })
}

function figuresOf(runs: readonly Run[]): ServerFigures {
  const of = (pick: (run: Run) => number): Distribution => distributionOf(sorted(Float64Array.from(runs, pick)))
  return { requestsPerSecond: of(({ requestsPerSecond }) => requestsPerSecond), p99Ms: of(({ p99Ms }) => p99Ms) }
}

interface Target {
  readonly agent: Agent
  readonly port: number
}

/** So many requests are always under way. */
async function loadServer(target: Target, connections: number, seconds: number): Promise<Run> {
  const ms: number[] = []
  const startMs = performance.now()
  const untilMs = startMs + seconds * 1000
  const ask = async (): Promise<void> => {
    while (performance.now() < untilMs) ms.push(await request(target))
  }
  await Promise.all(Array.from({ length: connections }, ask))
  const elapsedMs = performance.now() - startMs
  return { requestsPerSecond: (ms.length / elapsedMs) * 1000, p99Ms: quantile(sorted(Float64Array.from(ms)), 0.99) }
}

/** @returns the milliseconds that it took, to the end of the answer */
function request({ agent, port }: Target): Promise<number> {
  const startMs = performance.now()
  return new Promise((resolve, reject) => {
    get({ agent, host: '127.0.0.1', port, path: '/' }, (response) => {
      response.resume().once('end', () => resolve(performance.now() - startMs)).once('error', reject)
    }).once('error', reject)
  })
}
