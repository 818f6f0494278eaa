/** Benchmarks run tiny here, so that they cannot rot. What they find while tests run says nothing, so nothing of it is asserted. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Histogram } from '../../fabric/histogram.js'
import { Random } from '../../fabric/mock/random.js'
import { histogramBoundUs, histogramBuckets } from '../../native/memory.js'
import { CliProcess } from '../testing/cli-process.js'
import { compileProgram, type CompiledProgram } from '../testing/compile.js'
import { jsonOf, runCli } from '../testing/run-cli.js'
import { clearTrials } from './detect.js'
import { curveOf } from './false-suspicions.js'
import { changePercent } from './intrusion.js'
import { bootstrapInterval } from './statistics.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

let program: CompiledProgram
const folder = mkdtempSync(join(tmpdir(), 'backdoors-bench-'))

beforeAll(() => {
  program = compileProgram()
})
afterAll(() => {
  program.remove()
  rmSync(folder, { recursive: true, force: true })
})

/** As a process, for they start others. @returns the JSON object that it printed */
async function bench(...args: readonly string[]): Promise<Record<string, unknown>> {
  const cli = new CliProcess(program.main, ['bench', ...args, '--json'])
  try {
    expect(await cli.ended(), cli.stderr).toEqual({ code: 0, signal: null })
    return cli.events.at(-1) as unknown as Record<string, unknown>
  } finally {
    await cli.destroy()
  }
}

const ofSamples = (samples: number): object => ({ samples, p50: expect.any(Number) as number, p99: expect.any(Number) as number })

describe('the benchmarks', () => {
  it('detect: kills processes, and times the verdicts', async () => {
    const [history, plot] = [join(folder, 'detect.ndjson'), join(folder, 'detect.svg')]
    const { detect } = await bench('detect', '--trials', '2', '--deadline-us', '2000000', '--interval-us', '500000', '--history', history, '--plot', plot)
    const [row] = detect as [{ tooEarly: number; unclear: number; verdictUs: { samples: number; min: number | null }; heardUs: { samples: number; min: number | null } }]
    expect(row).toMatchObject({ deadlineUs: 2_000_000, intervalUs: 500_000, goalP50Us: 2_500_000 })
    const { tooEarly, unclear, verdictUs, heardUs } = row
    // A busy machine may take it for dead too early, or take long to kill it: then another is killed.
    expect([verdictUs.samples, heardUs.samples]).toEqual([2, 2])
    expect(tooEarly + unclear).toBeLessThanOrEqual(6)
    expect(verdictUs.min).toBeGreaterThan(0)
    expect(heardUs.min).toBeGreaterThan(verdictUs.min ?? Infinity)
    const rows = readFileSync(history, 'utf8').trimEnd().split('\n').map((line) => (JSON.parse(line) as { name: string }).name)
    expect(readFileSync(plot, 'utf8')).toMatch(/^<svg .*From the kill to the verdict.*<\/svg>\s*$/s)
    expect(rows).toEqual(['detect/verdict/2000000/500000', 'detect/heard/2000000/500000'])
  })

  it('false-suspicions: counts them, with and without load', async () => {
    for (const load of [[], ['--load']]) {
      const { falseSuspicions } = await bench('false-suspicions', '--rounds', '100', '--deadline-us', '30000000', '--interval-us', '2000', ...load)
      expect(falseSuspicions).toMatchObject({ deadlineUs: 30_000_000, suspicions: 0, load: load.length === 0 ? 'none' : expect.stringMatching(/processor/) as string })
      expect((falseSuspicions as { rounds: number }).rounds).toBeGreaterThanOrEqual(100)
    }
  })

  it('scale: weighs the thread at several numbers of peers', async () => {
    const { scale } = await bench('scale', '--peers', '2,5', '--seconds', '0.05')
    const figures = { cpuPercent: expect.any(Number) as number, highestHeldHz: expect.any(Number) as number }
    expect(scale).toMatchObject([{ peers: 2, sensors: 8, ...figures }, { peers: 5, sensors: 20, ...figures }])
    for (const { cpuUsPerRound } of scale as { cpuUsPerRound: number }[]) expect(cpuUsPerRound).toBeGreaterThan(0)
  })

  it('intrusion: loads a server in slices, of which half are watched', async () => {
    const { intrusion } = await bench('intrusion', '--groups', '2', '--seconds', '0.1')
    const figures = { requestsPerSecond: ofSamples(4), requestsPerCpuSecond: ofSamples(4), p99Ms: ofSamples(4) }
    const interval = { mean: expect.any(Number) as number, low: expect.any(Number) as number, high: expect.any(Number) as number }
    expect(intrusion).toMatchObject({ groups: 2, unwatched: figures, watched: figures, cpuThroughputChangePercent: interval, throughputChangePercent: interval, p99ChangePercent: interval })
    // It did watch.
    expect((intrusion as { watcherCpuPercent: number }).watcherCpuPercent).toBeGreaterThan(0)
  })

  it.each(['bare', 'express'])('continuable: loads a server with connections that outlive their machine, and one without: %s', async (application) => {
    const { continuable } = await bench('continuable', '--pairs', '2', '--requests', '64', '--application', application)
    const figures = { requestsPerSecond: ofSamples(2), cpuUs: ofSamples(2) }
    const interval = { mean: expect.any(Number) as number, low: expect.any(Number) as number, high: expect.any(Number) as number }
    expect(continuable).toMatchObject({ application, pairs: 2, requests: 64, connections: 16, plain: figures, continuable: figures, throughputRatio: interval, cpuRatio: interval })
  })

  it('extract: extracts, copies and adopts', async () => {
    const argv = ['bench', 'extract', '--sessions', '50', '--bytes', '300', '--adopted', '60', '--adopted-bytes', '40', '--runs', '3']
    const { extract } = jsonOf(await runCli([...argv, '--json'])) as { extract: object }
    expect(extract).toMatchObject({ sessions: 50, adopted: 60, extractMBps: ofSamples(3), oneThreadMBps: ofSamples(3), firstExtractMBps: ofSamples(3), coldExtractMBps: expect.any(Number) as number, memcpyMBps: ofSamples(3), newMemcpyMBps: ofSamples(3), ofMemcpy: ofSamples(3), oneThreadOfMemcpy: ofSamples(3), adoptMs: ofSamples(3) })
    expect((await runCli(argv)).stdout).toMatch(/extraction, 50 × 300 B, by [12] threads?.*\n.*by 1 thread.*\n.*memcpy/)
  })

  it.each([['detect --trials 0'], ['scale --peers 4,x'], ['false-suspicions --interval-us -1'], ['extract --runs 1.5']])('refuse %s', async (argv) => {
    expect((await runCli(`bench ${argv}`)).exitCode).toBe(2)
  })
})

