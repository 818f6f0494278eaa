/** Three of five nodes hang, one after another: each while it recovers the one before. The other two end up with everything. */
import type { Scenario } from '../scenario.js'
import { bootGuests, hang, isUnharmed, judge, startClients, startNodes, wakeFenced, type ClusterNode, type NodeVariant, type RigEvent } from './cluster.js'

const sessions = 30
const names = ['a', 'b', 'c', 'd', 'e'] as const
/** Of the node's recovery that is cut short, in milliseconds after its claim. */
const longestDelayMs = 300
/** What stops must be a recoverer, and clients live at the last node: its fencing takes so long that any other is first to claim. */
const lastToClaim: NodeVariant = { recovery: { fence: { command: ['/bin/sleep', '4'] } } }

/** The first node of these that tells of such an event, beginning now. */
async function firstOf(nodes: readonly ClusterNode[], what: string, matches: (event: RigEvent) => boolean): Promise<{ node: ClusterNode; event: RigEvent }> {
  const sinceMs = performance.now()
  return await Promise.any(nodes.map(async (node) => ({ node, event: await node.daemonLog.until(what, (event) => event.atMs > sinceMs && matches(event)) })))
}

export const cascade: Scenario = {
  name: 'cascade',
  summary: 'three of five nodes hang one after another, each while it recovers another: nothing is lost or served twice',
  async run(context) {
    const { log } = context
    const nodes = await startNodes(context, await bootGuests(context, names), { [names[4]]: lastToClaim })
    const [a, ...others] = nodes as readonly ClusterNode[] as [ClusterNode, ...ClusterNode[]]
    // Clients live where nothing is to fail.
    const home = others.at(-1) as ClusterNode
    const clients = await startClients(home, a, others, sessions)
    const failedAtMs = performance.now()
    const down = [a]
    const fail = (node: ClusterNode): void => {
      clients.process.write(`fail ${node.name}\n`)
      hang(node)
      log(`${node.name} hangs`)
    }
    fail(a)
    for (const turn of [1, 2]) {
      const left = others.filter((node) => !down.includes(node))
      const claim = await firstOf(left.filter((node) => node !== home), `claim ${turn}`, ({ event, step, target }) => event === 'step' && step === 'claimed' && (target as { kind?: string }).kind === 'node')
      const delayMs = Math.random() * longestDelayMs
      await new Promise((resolve) => setTimeout(resolve, delayMs))
      log(`${claim.node.name} had claimed ${String(claim.event['peer'])} ${Math.round(delayMs)} ms before`)
      down.push(claim.node)
      fail(claim.node)
    }
    const survivors = others.filter((node) => !down.includes(node))
    const isAnnounced = (peer: string) => ({ event, peer: of, outcome }: RigEvent): boolean => event === 'recovered' && of === peer && outcome === 'announced'
    await Promise.all(down.map(({ name }) => Promise.any(nodes.map(({ daemonLog }) => daemonLog.until(`recovery of ${name}`, isAnnounced(name))))))
    await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 120_000)
    const recoverMs = Math.round(performance.now() - failedAtMs)
    log(`everything is with ${survivors.map(({ name }) => name).join(' and ')}`)
    const fenced = await Promise.all(down.map(wakeFenced))
    const judgement = await judge(clients)
    const ok = fenced.every(Boolean) && isUnharmed(judgement) && judgement.recovered === sessions
    return { ok, ...judgement, down: down.map(({ name }) => name), survivors: survivors.map(({ name }) => name), fenced, recoverMs }
  },
}
