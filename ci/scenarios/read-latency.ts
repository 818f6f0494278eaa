/**
 * Our reads beside perftest's, in one guest, in one run, by turns, so that whatever else the machine does falls on both.
 *
 * The arrangement: perftest's responder is a process of its own that sleeps while it is read, and so is ours. Both sides
 * of a pair use the same device, GID, size, path MTU and number of samples; every sample counts (`-U` for perftest's).
 * A round measures each pair once, ours and theirs in an order that changes from round to round; a ratio is the median
 * of the rounds' ratios.
 *
 * `awaitedRatio` is of all awaited reads, as a program has them. On soft-RoCE's loopback most are done before `run` has
 * returned, and so is ib_read_lat's event there before it is waited for; `awaitedByEventRatio` is of those reads alone
 * for which the event loop had to turn, and stands beside it without a goal: they are the slow ones, by selection.
 * `bandwidthRatio` is of prepared reads, which as ib_read_bw's stay where they were put; `copiedBandwidthRatio`, without
 * a goal, of readMany's, which gives each caller bytes of its own.
 */
import { fileURLToPath } from 'node:url'
import { distributionOf, sorted, type Distribution } from '../../src/cli/bench/statistics.js'
import type { Tier } from '../../src/cli/bench/latency.js'
import { bandwidthPlan, copiedBandwidthPlan, ratePlan, type ThroughputPlan } from '../../src/cli/bench/throughput.js'
import { AnsweringProcess } from '../answering-process.js'
import type { Guest } from '../guest.js'
import { requireTools } from '../host-tools.js'
import type { Scenario, ScenarioResult } from '../scenario.js'
import { medianOf } from '../spread.js'
import { parseBandwidth } from './perftest.js'
import type { LatencyAnswer, MeasureRequest, ThroughputAnswer } from './read-latency-guest.js'

const size = 8
const iterations = 10_000
const warmUp = 500
const defaultRounds = 4
const leastRounds = 2
/** After so long no further round is begun, unless trials ask for it: a loaded machine takes minutes. In milliseconds. */
const enoughMs = 75_000
const bytesPerMiB = 2 ** 20
const measureTimeoutMs = 60_000

/** Calls that take about as long as perftest's iterations do. */
const rateCalls = 200
const rateIterations = 12_800
const bandwidthCalls = 160
const bandwidthIterations = 640

interface Goal {
  /** `ours / theirs` has to be at most so much, or at least so much. */
  readonly most?: number
  readonly least?: number
}

/** What the ratios shall be. */
const goals: Readonly<Record<string, Goal>> = {
  nativeRatio: { most: 1.05 },
  syncRatio: { most: 1.3 },
  awaitedRatio: { most: 1.5 },
  rateRatio: { least: 0.9 },
  bandwidthRatio: { least: 0.95 },
}
/** An emulated machine is noisy: a goal that is missed is reported, one that is missed by this factor is a failure. */
const margin = 2

interface Round {
  readonly ibReadLat: Distribution
  readonly ibReadLatEvents: Distribution
  readonly ours: Readonly<Record<Tier, LatencyAnswer>>
  readonly ibReadBw64PerSecond: number
  readonly readManyPerSecond: number
  readonly ibReadBw64KiBMBps: number
  readonly ours64KiBMBps: number
  readonly copied64KiBMBps: number
}

/** Lines of `-U` are `number, microseconds`; perftest has one sample less than iterations. */
export function parseSamples(output: string): Float64Array {
  return Float64Array.from([...output.matchAll(/^\s*\d+,\s*(\d[\d.e+]*)\s*$/gm)], ([, us]) => Number(us))
}

/** One perftest program as server and client on one guest's loopback; returns what the client printed. */
async function perftest(guest: Guest, program: string, args: readonly string[]): Promise<string> {
  const common = [program, '-d', 'rxe0', '-x', String(guest.gidIndex), '-F', ...args]
  const server = await guest.spawn(['stdbuf', '-oL', ...common])
  await server.waitForLine(/Waiting for client to connect/)
  const output = await guest.check([...common, guest.ip], { timeoutMs: measureTimeoutMs })
  await server.result(10_000)
  return output
}

async function ibReadLat(guest: Guest, ...more: string[]): Promise<Distribution> {
  const samples = parseSamples(await perftest(guest, 'ib_read_lat', ['-s', String(size), '-n', String(iterations), '-U', ...more]))
  if (samples.length !== iterations - 1) throw new Error(`ib_read_lat printed ${samples.length} samples instead of ${iterations - 1}`)
  return distributionOf(sorted(samples))
}

