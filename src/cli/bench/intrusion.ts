/**
 * What it costs a server to be watched: short slices of one load that never pauses, of which half are watched, in groups of four whose order
 * is A B B A or B A A B, so that what changes slowly is in both kinds alike.
 */
import { join } from 'node:path'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { Random } from '../../fabric/mock/random.js'
import type { Watch } from '../../fabric/remote-memory.js'
import { BenchChild } from './children.js'
import { HttpConnection } from './http-client.js'
import { threadCpuUs } from './scale.js'
import { bootstrapInterval, distributionOf, quantile, sorted, type Distribution, type Interval } from './statistics.js'
import { roundsMore, WatchedFile, withFolder } from './watched-file.js'

export interface IntrusionOptions {
  /** Groups of four slices. */
  readonly groups: number
  readonly secondsEach: number
  readonly connections?: number
  readonly intervalUs?: number
}

/** Of all slices of one kind. */
export interface ServerFigures {
  readonly requestsPerSecond: Distribution
  /** A second being one of processor time of the server's process: what others do on its processor is not in it. */
  readonly requestsPerCpuSecond: Distribution
  readonly p99Ms: Distribution
}

export interface IntrusionResult {
  readonly groups: number
  readonly secondsEach: number
  readonly connections: number
  readonly intervalUs: number
  readonly unwatched: ServerFigures
  readonly watched: ServerFigures
  /** Of one processor's time, in percent: the watcher's thread, in the slices in which it watches. */
  readonly watcherCpuPercent: number
  /** Watched by unwatched, less 1, in percent: the mean of the groups, with the interval that holds it with 95% confidence. */
  readonly cpuThroughputChangePercent: Interval
  readonly throughputChangePercent: Interval
  readonly p99ChangePercent: Interval
}

interface Slice {
  readonly requestsPerSecond: number
  readonly requestsPerCpuSecond: number
  readonly p99Ms: number
  readonly watcherCpuPercent: number
}

const warmUpSeconds = 3
/** Between a change of the watch and the slice that it is for, in milliseconds. */
const settleMs = 5

export async function benchIntrusion({ groups, secondsEach, connections = 8, intervalUs = 1000 }: IntrusionOptions, progress: (text: string) => void): Promise<IntrusionResult> {
  return withFolder(async (folder) => {
    const file = new WatchedFile(join(folder, 'server'))
    const { child, said } = await BenchChild.start('server', file.path, 2500)
    const watched = new Watched(file, intervalUs)
    let load: Load | undefined
    try {
      load = await Load.start(Number(said), connections)
      await load.measure(Math.min(warmUpSeconds, 10 * secondsEach))
      const random = new Random(1)
      const slices: Record<'watched' | 'unwatched', Slice[]> = { watched: [], unwatched: [] }
      for (let group = 0; group < groups; group++) {
        progress(`group ${group + 1} of ${groups}`)
        const first = random.chance(0.5)
        for (const isWatched of [first, !first, !first, first]) {
          await watched.set(isWatched)
          await sleepMs(settleMs)
          slices[isWatched ? 'watched' : 'unwatched'].push(await load.measure(secondsEach))
        }
      }
      const change = (pick: (slice: Slice) => number): Interval => changePercent(slices.watched.map(pick), slices.unwatched.map(pick), random)
      return {
        groups, secondsEach, connections, intervalUs, unwatched: figuresOf(slices.unwatched), watched: figuresOf(slices.watched),
        watcherCpuPercent: slices.watched.reduce((sum, { watcherCpuPercent }) => sum + watcherCpuPercent, 0) / slices.watched.length,
        cpuThroughputChangePercent: change(({ requestsPerCpuSecond }) => requestsPerCpuSecond),
        throughputChangePercent: change(({ requestsPerSecond }) => requestsPerSecond), p99ChangePercent: change(({ p99Ms }) => p99Ms),
      }
    } finally {
      load?.stop()
      await watched.set(false)
      await child.end()
      await file.close()
    }
  })
}

