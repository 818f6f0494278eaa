/** How the figures of the benchmarks of watching and recovering are shown. Pure. */
import type { DetectRow } from './detect.js'
import type { FalseSuspicionsResult } from './false-suspicions.js'
import type { IntrusionResult } from './intrusion.js'
import type { ExtractResult } from './extract.js'
import { figure, single, type BenchReport } from './report.js'
import type { ScaleRow } from './scale.js'
import type { Interval } from './statistics.js'

export function detectReport(rows: readonly DetectRow[]): BenchReport {
  return {
    tables: [{
      head: ['deadline µs', 'interval µs', 'trials', 'p50 µs', 'D + I', 'p99 µs', 'D + 2 I + own', 'heard p99 µs', 'round trip p99', 'delay p99', 'kill p50', 'too early', 'unclear'],
      rows: rows.map((row) => [
        row.deadlineUs, row.intervalUs, row.verdictUs.samples, figure(row.verdictUs.p50), figure(row.goalP50Us), figure(row.verdictUs.p99), figure(row.goalP99Us),
        figure(row.heardUs.p99), figure(row.roundTripP99Us), figure(row.delayP99Us), figure(row.killUs.p50), row.tooEarly, row.unclear,
      ]),
    }],
    result: { detect: rows },
    history: rows.flatMap(({ deadlineUs, intervalUs, verdictUs, heardUs }) => [
      { name: `detect/verdict/${deadlineUs}/${intervalUs}`, unit: 'µs', distribution: verdictUs },
      { name: `detect/heard/${deadlineUs}/${intervalUs}`, unit: 'µs', distribution: heardUs },
    ]),
  }
}

export function falseSuspicionsReport(found: FalseSuspicionsResult): BenchReport {
  const { deadlineUs, intervalUs, curve } = found
  return {
    tables: [
      {
        head: ['deadline µs', 'interval µs', 'rounds', 'suspicions', 'greatest age µs', 'round trip p99', 'lateness p99', 'lateness max', 'load'],
        rows: [[
          deadlineUs, intervalUs, found.rounds, found.suspicions, figure(found.greatestAgeUs), figure(found.roundTripP99Us), figure(found.latenessP99Us), figure(found.latenessMaxUs), found.load,
        ]],
      },
      { head: ['at a deadline of µs', 'suspicions', 'of a million rounds'], rows: curve.map((point) => [figure(point.deadlineUs), point.suspicions, figure(point.perMillionRounds)]) },
    ],
    result: { falseSuspicions: found },
    history: [
      { name: `false-suspicions/${deadlineUs}/${intervalUs}`, unit: 'suspicions', distribution: single(found.suspicions) },
      { name: `false-suspicions/greatest-age/${deadlineUs}/${intervalUs}`, unit: 'µs', distribution: single(found.greatestAgeUs) },
    ],
  }
}

export function scaleReport(rows: readonly ScaleRow[]): BenchReport {
  return {
    tables: [{
      head: ['peers', 'sensors', 'held Hz of 1000', 'processor %', '% per peer', 'µs per round', 'lateness p50 µs', 'p99 µs', 'highest held Hz'],
      rows: rows.map((row) => [
        row.peers, row.sensors, figure(row.heldHz), figure(row.cpuPercent), figure(row.cpuPercentPerPeer), figure(row.cpuUsPerRound), figure(row.latenessP50Us), figure(row.latenessP99Us),
        figure(row.highestHeldHz),
      ]),
    }],
    result: { scale: rows },
    history: rows.flatMap(({ peers, cpuPercentPerPeer, highestHeldHz }) => [
      { name: `scale/processor-per-peer/${peers}`, unit: '%', distribution: single(cpuPercentPerPeer) },
      { name: `scale/highest-held/${peers}`, unit: 'Hz', distribution: single(highestHeldHz) },
    ]),
  }
}

