/** What the benchmarks of watching and recovering print: one table or more for people, one object as JSON, rows of history. */
import type { Output } from '../output.js'
import { table } from '../table.js'
import { appendHistory, circumstancesOf, historyRow } from './history.js'
import type { Distribution } from './statistics.js'

export interface BenchTable {
  readonly head: readonly string[]
  readonly rows: readonly (readonly (string | number | undefined)[])[]
}

export interface BenchReport {
  readonly tables: readonly BenchTable[]
  readonly result: Record<string, unknown>
  /** Names are of the whole benchmark: `detect/verdict/1000/100`. */
  readonly history: readonly { readonly name: string; readonly unit: string; readonly distribution: Distribution }[]
}

export interface ReportOptions {
  readonly json?: boolean
  readonly history?: string
}

export function report(output: Output, { tables, result, history }: BenchReport, options: ReportOptions): void {
  const circumstances = circumstancesOf('shm')
  if (options.json) output.json({ ...result, ...circumstances })
  else for (const { head, rows } of tables) output.line(table(head, rows))
  if (options.history !== undefined) appendHistory(options.history, history.map(({ name, unit, distribution }) => historyRow(name, unit, distribution, circumstances)))
}

/** One figure, where nothing was measured more than once. */
export const single = (value: number): Distribution => ({ samples: 1, min: value, p50: value, p99: value, p999: value, max: value, mean: value })

/** Three digits that count: figures range from fractions to millions. Nothing where nothing was measured. */
export function figure(value: number): string | undefined {
  if (!Number.isFinite(value)) return undefined
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