/**
 * Of two slices of each kind a group: their ratio, less 1, in percent, averaged over the groups as a geometric mean. The arithmetic mean of
 * ratios is above 1 where both kinds are alike, the more so the more they scatter.
 */
export function changePercent(watched: readonly number[], unwatched: readonly number[], random: Random): Interval {
  const ofGroup = (all: readonly number[], group: number): number => (all[2 * group] as number) + (all[2 * group + 1] as number)
  const logarithms = Array.from({ length: watched.length / 2 }, (_, group) => Math.log(ofGroup(watched, group) / ofGroup(unwatched, group)))
  const percent = (logarithm: number): number => Math.expm1(logarithm) * 100
  const { mean, low, high } = bootstrapInterval(logarithms, random)
  return { mean: percent(mean), low: percent(low), high: percent(high) }
}

function figuresOf(slices: readonly Slice[]): ServerFigures {
  const of = (pick: (slice: Slice) => number): Distribution => distributionOf(sorted(Float64Array.from(slices, pick)))
  return { requestsPerSecond: of(({ requestsPerSecond }) => requestsPerSecond), requestsPerCpuSecond: of(({ requestsPerCpuSecond }) => requestsPerCpuSecond), p99Ms: of(({ p99Ms }) => p99Ms) }
}

/** The server's memory, watched or not. */
class Watched {
  #watch: Watch | undefined

  constructor(private readonly file: WatchedFile, private readonly intervalUs: number) {}

  async set(isWatched: boolean): Promise<void> {
    if (!isWatched) {
      this.#watch?.close()
      this.#watch = undefined
      return
    }
    const cells = [{ counterOffset: 0, deadlineUs: 10e6 }, { counterOffset: 64, deadlineUs: 10e6 }]
    this.#watch ??= this.file.memory.watch({ cells, intervalUs: this.intervalUs, unreachableAfterUs: 60e6 }, () => undefined)
    await roundsMore(this.#watch, 2)
  }
}

/** What the server says of itself, at one moment. */
interface Usage {
  readonly requests: number
  readonly cpuUs: number
  readonly atMs: number
}

const request = Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
const usage = Buffer.from('GET /usage HTTP/1.1\r\nHost: localhost\r\n\r\n')

/** So many requests are always under way. */
class Load {
  #ms: number[] = []
  #isOver = false
  #failure: Error | undefined

  private constructor(private readonly connections: readonly HttpConnection[], private readonly control: HttpConnection) {
    for (const connection of connections) this.#ask(connection).catch((error: unknown) => (this.#failure ??= error as Error))
  }

  static async start(port: number, connections: number): Promise<Load> {
    const all = await Promise.all(Array.from({ length: connections + 1 }, () => HttpConnection.open(port)))
    return new Load(all.slice(1), all[0] as HttpConnection)
  }

  async measure(seconds: number): Promise<Slice> {
    const before = await this.#usage()
    const watcherUs = threadCpuUs('bd-sampler')
    this.#ms = []
    await sleepMs(seconds * 1000)
    const [ms, after, watcherAfterUs] = [this.#ms, await this.#usage(), threadCpuUs('bd-sampler')]
    if (this.#failure !== undefined) throw this.#failure
    const requests = after.requests - before.requests
    const elapsedMs = after.atMs - before.atMs
    return {
      requestsPerSecond: (requests / elapsedMs) * 1000, requestsPerCpuSecond: (requests / (after.cpuUs - before.cpuUs)) * 1e6,
      p99Ms: quantile(sorted(Float64Array.from(ms)), 0.99), watcherCpuPercent: (watcherAfterUs - watcherUs) / elapsedMs / 10,
    }
  }

  stop(): void {
    this.#isOver = true
    for (const connection of [...this.connections, this.control]) connection.close()
  }

  async #ask(connection: HttpConnection): Promise<void> {
    while (!this.#isOver) {
      const startMs = performance.now()
      await connection.request(request)
      this.#ms.push(performance.now() - startMs)
    }
  }

  async #usage(): Promise<Usage> {
    return JSON.parse(await this.control.request(usage)) as Usage
  }
}