async function ibReadBw(guest: Guest, length: number, count: number): Promise<{ readsPerSecond: number; megabytesPerSecond: number }> {
  const { averageMBps } = parseBandwidth(await perftest(guest, 'ib_read_bw', ['-s', String(length), '-n', String(count)]))
  // perftest's MB are of 2^20 bytes.
  const bytesPerSecond = averageMBps * bytesPerMiB
  return { readsPerSecond: bytesPerSecond / length, megabytesPerSecond: bytesPerSecond / 1e6 }
}

/** Our measuring process. */
class Ours {
  private constructor(readonly process: AnsweringProcess) {}

  static async start(guest: Guest): Promise<Ours> {
    const ours = new AnsweringProcess(await guest.spawn([process.execPath, fileURLToPath(new URL('./read-latency-guest.js', import.meta.url))]), measureTimeoutMs)
    await ours.next()
    return new Ours(ours)
  }

  async latency(tier: Tier): Promise<LatencyAnswer> {
    const answer = (await this.#ask({ kind: 'latency', tier, size, iterations, warmUp })) as LatencyAnswer
    if (answer.ns.samples !== iterations) throw new Error(`the ${tier} tier has ${answer.ns.samples} samples instead of ${iterations}`)
    return answer
  }

  async throughput(plan: Omit<ThroughputPlan, 'calls'>, calls: number): Promise<ThroughputAnswer> {
    return (await this.#ask({ kind: 'throughput', plan: { ...plan, calls }, warmUpCalls: 4 })) as ThroughputAnswer
  }

  async #ask(request: MeasureRequest): Promise<unknown> {
    return JSON.parse(await this.process.ask(JSON.stringify(request))) as unknown
  }
}

/** Takes `ours` and `theirs` one after the other, whichever comes first. */
async function byTurns<A, B>(oursFirst: boolean, ours: () => Promise<A>, theirs: () => Promise<B>): Promise<[A, B]> {
  if (oursFirst) return [await ours(), await theirs()]
  const their = await theirs()
  return [await ours(), their]
}

async function measureRound(guest: Guest, ours: Ours, oursFirst: boolean): Promise<Round> {
  // ib_read_lat stands between the two that are compared with it.
  const before = await ours.latency(oursFirst ? 'synchronous' : 'native')
  const lat = await ibReadLat(guest)
  const after = await ours.latency(oursFirst ? 'native' : 'synchronous')
  const [native, synchronous] = oursFirst ? [after, before] : [before, after]
  const [awaited, latEvents] = await byTurns(oursFirst, () => ours.latency('awaited'), () => ibReadLat(guest, '-e'))
  const [rate, bw64] = await byTurns(oursFirst, () => ours.throughput(ratePlan, rateCalls), () => ibReadBw(guest, ratePlan.size, rateIterations))
  const [bandwidth, bw64KiB] = await byTurns(oursFirst, () => ours.throughput(bandwidthPlan, bandwidthCalls), () => ibReadBw(guest, bandwidthPlan.size, bandwidthIterations))
  const copied = await ours.throughput(copiedBandwidthPlan, bandwidthCalls)
  return {
    ibReadLat: lat, ibReadLatEvents: latEvents, ours: { native, synchronous, awaited },
    ibReadBw64PerSecond: bw64.readsPerSecond, readManyPerSecond: rate.readsPerSecond,
    ibReadBw64KiBMBps: bw64KiB.megabytesPerSecond, ours64KiBMBps: bandwidth.megabytesPerSecond, copied64KiBMBps: copied.megabytesPerSecond,
  }
}

const rounded = (value: number, digits: number): number => Number(value.toFixed(digits))

/** perftest's samples are microseconds, ours are nanoseconds. */
const usOf = (ns: number): number => ns / 1000

function ratiosOf(rounds: readonly Round[]): Record<string, number> {
  const median = (ratio: (round: Round) => number): number => rounded(medianOf(rounds.map(ratio)), 3)
  return {
    nativeRatio: median(({ ours, ibReadLat: { p50 } }) => usOf(ours.native.ns.p50) / p50),
    syncRatio: median(({ ours, ibReadLat: { p50 } }) => usOf(ours.synchronous.ns.p50) / p50),
    awaitedRatio: median(({ ours, ibReadLatEvents: { p50 } }) => usOf(ours.awaited.ns.p50) / p50),
    awaitedByEventRatio: median(({ ours, ibReadLatEvents: { p50 } }) => usOf((ours.awaited.byEventNs ?? ours.awaited.ns).p50) / p50),
    rateRatio: median(({ readManyPerSecond, ibReadBw64PerSecond }) => readManyPerSecond / ibReadBw64PerSecond),
    bandwidthRatio: median(({ ours64KiBMBps, ibReadBw64KiBMBps }) => ours64KiBMBps / ibReadBw64KiBMBps),
    copiedBandwidthRatio: median(({ copied64KiBMBps, ibReadBw64KiBMBps }) => copied64KiBMBps / ibReadBw64KiBMBps),
  }
}

/** Each round's figures, in the order of the rounds. */
function figuresOf(rounds: readonly Round[]): Record<string, readonly (number | null)[]> {
  const all = (figure: (round: Round) => number | undefined): (number | null)[] =>
    rounds.map((round) => {
      const value = figure(round)
      return value === undefined ? null : rounded(value, 2)
    })
  return {
    ibReadLatP50Us: all(({ ibReadLat }) => ibReadLat.p50),
    nativeP50Us: all(({ ours }) => usOf(ours.native.ns.p50)),
    syncP50Us: all(({ ours }) => usOf(ours.synchronous.ns.p50)),
    ibReadLatP99Us: all(({ ibReadLat }) => ibReadLat.p99),
    nativeP99Us: all(({ ours }) => usOf(ours.native.ns.p99)),
    syncP99Us: all(({ ours }) => usOf(ours.synchronous.ns.p99)),
    ibReadLatEventsP50Us: all(({ ibReadLatEvents }) => ibReadLatEvents.p50),
    awaitedP50Us: all(({ ours }) => usOf(ours.awaited.ns.p50)),
    awaitedP99Us: all(({ ours }) => usOf(ours.awaited.ns.p99)),
    awaitedByEventP50Us: all(({ ours }) => (ours.awaited.byEventNs === null ? undefined : usOf(ours.awaited.byEventNs.p50))),
    awaitedByEventSamples: all(({ ours }) => ours.awaited.byEventNs?.samples ?? 0),
    ibReadBw64PerSecond: all((round) => round.ibReadBw64PerSecond),
    readManyPerSecond: all((round) => round.readManyPerSecond),
    ibReadBw64KiBMBps: all((round) => round.ibReadBw64KiBMBps),
    ours64KiBMBps: all((round) => round.ours64KiBMBps),
    copied64KiBMBps: all((round) => round.copied64KiBMBps),
  }
}

function judge(ratios: Record<string, number>): { goals: Record<string, { measured: number; goal: string; met: boolean }>; farOff: string[] } {
  const judged: Record<string, { measured: number; goal: string; met: boolean }> = {}
  const farOff: string[] = []
  for (const [name, { most = Infinity, least = 0 }] of Object.entries(goals)) {
    const measured = ratios[name] ?? NaN
    judged[name] = { measured, goal: least > 0 ? `>= ${least}` : `<= ${most}`, met: measured <= most && measured >= least }
    if (!(measured <= most * margin && measured >= least / margin)) farOff.push(name)
  }
  return { goals: judged, farOff }
}

export const readLatency: Scenario = {
  name: 'read-latency',
  summary: 'our reads beside ib_read_lat and ib_read_bw, by turns in one guest: latency by three ways, message rate, bandwidth',
  async run(context): Promise<ScenarioResult> {
    const { log, trials } = context
    await requireTools(['ib_read_lat', 'ib_read_bw'])
    const [guest] = await context.boot(['reader'], { memoryMiB: 768 })
    const ours = await Ours.start(guest)
    const rounds: Round[] = []
    const startedMs = performance.now()
    const isEnough = (round: number): boolean => round >= Math.max(trials, leastRounds) && (round >= defaultRounds || performance.now() - startedMs > enoughMs)
    for (let round = 0; !isEnough(round); round += 1) {
      rounds.push(await measureRound(guest, ours, round % 2 === 1))
      log(`round ${round + 1}: ${Object.entries(ratiosOf(rounds.slice(-1))).map(([name, ratio]) => `${name} ${ratio}`).join(', ')}`)
    }
    await ours.process.end()
    const ratios = ratiosOf(rounds)
    const figures = figuresOf(rounds)
    const sane = Object.values({ ...ratios, ...figures }).flat().every((value) => value === null || (Number.isFinite(value) && value >= 0))
    const { goals: judged, farOff } = judge(ratios)
    return {
      ok: sane && farOff.length === 0, ...ratios, goals: judged, farOff, failsBeyond: `a goal missed by a factor of ${margin}`,
      samples: iterations, rounds: rounds.length, responder: 'a process of its own, asleep, for perftest and for us', verified: true, figures,
    }
  },
}
