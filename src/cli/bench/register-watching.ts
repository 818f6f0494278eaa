/** `backdoors bench detect`, `false-suspicions`, `scale`, `intrusion`, `extract` and `continuable`: their options. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { Output } from '../output.js'
import { parseCount, parseCounts } from './counts.js'
import type { DetectResult } from './detect.js'
import type { BenchReport, ReportOptions } from './report.js'

/** Adds the commands to `backdoors bench`. docs/benchmarks.md says what each measures, and how. */
export function registerWatching(bench: Command, output: Output): void {
  registerDetect(bench, output)
  registerFalseSuspicions(bench, output)
  registerScale(bench, output)
  registerIntrusion(bench, output)
  registerExtract(bench, output)
  registerContinuable(bench, output)
}

const seeDocs = (example: string, text: string): string => `\nExamples:\n  ${example}\n  ${example} --json --history bench.ndjson\n\n${text}\nGoals stand beside the figures; a machine that does other work as well misses them. docs/benchmarks.md says more.`

/** All of them measure shm on this machine, print a table or JSON, and may keep a history. */
function command(bench: Command, name: string, description: string, help: string): Command {
  return bench
    .command(name)
    .description(description)
    .option('--json', 'the last line on stdout is one JSON object')
    .option('--history <file>', 'append a row for each figure, as NDJSON')
    .addHelpText('after', help)
}

async function print(output: Output, made: BenchReport, options: ReportOptions): Promise<void> {
  const { report } = await import('./report.js')
  report(output, made, options)
}

/** Of `scale`. */
const defaultPeerCounts: readonly number[] = [16, 64, 256, 1024]

interface Times {
  readonly deadlineUs?: number
  readonly intervalUs?: number
}

const withTimes = (made: Command): Command =>
  made.option('--deadline-us <us>', 'a counter has stalled when it has not moved for so long', parseNumber).option('--interval-us <us>', 'between two reads', parseNumber)

function registerDetect(bench: Command, output: Output): void {
  withTimes(command(bench, 'detect', 'how long until a dead process is known to be dead', seeDocs('backdoors bench detect --trials 50', 'A process that beats is killed, and the time from the return of kill until the verdict is taken, by one clock.\nWithout --deadline-us, several settings are measured.')))
    .option('--trials <count>', 'that tell something, for each setting; four times as many processes are killed at most', parseCount, 200)
    .option('--plot <file>', 'draw the distributions as an SVG picture (needs the package vega)')
    .action(async ({ trials, deadlineUs, intervalUs, plot, ...options }: Times & ReportOptions & { trials: number; plot?: string }) => {
      const { benchDetect, defaultDetectSettings } = await import('./detect.js')
      const { detectReport } = await import('./watch-reports.js')
      const settings = deadlineUs === undefined && intervalUs === undefined ? defaultDetectSettings : [{ deadlineUs: deadlineUs ?? 1000, intervalUs: intervalUs ?? 100 }]
      const results = []
      for (const setting of settings) {
        output.note(`deadline ${setting.deadlineUs} µs, interval ${setting.intervalUs} µs: ${trials} trials`)
        results.push(await benchDetect(setting, trials))
      }
      await print(output, detectReport(results.map(({ row }) => row)), options)
      if (plot !== undefined) await plotDetect(plot, results)
    })
}

async function plotDetect(path: string, results: readonly DetectResult[]): Promise<void> {
  const { plotToFile } = await import('./plot.js')
  const series = results.map(({ row, verdictsUs }) => ({ panel: `D = ${row.deadlineUs} µs`, name: `I = ${row.intervalUs} µs`, ascending: verdictsUs, scale: 1 }))
  await plotToFile(path, { title: 'From the kill to the verdict', axis: 'µs', series: series.filter(({ ascending }) => ascending.length > 0) })
}

function registerFalseSuspicions(bench: Command, output: Output): void {
  withTimes(command(bench, 'false-suspicions', 'how often a host that lives is taken for dead', seeDocs('backdoors bench false-suspicions --rounds 1000000 --load', 'A host that beats is watched; nothing happens to it. The curve tells for other deadlines what they would have done.')))
    .option('--rounds <count>', 'reads', parseCount, 100_000)
    .option('--load', 'keep all processors, memory, and the watcher itself busy')
    .action(async ({ rounds, load = false, deadlineUs = 1000, intervalUs = 100, ...options }: Times & ReportOptions & { rounds: number; load?: boolean }) => {
      const { benchFalseSuspicions } = await import('./false-suspicions.js')
      const { falseSuspicionsReport } = await import('./watch-reports.js')
      await print(output, falseSuspicionsReport(await benchFalseSuspicions({ deadlineUs, intervalUs }, rounds, load)), options)
    })
}

