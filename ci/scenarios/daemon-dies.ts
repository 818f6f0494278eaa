/** `kill -9` of a daemon: its servers serve on and nobody is fenced for it; started again, it lends the same region. */
import type { Scenario } from '../scenario.js'
import { countAcknowledged, endNodes, isUnharmed, judge, restartDaemon, startClients, startNodes } from './cluster.js'
import { threeMachines, twoGuests } from './three-nodes.js'

const sessions = 20
/** Without a daemon for so long, so that a late recovery would show. In milliseconds. */
const goneMs = 5000

export const daemonDies: Scenario = {
  name: 'daemon-dies',
  summary: 'kill -9 of a daemon: its servers serve on, nobody is fenced; it comes back to its region, and its servers are recovered when they fail',
  machines: threeMachines,
  async run(context) {
    const { log } = context
    const cluster = await twoGuests(context)
    const [a, b] = await startNodes(context, cluster)
    const clients = await startClients(b, a, [b], sessions)
    const killedAtMs = performance.now()
    a.daemon.kill('SIGKILL')
    await a.daemon.exited
    const acknowledgedBefore = await countAcknowledged(clients)
    const verdict = await b.daemonLog.until('verdict', ({ event, peer, verdict: kind }) => event === 'verdict' && peer === 'a' && kind !== 'alive')
    log(`b: ${String(verdict.verdict)}: ${String(verdict.seen)}`)
    await new Promise((resolve) => setTimeout(resolve, goneMs))
    // By the server of a: another one would have to recover its sessions first.
    const servedWhileGone = (await countAcknowledged(clients)) - acknowledgedBefore
    log(`${servedWhileGone} commits acknowledged without a daemon`)
    const steps = b.daemonLog.events.filter(({ event }) => event === 'step').length
    const isFenced = a.serverLog.find(({ event }) => event === 'fenced') !== undefined
    const again = await restartDaemon(context, cluster, a)
    const startedAtMs = performance.now()
    const incarnations = [a, again].map(({ daemonLog }) => daemonLog.find(({ event }) => event === 'listening')?.['incarnation'])
    const linked = await b.daemonLog.until('new link to a', ({ event, peer, atMs }) => event === 'watching' && peer === 'a' && atMs > killedAtMs)
    log('b watches a again')
    // What it lends now is what the server writes into.
    clients.process.write('fail a\n')
    a.server.kill('SIGKILL')
    const recovered = await b.daemonLog.until('recovery', ({ event, outcome }) => event === 'recovered' && outcome === 'announced')
    await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 90_000)
    const judgement = await judge(clients)
    await endNodes([{ ...a, ...again }, b])
    const ok = verdict.verdict === 'daemon-lost' && steps === 0 && !isFenced && incarnations[0] === incarnations[1] && judgement.recovered === sessions &&
      isUnharmed(judgement) && servedWhileGone > 0
    return {
      ok, ...judgement, verdict: verdict.verdict, seen: verdict.seen, servedWhileGone, stepsWhileGone: steps, fenced: isFenced, sameIncarnation: incarnations[0] === incarnations[1],
      detectMs: Math.round(verdict.atMs - killedAtMs), reconnectMs: Math.max(0, Math.round(linked.atMs - startedAtMs)), adopted: recovered.adopted,
    }
  },
}
