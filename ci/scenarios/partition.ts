/** Links are cut at the switch: first one between two nodes, then all of a third one. Nobody is fenced or recovered for it, and it heals. */
import type { Scenario } from '../scenario.js'
import { judge, rigTimes, startClients, startThree, threeMachines, type ClusterNode } from './cluster.js'

const sessions = 30
/** Cut for so long after it was seen, so that a late recovery would show. In milliseconds. */
const cutOnMs = 3000

export const partition: Scenario = {
  name: 'partition',
  summary: 'links cut at the switch: seen, reported, nobody fenced, no session served twice; mended, all reconnects',
  machines: threeMachines,
  async run(context) {
    const { log, network } = context
    const [a, b, c] = await startThree(context)
    const nodes = [a, b, c]
    const clients = await startClients(c, a, [b, c], sessions)
    const phases: { readonly cut: string; readonly verdicts: unknown[]; readonly detectMs: number[]; readonly reconnectMs: number }[] = []
    /** The pairs that see nothing of each other. */
    const cut = async (name: string, pairs: readonly (readonly [ClusterNode, ClusterNode])[]): Promise<void> => {
      const cutAtMs = performance.now()
      for (const [one, other] of pairs) network.cut(one.guest.name, other.guest.name)
      log(`cut: ${name}`)
      const views = pairs.flatMap(([one, other]) => [[one, other], [other, one]] as const)
      const verdicts = await Promise.all(views.map(([by, of]) => by.daemonLog.until(`verdict of ${by.name} on ${of.name}`, ({ event, peer, verdict, atMs }) => event === 'verdict' && peer === of.name && verdict !== 'alive' && atMs > cutAtMs)))
      await new Promise((resolve) => setTimeout(resolve, cutOnMs))
      const mendedAtMs = performance.now()
      for (const [one, other] of pairs) network.heal(one.guest.name, other.guest.name)
      const alive = await Promise.all(views.map(([by, of]) => by.daemonLog.until(`${of.name} alive to ${by.name}`, ({ event, peer, verdict, atMs }) => event === 'verdict' && peer === of.name && verdict === 'alive' && atMs > mendedAtMs)))
      phases.push({ cut: name, verdicts: verdicts.map(({ verdict }) => verdict), detectMs: verdicts.map(({ atMs }) => Math.round(atMs - cutAtMs)), reconnectMs: Math.round(Math.max(...alive.map(({ atMs }) => atMs)) - mendedAtMs) })
      log(`mended: ${name}`)
    }
    await cut('a from b', [[a, b]])
    await cut('b from all', [[b, a], [b, c]])
    const judgement = await judge(clients)
    const steps = nodes.flatMap(({ daemonLog }) => daemonLog.events.filter(({ event }) => event === 'step')).length
    const fenced = nodes.filter(({ daemonLog, serverLog }) => [daemonLog, serverLog].some((each) => each.find(({ event }) => event === 'fenced'))).length
    const isExpected = phases.every(({ verdicts }) => verdicts.every((verdict) => verdict === 'unreachable' || verdict === 'link-cut'))
    const ok = isExpected && steps === 0 && fenced === 0 && judgement.lost === 0 && judgement.servedTwice === 0 && judgement.invented === 0
    return { ok, ...judgement, steps, fenced, unreachableAfterMs: rigTimes.unreachableAfterMs, phases }
  },
}