function registerScale(bench: Command, output: Output): void {
  command(bench, 'scale', 'how many peers one thread on one processor watches', seeDocs('backdoors bench scale --peers 16,256', 'Each peer is a file with 4 sensors. First all are watched at 1 kHz; then ever longer intervals are tried until one is held.'))
    .addOption(new Option('--peers <counts>', 'with commas between').argParser(parseCounts).default(defaultPeerCounts, defaultPeerCounts.join(',')))
    .option('--seconds <seconds>', 'of each measurement', parseNumber, 3)
    .option('--cpu <number>', 'the processor that the thread keeps to', (text) => parseCount(text, 0), 0)
    .action(async ({ peers, seconds, cpu, ...options }: ReportOptions & { peers: number[]; seconds: number; cpu: number }) => {
      const { benchScale } = await import('./scale.js')
      const { scaleReport } = await import('./watch-reports.js')
      const rows = []
      for (const count of peers) {
        output.note(`${count} peers`)
        rows.push(await benchScale(count, seconds, cpu))
      }
      await print(output, scaleReport(rows), options)
    })
}

function registerIntrusion(bench: Command, output: Output): void {
  command(bench, 'intrusion', 'whether an HTTP server is slower because it is watched', seeDocs('backdoors bench intrusion --groups 50', 'Slices of one load, of which half have the server watched at 1 kHz, in groups of four; the intervals are of the mean change.\nOn a machine of few processors, believe the requests per second of the server\'s own processor time.'))
    .option('--groups <count>', 'of four slices', parseCount, 100)
    .option('--seconds <seconds>', 'of each slice', parseNumber, 0.25)
    .action(async ({ groups, seconds, ...options }: ReportOptions & { groups: number; seconds: number }) => {
      const { benchIntrusion } = await import('./intrusion.js')
      const { intrusionReport } = await import('./watch-reports.js')
      await print(output, intrusionReport(await benchIntrusion({ groups, secondsEach: seconds }, (text) => output.note(text))), options)
    })
}

function registerExtract(bench: Command, output: Output): void {
  command(bench, 'extract', 'how fast sessions are extracted and adopted', seeDocs('backdoors bench extract', 'Sessions are read out of a region and checked, beside a plain copy of as many bytes; and committed into another region.'))
    .option('--sessions <count>', 'to extract', parseCount, 10_000)
    .option('--bytes <count>', 'of each of them', parseCount, 4096)
    .option('--adopted <count>', 'sessions to adopt', parseCount, 100_000)
    .option('--adopted-bytes <count>', 'of each of those', parseCount, 256)
    .option('--runs <count>', 'of each', parseCount, 10)
    .option('--plot <file>', 'draw the rates of extraction and memcpy as an SVG picture (needs the package vega)')
    .action(async ({ sessions, bytes, adopted, adoptedBytes, runs, plot, ...options }: ReportOptions & { plot?: string } & Record<'sessions' | 'bytes' | 'adopted' | 'adoptedBytes' | 'runs', number>) => {
      const { benchExtract } = await import('./extract.js')
      const { extractReport } = await import('./watch-reports.js')
      const found = await benchExtract({ sessions, sessionBytes: bytes, adopted, adoptedBytes, runs }, (text) => output.note(text))
      await print(output, extractReport(found), options)
      if (plot === undefined) return
      const { plotToFile } = await import('./plot.js')
      const series = Object.entries(found.curves).map(([name, ascending]) => ({ panel: `${sessions} × ${bytes} B`, name, ascending, scale: 1 }))
      await plotToFile(plot, { title: 'How fast sessions are extracted', axis: 'MB/s', series })
    })
}

function registerContinuable(bench: Command, output: Output): void {
  command(bench, 'continuable', 'whether an HTTP server is slower because its connections are continuable', seeDocs('backdoors bench continuable --pairs 30', 'Pairs of runs, one of a continuable server and one of the same without, in a random order; the intervals are of the mean ratio.\nOn a busy machine, believe the processor time of the server rather than the throughput.'))
    .option('--pairs <count>', 'of runs', parseCount, 20)
    .option('--requests <count>', 'of each run', parseCount, 20_000)
    .addOption(new Option('--application <name>', 'that the server runs: nothing but a handler, or one of Express (needs the package express)').choices(['bare', 'express']).default('bare'))
    .action(async ({ application, pairs, requests, ...options }: ReportOptions & { application: 'bare' | 'express'; pairs: number; requests: number }) => {
      const { benchContinuable, continuableReport } = await import('./continuable.js')
      await print(output, continuableReport(await benchContinuable({ application, pairs, requests }, (text) => output.note(text))), options)
    })
}

function parseNumber(text: string): number {
  const number = Number(text)
  if (number > 0 && number <= 3.6e9) return number
  throw new InvalidArgumentError('It has to be a number above 0, and no more than an hour of microseconds.')
}
