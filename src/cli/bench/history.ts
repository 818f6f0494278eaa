/** The history of a benchmark: a file of one JSON object a line, which only ever grows. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync } from 'node:fs'
import { release } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Distribution } from './statistics.js'

/** What was measured, on what. */
export interface Circumstances {
  /** Of the sources; `unknown` where they are not in a repository, `+` at its end where they were changed since. */
  readonly commit: string
  readonly kernel: string
  /** The RDMA device, or what stands in its place. */
  readonly device: string
}

export interface HistoryRow extends Circumstances {
  readonly name: string
  readonly unit: string
  readonly samples: number
  readonly p50: number
  readonly p99: number
  readonly 'p99.9': number
}

export function circumstancesOf(device: string): Circumstances {
  return { commit: commitOf(dirname(fileURLToPath(import.meta.url))), kernel: release(), device }
}

function commitOf(folder: string): string {
  try {
    const git = (...args: string[]): string => execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.') === '' ? '' : '+'
    return `${git('rev-parse', '--short=12', 'HEAD')}${changed}`
  } catch {
    return 'unknown'
  }
}

export function historyRow(name: string, unit: string, { samples, p50, p99, p999 }: Distribution, circumstances: Circumstances): HistoryRow {
  return { name, unit, samples, p50, p99, 'p99.9': p999, ...circumstances }
}

/** Makes the file and its folder where they are missing. */
export function appendHistory(path: string, rows: readonly HistoryRow[]): void {
  mkdirSync(dirname(path), { recursive: true })
  appendFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
}
