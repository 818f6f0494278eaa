/**
 * A whole guest is stopped by QEMU, its soft-RoCE with it: nothing of it can be read. It must be reported, and
 * nothing recovered from nothing; woken again, everything reconnects and its sessions were never anybody else's.
 */
import type { Scenario } from '../scenario.js'
import { isUnharmed, judge, rigTimes, startClients, type RigEvent } from './cluster.js'
import { startThree, threeMachines } from './three-nodes.js'

const sessions = 30
/** Frozen on after the verdict, so that a late recovery would show. In milliseconds. */
const frozenOnMs = 3000

export const freezeHost: Scenario = {
  name: 'freeze-host',
  summary: 'a whole machine frozen with its NIC: unreachable, reported, nothing recovered; thawed, all reconnects',
  machines: threeMachines,
  async run(context) {
    const { log } = context
    const [a, b, c] = await startThree(context)
    const watchers = [b, c]
    const clients = await startClients(b, a, watchers, sessions, { prefix: 'frozen-' })
    log(`${sessions} sessions are served by a`)
    const frozenAtMs = performance.now()
    await a.guest.freeze()
    log('a is frozen')
    const isVerdict = ({ event, peer, atMs }: RigEvent): boolean => event === 'verdict' && peer === 'a' && atMs > frozenAtMs
    const verdicts = await Promise.all(watchers.map(({ daemonLog }) => daemonLog.until('verdict', isVerdict)))
    for (const [i, { verdict, seen }] of verdicts.entries()) log(`${watchers[i]?.name}: ${String(verdict)}: ${String(seen)}`)
    await new Promise((resolve) => setTimeout(resolve, frozenOnMs))
    const stepsWhileFrozen = watchers.flatMap(({ daemonLog }) => daemonLog.events.filter(({ event, atMs }) => (event === 'step' || event === 'recovered') && atMs > frozenAtMs)).length
    const thawedAtMs = performance.now()
    await a.guest.thaw()
    log('a is thawed')
    const back = await Promise.all(watchers.flatMap(({ daemonLog }) => [
      daemonLog.until('new link to a', ({ event, peer, atMs }) => event === 'watching' && peer === 'a' && atMs > thawedAtMs),
      daemonLog.until('a alive', (event) => isVerdict(event) && event['verdict'] === 'alive'),
    ]))
    log('the others watch a again')
    const judgement = await judge(clients)
    const fenced = a.serverLog.find(({ event }) => event === 'fenced') !== undefined
    const ok = verdicts.every(({ verdict }) => verdict === 'unreachable') && stepsWhileFrozen === 0 && !fenced && isUnharmed(judgement) && judgement.recovered === 0
    return {
      ok, failure: 'freeze', ...judgement, verdicts: verdicts.map(({ verdict }) => verdict), seen: verdicts.map(({ seen }) => seen), stepsWhileFrozen, fenced,
      unreachableAfterMs: rigTimes.unreachableAfterMs, detectMs: verdicts.map(({ atMs }) => Math.round(atMs - frozenAtMs)),
      recoverMs: null, reconnectMs: Math.round(Math.max(...back.map(({ atMs }) => atMs)) - thawedAtMs),
    }
  },
}
