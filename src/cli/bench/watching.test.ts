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
import { curveOf } from './false-suspicions.js'
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
    expect([tooEarly + unclear + verdictUs.samples, tooEarly + unclear + heardUs.samples]).toEqual([2, 2])
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

  it('intrusion: loads a server in pairs of runs', async () => {
    const { intrusion } = await bench('intrusion', '--pairs', '2', '--seconds', '0.1')
    const figures = { requestsPerSecond: ofSamples(2), p99Ms: ofSamples(2) }
    expect(intrusion).toMatchObject({ pairs: 2, unwatched: figures, watched: figures, throughputChangePercent: { mean: expect.any(Number) as number, low: expect.any(Number) as number, high: expect.any(Number) as number } })
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
    expect(extract).toMatchObject({ sessions: 50, adopted: 60, extractMBps: ofSamples(3), firstExtractMBps: ofSamples(3), memcpyMBps: ofSamples(3), newMemcpyMBps: ofSamples(3), ofMemcpy: ofSamples(3), adoptMs: ofSamples(3) })
    expect((await runCli(argv)).stdout).toMatch(/extraction, 50 × 300 B.*\n.*memcpy/)
  })

  it.each([['detect --trials 0'], ['scale --peers 4,x'], ['false-suspicions --interval-us -1'], ['extract --runs 1.5']])('refuse %s', async (argv) => {
    expect((await runCli(`bench ${argv}`)).exitCode).toBe(2)
  })
})

describe('their figures', () => {
  it('a curve of false suspicions comes from the ages of one run, exact at its points, and ends where there are none', () => {
    const counts = new Float64Array(histogramBuckets)
    counts[60] = 5
    counts[62] = 1
    const curve = curveOf(new Histogram(counts), 1_000_000, histogramBoundUs(59))
    expect(curve.map(({ suspicions, perMillionRounds }) => [suspicions, perMillionRounds])).toEqual([[6, 6], [6, 6], [1, 1], [1, 1], [0, 0]])
    expect(curve.map(({ deadlineUs }) => deadlineUs)).toEqual([59, 60, 61, 62, 63].map(histogramBoundUs))
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
