/**
 * A whole guest is stopped by QEMU, its soft-RoCE with it: nothing of it can be read. It must be reported, and
 * nothing recovered from nothing; woken again, everything reconnects and its sessions were never anybody else's.
 */
import type { Scenario } from '../scenario.js'
import { isUnharmed, judge, rigTimes, startClients, startCluster } from './cluster.js'

const sessions = 30
/** Frozen on after the verdict, so that a late recovery would show. In milliseconds. */
const frozenOnMs = 3000

export const freezeHost: Scenario = {
  name: 'freeze-host',
  summary: 'a whole machine frozen with its NIC: unreachable, reported, nothing recovered; thawed, all reconnects',
  async run(context) {
    const { log } = context
    const [a, b] = await startCluster(context, ['a', 'b'])
    const clients = await startClients(b, a, [b], sessions)
    log(`${sessions} sessions are served by a`)
    const frozenAtMs = performance.now()
    await a.guest.freeze()
    log('a is frozen')
    const verdict = await b.daemonLog.until('verdict', ({ event, peer }) => event === 'verdict' && peer === 'a')
    log(`b: ${String(verdict.verdict)}: ${String(verdict.seen)}`)
    await new Promise((resolve) => setTimeout(resolve, frozenOnMs))
    const stepsWhileFrozen = b.daemonLog.events.filter(({ event }) => event === 'step' || event === 'recovered').length
    const thawedAtMs = performance.now()
    await a.guest.thaw()
    log('a is thawed')
    const linked = await b.daemonLog.until('new link to a', ({ event, peer, atMs }) => event === 'watching' && peer === 'a' && atMs > thawedAtMs)
    const alive = await b.daemonLog.until('a alive', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind === 'alive' && atMs > frozenAtMs)
    log('b watches a again')
    const judgement = await judge(clients)
    const fenced = a.serverLog.find(({ event }) => event === 'fenced') !== undefined
    const ok = verdict.verdict === 'unreachable' && stepsWhileFrozen === 0 && !fenced && isUnharmed(judgement) && judgement.recovered === 0
    return {
      ok, failure: 'freeze', ...judgement, verdict: verdict.verdict, seen: verdict.seen, stepsWhileFrozen, fenced,
      unreachableAfterMs: rigTimes.unreachableAfterMs, detectMs: Math.round(verdict.atMs - frozenAtMs),
      recoverMs: null, reconnectMs: Math.round(Math.max(linked.atMs, alive.atMs) - thawedAtMs),
    }
  },
}
