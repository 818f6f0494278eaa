/**
 * How long it takes until a server that has stopped is known to have: it is stopped by SIGSTOP and woken again, many times, while nobody
 * recovers it. Timed by the rig's own clock, from asking the guest for the signal to reading the watcher's word: both ways through
 * emulated machines are in it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Scenario } from '../scenario.js'
import { bootGuests, rigTimes, startNodes } from './cluster.js'

const deadlineMs = 1000
/** An event-loop sensor beats in a fifth of its deadline: the last beat may have been so long before the stop. */
const beatMs = deadlineMs / 5
/** Between a server's word that it beats again and its next stop, in milliseconds. */
const longestPauseMs = 500

const percentile = (sorted: readonly number[], p: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * p) - 1)] ?? NaN

export const detect: Scenario = {
  name: 'detect',
  summary: 'time from SIGSTOP of a server to the verdict, --trials times; suspicions of a server that was not stopped',
  async run(context) {
    const { log, trials } = context
    const cluster = await bootGuests(context, ['a', 'b'])
    const [a, b] = await startNodes(context, cluster, { a: { serverDeadlineMs: deadlineMs }, b: { recovery: { enabled: false } } })
    const times: number[] = []
    let falseSuspicions = 0
    const verdictsSince = (sinceMs: number): number => b.daemonLog.events.filter(({ event, peer, verdict, atMs }) => event === 'verdict' && peer === 'a' && verdict !== 'alive' && atMs > sinceMs).length
    const startedAtMs = performance.now()
    for (let i = 0; i < trials; i++) {
      const restedFromMs = performance.now()
      await sleep(Math.random() * longestPauseMs)
      falseSuspicions += verdictsSince(restedFromMs)
      const stoppedAtMs = performance.now()
      a.server.kill('SIGSTOP')
      const verdict = await b.daemonLog.until('verdict', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind === 'app-stalled' && atMs > stoppedAtMs)
      times.push(verdict.atMs - stoppedAtMs)
      a.server.kill('SIGCONT')
      await b.daemonLog.until('word that it beats', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind === 'alive' && atMs > verdict.atMs)
      if ((i + 1) % 20 === 0) log(`${i + 1} of ${trials}`)
    }
    const sorted = [...times].sort((one, other) => one - other)
    const [p50, p99, max] = [0.5, 0.99, 1].map((p) => Math.round(percentile(sorted, p)))
    return {
      // A verdict before the deadline would be one without evidence.
      ok: times.length === trials && times.every((ms) => ms >= deadlineMs - beatMs),
      trials, deadlineMs, intervalMs: rigTimes.intervalMs, detectMs: { p50, p99, max }, falseSuspicions, seconds: Math.round((performance.now() - startedAtMs) / 1000),
    }
  },
}
