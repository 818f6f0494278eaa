/**
 * How long it takes until a server that has stopped is known to have: it is stopped by SIGSTOP and woken again, many times, while nobody
 * recovers it. Timed by the rig's own clock, from asking the guest for the signal to reading the watcher's word: both ways through
 * emulated machines are in it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Scenario } from '../scenario.js'
import { spreadOf } from '../spread.js'
import { endNodes, rigTimes, startNodes } from './cluster.js'
import { threeMachines, twoGuests } from './three-nodes.js'

const deadlineMs = 1000
/** An event-loop sensor beats in a fifth of its deadline: the last beat may have been so long before the stop. */
const beatMs = deadlineMs / 5
/** Between a server's word that it beats again and its next stop, in milliseconds. */
const longestPauseMs = 500
/**
 * No goal, which is a deadline and an interval: a detector that works is far from this even where guests wait for their processor for
 * seconds. One that is not, or that notices by other means than the deadline, is beyond it.
 */
const latestMs = 10 * deadlineMs

export const detect: Scenario = {
  name: 'detect',
  machines: threeMachines,
  defaultTrials: 200,
  summary: 'time from SIGSTOP of a server to the verdict, --trials times; suspicions of a server that was not stopped',
  async run(context) {
    const { log, trials } = context
    const cluster = await twoGuests(context)
    // What flaps like this server would be told of less and less often.
    const [a, b] = await startNodes(context, cluster, { a: { serverDeadlineMs: deadlineMs }, b: { recovery: { enabled: false }, watch: { flapping: { flips: 1000 } } } })
    const times: number[] = []
    const startedAtMs = performance.now()
    for (let i = 0; i < trials; i++) {
      await sleep(Math.random() * longestPauseMs)
      const stoppedAtMs = performance.now()
      a.server.kill('SIGSTOP')
      const verdict = await b.daemonLog.until('verdict', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind === 'app-stalled' && atMs > stoppedAtMs)
      times.push(verdict.atMs - stoppedAtMs)
      a.server.kill('SIGCONT')
      await b.daemonLog.until('word that it beats', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind === 'alive' && atMs > verdict.atMs)
      if ((i + 1) % 20 === 0) log(`${i + 1} of ${trials}`)
    }
    await endNodes([a, b])
    // One for each stop; what was said beside these was said of a server, or a machine, that was well.
    const suspicions = b.daemonLog.events.filter(({ event, peer, verdict, atMs }) => event === 'verdict' && peer === 'a' && verdict !== 'alive' && atMs > startedAtMs)
    const falseSuspicions = suspicions.length - trials
    return {
      // A verdict before the deadline would be one without evidence.
      ok: falseSuspicions === 0 && times.every((ms) => ms >= deadlineMs - beatMs && ms <= latestMs),
      trials, deadlineMs, latestMs, intervalMs: rigTimes.intervalMs, detectMs: spreadOf(times), falseSuspicions,
    }
  },
}
