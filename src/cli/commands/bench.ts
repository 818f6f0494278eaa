/** `backdoors bench`: how fast it is on this machine. */
import type { Command } from 'commander'
import { existsSync } from 'node:fs'
import { parseCount } from '../bench/counts.js'
import { registerReadLatency } from '../bench/register.js'
import type { PlottedSeries } from '../bench/plot.js'
import { registerSessionStore } from '../bench/register-session-store.js'
import { registerWatching } from '../bench/register-watching.js'
import type { Output } from '../output.js'
import { table } from '../table.js'

const commitExamples = `
Examples:
  backdoors bench commit
  backdoors bench commit --samples 1000000 --json
  backdoors bench commit --compare
  backdoors bench commit --history bench.ndjson

Times commits of bytes in several sizes, of a typical cart as an object, and beats, and the JavaScript heap that a commit
uses up. --compare needs redis-server, and the packages ioredis and express-session. --history appends one JSON line per row, with commit, kernel and device.`

export function registerBench(program: Command, output: Output): void {
  const bench = program.command('bench').description('how fast it is on this machine').addHelpText('after', '\nExamples:\n  backdoors bench commit\n  backdoors bench read-latency')
  registerReadLatency(bench, output)
  registerCommit(bench, output)
  registerWatching(bench, output)
  registerSessionStore(bench, output)
}

function registerCommit(bench: Command, output: Output): void {
  bench
    .command('commit')
    .description('what a server pays for being recoverable: its commits and beats')
    .option('--samples <count>', 'samples of each row', parseCount, 200_000)
    .option('--compare', 'beside it what one would use instead: a Map, express-session\'s MemoryStore, Redis')
    .option('--history <file>', 'append the rows to this file as JSON lines')
    .option('--plot <file>', 'draw the distributions of commits and beats as an SVG picture (needs the package vega)')
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', commitExamples)
    .action(async ({ samples, compare, history, plot, json }: { samples: number; compare?: boolean; history?: string; plot?: string; json?: boolean }) => {
      const { benchCommit } = await import('../bench/commit.js')
      const { appendHistory, circumstancesOf } = await import('../bench/history.js')
      // Where regions stand: a file on a disk would be written back to it now and then.
      const series: PlottedSeries[] = []
      const own = benchCommit({ samples, onSamples: (name, ascending, scale) => void series.push({ panel: name === 'beat' ? 'beats' : 'commits', name, ascending, scale }), ...(existsSync('/dev/shm') ? { folder: '/dev/shm' } : {}) })
      const rows = compare ? [...own, ...(await (await import('../bench/rivals.js')).benchRivals({ samples, sessions: 1000 }))] : own
      const circumstances = circumstancesOf('shm')
      if (history !== undefined) appendHistory(history, rows.map(({ p999, ...row }) => ({ ...row, 'p99.9': p999, ...circumstances })))
      if (plot !== undefined) await (await import('../bench/plot.js')).plotToFile(plot, { title: 'Commits and beats', axis: 'µs', series })
      if (json) output.json({ rows, ...circumstances })
      else output.line(table(['', 'unit', 'samples', 'p50', 'p99', 'p99.9'], rows.map((row) => [row.name, row.unit, row.samples, ...[row.p50, row.p99, row.p999].map(figure)])))
    })
}

/** Three digits that count: figures range from nanoseconds to milliseconds. */
const figure = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3))