const bounds = ({ mean, low, high }: Interval): string => `${mean.toFixed(2)}% (${low.toFixed(2)} to ${high.toFixed(2)})`

export function intrusionReport(found: IntrusionResult): BenchReport {
  const { watched, unwatched, groups, watcherCpuPercent, cpuThroughputChangePercent: cpu, throughputChangePercent: throughput, p99ChangePercent: p99 } = found
  return {
    tables: [
      {
        head: ['', 'groups', 'unwatched p50', 'watched p50', 'change, with 95% confidence', 'goal'],
        rows: [
          ['requests per CPU second of the server', groups, figure(unwatched.requestsPerCpuSecond.p50), figure(watched.requestsPerCpuSecond.p50), bounds(cpu), 'within 1%'],
          ['requests/s', groups, figure(unwatched.requestsPerSecond.p50), figure(watched.requestsPerSecond.p50), bounds(throughput), ''],
          ['p99 ms', groups, figure(unwatched.p99Ms.p50), figure(watched.p99Ms.p50), bounds(p99), ''],
        ],
      },
      { head: ['the watcher, of one processor'], rows: [[`${figure(watcherCpuPercent)}%`]] },
    ],
    result: { intrusion: found },
    history: [
      { name: 'intrusion/cpu-throughput-change', unit: '%', distribution: single(cpu.mean) },
      { name: 'intrusion/throughput-change', unit: '%', distribution: single(throughput.mean) },
      { name: 'intrusion/p99-change', unit: '%', distribution: single(p99.mean) },
      { name: 'intrusion/watcher', unit: '%', distribution: single(watcherCpuPercent) },
      { name: 'intrusion/requests/unwatched', unit: 'requests/s', distribution: unwatched.requestsPerSecond },
      { name: 'intrusion/requests/watched', unit: 'requests/s', distribution: watched.requestsPerSecond },
    ],
  }
}

export function extractReport({ curves: _curves, ...found }: ExtractResult): BenchReport {
  const { sessions, sessionBytes, adopted, adoptedBytes, threads, extractMBps, ofMemcpy, adoptMs } = found
  const what = `${sessions} × ${sessionBytes} B`
  const by = threads === 1 ? 'by 1 thread' : `by ${threads} threads`
  return {
    tables: [{
      head: ['', 'unit', 'runs', 'p50', 'min', 'max', 'goal'],
      rows: ([
        [`extraction, ${what}, ${by}`, 'MB/s', extractMBps, ''],
        ['extraction by 1 thread', 'MB/s', found.oneThreadMBps, ''],
        ['memcpy by 1 thread, into memory in use', 'MB/s', found.memcpyMBps, ''],
        [`extraction into new memory, ${by}`, 'MB/s', found.firstExtractMBps, ''],
        ['the very first, its code cold', 'MB/s', single(found.coldExtractMBps), ''],
        ['memcpy, into new memory', 'MB/s', found.newMemcpyMBps, ''],
        [`extraction ${by} of memcpy`, '', ofMemcpy, '≥ 0.5'],
        ['extraction by 1 thread of memcpy', '', found.oneThreadOfMemcpy, ''],
        [`adoption, ${adopted} × ${adoptedBytes} B`, 'ms', adoptMs, '≤ 1000'],
      ] as const).map(([name, unit, values, goal]) => [name, unit, values.samples, figure(values.p50), figure(values.min), figure(values.max), goal]),
    }],
    result: { extract: found },
    history: [
      { name: `extract/rate/${sessions}/${sessionBytes}`, unit: 'MB/s', distribution: extractMBps },
      { name: `extract/of-memcpy/${sessions}/${sessionBytes}`, unit: '1', distribution: ofMemcpy },
      { name: `extract/one-thread-of-memcpy/${sessions}/${sessionBytes}`, unit: '1', distribution: found.oneThreadOfMemcpy },
      { name: `extract/adopt/${adopted}/${adoptedBytes}`, unit: 'ms', distribution: adoptMs },
    ],
  }
}
