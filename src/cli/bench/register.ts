/** `backdoors bench read-latency`: its options, its table and its JSON. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { asBackdoorsError } from '../../errors.js'
import type { Output } from '../output.js'
import { table } from '../table.js'
import { parseCount } from './counts.js'
import type { Circumstances } from './history.js'
import type { Fabric, LatencyFigures, ReadLatencyResult, ThroughputFigures } from './read-latency.js'
import type { BenchTarget } from './target.js'

const examples = `
Examples:
  backdoors bench read-latency
  backdoors bench read-latency --fabric verbs --device rxe0 --sizes 8,4096 --json
  backdoors bench read-latency --history bench.ndjson --plot latency.svg --raw samples

Reads memory of this machine through one device, looped back. Three ways of running a read: a poll loop in the addon
(as ib_read_lat), a call of JavaScript for each, a promise for each. p50 to max are of all samples; the row after them
is reckoned as perftest does, which drops the two largest. Without a device, "auto" measures shm, which has no poll loop.`

interface ReadLatencyArguments {
  readonly fabric: Fabric
  readonly device?: string
  readonly sizes: readonly number[]
  readonly iterations: number
  readonly apart?: boolean
  readonly json?: boolean
  readonly history?: string
  readonly plot?: string
  readonly raw?: string
}

const defaultSizes: readonly number[] = [8, 64, 512, 4096, 32768, 65536]

/** Adds the command to `backdoors bench`. */
export function registerReadLatency(bench: Command, output: Output): void {
  bench
    .command('read-latency')
    .description('latency, message rate and bandwidth of reads')
    .addOption(new Option('--fabric <fabric>', 'what to read through').choices(['auto', 'verbs', 'shm']).default('auto'))
    .option('--device <name>', 'the RDMA device (default: the first with an active port)')
    .addOption(new Option('--sizes <bytes>', 'of the reads, with commas between').argParser(parseSizes).default(defaultSizes, defaultSizes.join(',')))
    .option('--iterations <count>', 'reads for each size and way', parseCount, 10_000)
    .option('--apart', 'verbs: the memory is lent by a process of its own')
    .option('--json', 'the last line on stdout is one JSON object')
    .option('--history <file>', 'append a row for each measurement, as NDJSON')
    .option('--plot <file>', 'draw the distributions as an SVG picture (needs the package vega)')
    .option('--raw <folder>', 'write every sample there, in nanoseconds')
    .addHelpText('after', examples)
    .action((options: ReadLatencyArguments) => runReadLatency(options, output))
}

async function runReadLatency({ fabric, device, apart, json, sizes, iterations, history, plot, raw }: ReadLatencyArguments, output: Output): Promise<void> {
  const { checkSizes, measureReadLatency, openTarget } = await import('./read-latency.js')
  const { circumstancesOf } = await import('./history.js')
  checkSizes(sizes)
  const { target, fallback } = await openTarget(fabric, { ...(device === undefined ? {} : { device }), ...(apart === undefined ? {} : { apart }) })
  if (fallback !== undefined) output.note(`Measuring shm: ${fallback}`)
  try {
    const result = await measureReadLatency(target, { sizes, iterations }, (what) => output.note(`measuring ${what}`))
    const circumstances = circumstancesOf(target.device)
    if (json) output.json(asJson(result, target, circumstances, iterations))
    else print(result, target, circumstances, output)
    // Last: a file that cannot be written must not cost what was measured.
    await keep(result, circumstances, { history, plot, raw }).catch((error: unknown) => {
      throw asBackdoorsError(error, 'SYSTEM_CALL_FAILED', 'writing what was measured')
    })
  } finally {
    await target.close()
  }
}

async function keep({ latency, throughput }: ReadLatencyResult, circumstances: Circumstances, { history, plot, raw }: Partial<Record<'history' | 'plot' | 'raw', string | undefined>>): Promise<void> {
  if (raw !== undefined) {
    const { writeSamples } = await import('./raw-samples.js')
    for (const { figures, ns } of latency) writeSamples(raw, `${figures.tier}-${figures.size}`, ns)
  }
  if (history !== undefined) {
    const { appendHistory, historyRow } = await import('./history.js')
    const many = ({ by, reads, size, nsPerRead }: ThroughputFigures) => historyRow(`throughput/${by}/${reads}x${size}`, 'ns/read', nsPerRead, circumstances)
    appendHistory(history, [...latency.map(({ figures: { tier, size, us } }) => historyRow(`read-latency/${tier}/${size}`, 'µs', us, circumstances)), ...throughput.map(many)])
  }
  if (plot !== undefined) {
    const { plotToFile } = await import('./plot.js')
    const series = latency.map(({ figures: { tier, size }, ascendingNs }) => ({ panel: `${size} B`, name: tier, ascending: ascendingNs, scale: 1e-3 }))
    await plotToFile(plot, { title: `Read latency on ${circumstances.device}, ${circumstances.kernel}, ${circumstances.commit}`, axis: 'µs', series })
  }
}

function asJson({ latency, throughput }: ReadLatencyResult, { fabric, responder }: BenchTarget, circumstances: Circumstances, iterations: number): unknown {
  return { fabric, responder, ...circumstances, iterations, latency: latency.map(({ figures }) => figures), throughput }
}

const us = (value: number): string => value.toFixed(2)

function print({ latency, throughput }: ReadLatencyResult, { fabric, responder }: BenchTarget, { device, kernel, commit }: Circumstances, output: Output): void {
  output.line(`${fabric} on ${device}; responder: ${responder}; kernel ${kernel}; commit ${commit}`)
  const figures = latency.map((measured) => measured.figures)
  output.line('All samples, in µs:')
  output.line(table(['bytes', 'way', 'samples', 'p50', 'p99', 'p99.9', 'max', 'by event', 'their p50'], figures.map(honestRow)))
  output.line('As perftest reckons, in µs:')
  output.line(table(['bytes', 'way', 'iterations', 't_min', 't_max', 't_typical', 't_avg', 't_stdev', '99%', '99.9%'], figures.map(perftestRow)))
  output.line('Many at once:')
  output.line(table(['way', 'bytes', 'reads a call', 'reads/s', 'MB/s'], throughput.map(({ by, size, reads, readsPerSecond, megabytesPerSecond }) => [by, size, reads, Math.round(readsPerSecond), megabytesPerSecond.toFixed(1)])))
}

const honestRow = ({ size, tier, us: all, byEventUs }: LatencyFigures): (string | number | undefined)[] => [
  size, tier, all.samples, us(all.p50), us(all.p99), us(all.p999), us(all.max), byEventUs?.samples, byEventUs === null ? undefined : us(byEventUs.p50),
]

const perftestRow = ({ size, tier, perftestUs: row }: LatencyFigures): (string | number)[] => [
  size, tier, row.iterations, us(row.min), us(row.max), us(row.typical), us(row.average), us(row.stdev), us(row.p99), us(row.p999),
]

function parseSizes(text: string): number[] {
  const sizes = text.split(',').map(Number)
  if (sizes.some((size) => !Number.isInteger(size) || size < 1)) throw new InvalidArgumentError('They have to be whole numbers of bytes with commas between.')
  return sizes
}
