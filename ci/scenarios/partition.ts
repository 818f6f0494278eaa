/** Links are cut at the switch: first one between two nodes, then all of a third one. Nobody is fenced or recovered for it, and it heals. */
import type { NodeVerdictKind } from '../../src/monitor/verdict.js'
import type { Scenario } from '../scenario.js'
import { isUnharmed, judge, rigTimes, startClients, type ClusterNode, type RigEvent } from './cluster.js'
import { startThree, threeMachines } from './three-nodes.js'

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
    const phases: { readonly cut: string; readonly isAsExpected: boolean; readonly verdicts: unknown[]; readonly detectMs: number[]; readonly reconnectMs: number }[] = []
    /** @param expected what each of the pairs, who see nothing of each other, has to say of the other, and nothing else */
    const cut = async (name: string, expected: NodeVerdictKind, pairs: readonly (readonly [ClusterNode, ClusterNode])[]): Promise<void> => {
      const cutAtMs = performance.now()
      for (const [one, other] of pairs) network.cut(one.guest.name, other.guest.name)
      log(`cut: ${name}`)
      const views = pairs.flatMap(([one, other]) => [[one, other], [other, one]] as const)
      const isTold = (of: ClusterNode) => ({ event, peer, verdict, atMs }: RigEvent): boolean => event === 'verdict' && peer === of.name && verdict !== 'alive' && atMs > cutAtMs
      const verdicts = await Promise.all(views.map(([by, of]) => by.daemonLog.until(`verdict of ${by.name} on ${of.name}`, isTold(of))))
      await new Promise((resolve) => setTimeout(resolve, cutOnMs))
      const told = views.flatMap(([by, of]) => by.daemonLog.events.filter(isTold(of)).map(({ verdict }) => verdict))
      const mendedAtMs = performance.now()
      for (const [one, other] of pairs) network.heal(one.guest.name, other.guest.name)
      const alive = await Promise.all(views.map(([by, of]) => by.daemonLog.until(`${of.name} alive to ${by.name}`, ({ event, peer, verdict, atMs }) => event === 'verdict' && peer === of.name && verdict === 'alive' && atMs > mendedAtMs)))
      phases.push({ cut: name, isAsExpected: told.every((verdict) => verdict === expected), verdicts: told, detectMs: verdicts.map(({ atMs }) => Math.round(atMs - cutAtMs)), reconnectMs: Math.round(Math.max(...alive.map(({ atMs }) => atMs)) - mendedAtMs) })
      log(`mended: ${name}`)
    }
    // c reaches both, and says so when it is asked.
    await cut('a from b', 'link-cut', [[a, b]])
    await cut('b from all', 'unreachable', [[b, a], [b, c]])
    const judgement = await judge(clients)
    const steps = nodes.flatMap(({ daemonLog }) => daemonLog.events.filter(({ event }) => event === 'step')).length
    const fenced = nodes.filter(({ daemonLog, serverLog }) => [daemonLog, serverLog].some((each) => each.find(({ event }) => event === 'fenced'))).length
    const ok = phases.every(({ isAsExpected }) => isAsExpected) && steps === 0 && fenced === 0 && isUnharmed(judgement)
    return { ok, ...judgement, steps, fenced, unreachableAfterMs: rigTimes.unreachableAfterMs, phases }
  },
}