describe('their figures', () => {
  it('detect goes on until as many trials as wanted tell something, and gives up after four times as many', async () => {
    const outcomes = ['unclear', { us: 1 }, 'tooEarly', 'unclear', { us: 2 }, { us: 3 }] as const
    let attempts = 0
    expect(await clearTrials(2, () => Promise.resolve(outcomes[attempts++] ?? 'unclear'))).toEqual({ done: [{ us: 1 }, { us: 2 }], missed: { tooEarly: 1, unclear: 2 } })
    expect(attempts).toBe(5)
    expect(await clearTrials(3, () => Promise.resolve('unclear' as const))).toEqual({ done: [], missed: { tooEarly: 0, unclear: 12 } })
  })

  it('a curve of false suspicions comes from the ages of one run, exact at its points, and ends where there are none', () => {
    const counts = new Float64Array(histogramBuckets)
    counts[60] = 5
    counts[62] = 1
    const curve = curveOf(new Histogram(counts), 1_000_000, histogramBoundUs(59))
    expect(curve.map(({ suspicions, perMillionRounds }) => [suspicions, perMillionRounds])).toEqual([[6, 6], [6, 6], [1, 1], [1, 1], [0, 0]])
    expect(curve.map(({ deadlineUs }) => deadlineUs)).toEqual([59, 60, 61, 62, 63].map(histogramBoundUs))
  })

  it('intrusion finds a change where there is one, and none where there is only scatter, however much', () => {
    const random = new Random(5)
    const scattered = (factor: number): number[] => Array.from({ length: 2000 }, () => factor * Math.exp(random.float() - 0.5))
    const { mean, low, high } = changePercent(scattered(100), scattered(100), random)
    expect([low < 0, high > 0, Math.abs(mean) < 2.5]).toEqual([true, true, true])
    const slower = changePercent(scattered(80), scattered(100), random)
    expect([slower.low < -20, slower.high > -20, slower.high < -15]).toEqual([true, true, true])
    // The mean of 0.5 and 2 is 1.25.
    expect(changePercent([1, 1, 2, 2], [2, 2, 1, 1], random).mean).toBeCloseTo(0)
  })

  it('a bootstrap interval holds the mean, and is the narrower the more samples there are', () => {
    const random = new Random(7)
    const draw = (count: number): number[] => Array.from({ length: count }, () => random.float() - 0.5)
    const few = bootstrapInterval(draw(10), random)
    const many = bootstrapInterval(draw(300), random)
    for (const { mean, low, high } of [few, many]) expect([low < mean, mean < high]).toEqual([true, true])
    expect(many.high - many.low).toBeLessThan((few.high - few.low) / 2)
    expect(bootstrapInterval([2, 2, 2], random)).toEqual({ mean: 2, low: 2, high: 2 })
  })
})
