/** A server process fails under load while its machine lives: killed, or stopped and woken again. */
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { isUnharmed, judge, rigTimes, startClients, startCluster, type ClusterNode, type RigEvent } from './cluster.js'
import { endThree, startThree, threeMachines, type ThreeNodes } from './three-nodes.js'

const sessions = 40

async function fail({ log }: ScenarioContext, [a, b, c]: ThreeNodes, signal: 'SIGKILL' | 'SIGSTOP', verdicts: readonly string[]): Promise<ScenarioResult> {
  const watchers = [b, c]
  const clients = await startClients(c, a, watchers, sessions, { prefix: `${signal}-` })
  log(`${sessions} sessions are served by ${a.name}`)
  clients.process.write(`fail ${a.name}\n`)
  const failedAtMs = performance.now()
  a.server.kill(signal)
  log(`the server on ${a.name} got ${signal}`)
  const verdict = await firstOf(watchers, 'verdict', ({ event, peer, atMs }) => event === 'verdict' && peer === a.name && atMs > failedAtMs)
  log(`${String(verdict.by)}: ${String(verdict.verdict)}: ${String(verdict.seen)}`)
  const recovered = await firstOf(watchers, 'recovery', ({ event, outcome }) => event === 'recovered' && outcome === 'announced')
  log(`recovered: ${String(recovered.adopted)} sessions adopted`)
  await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 90_000)
  const lastClientMs = performance.now() - failedAtMs
  const fenced = signal === 'SIGSTOP' ? await wake(a, log) : undefined
  const judgement = await judge(clients)
  const announced = watchers.filter(({ daemonLog }) => daemonLog.find(({ event, outcome }) => event === 'recovered' && outcome === 'announced'))
  const ok = isUnharmed(judgement) && judgement.recovered === sessions &&
    verdicts.includes(String(verdict.verdict)) && announced.length === 1 && fenced !== false
  return {
    ok, failure: signal, ...judgement, verdict: verdict.verdict, seen: verdict.seen, recoverers: announced.length, ...(fenced === undefined ? {} : { fenced }),
    deadlineMs: rigTimes.serverDeadlineMs, intervalMs: rigTimes.intervalMs,
    detectMs: round(verdict.atMs - failedAtMs), recoverMs: round(recovered.atMs - failedAtMs), lastClientMs: round(lastClientMs),
  }
}

/** The stopped server runs on, and must find itself fenced before it answers anybody. */
async function wake(node: ClusterNode, log: (line: string) => void): Promise<boolean> {
  node.server.kill('SIGCONT')
  log(`the server on ${node.name} was woken`)
  const fenced = await node.serverLog.until('word that it is fenced', ({ event }) => event === 'fenced').then(() => true, () => false)
  log(fenced ? 'it found itself fenced' : 'it did NOT find itself fenced')
  return fenced
}

const firstOf = (nodes: readonly ClusterNode[], what: string, matches: (event: RigEvent) => boolean): Promise<RigEvent> =>
  Promise.any(nodes.map(({ daemonLog }) => daemonLog.until(what, matches)))

const round = (ms: number): number => Math.round(ms * 10) / 10

export const killServer: Scenario = {
  name: 'kill-server',
  summary: 'kill -9 of a server under load: its sessions are recovered over RDMA and served by another node',
  machines: threeMachines,
  async run(context) {
    const result = await fail(context, await startThree(context), 'SIGKILL', ['app-exited', 'app-stalled'])
    await endThree(context)
    return result
  },
}

/** SIGSTOP of a server under load, in guests that nobody else has the names of, and that are gone at the end. */
export async function stoppedServer(context: ScenarioContext): Promise<ScenarioResult> {
  const nodes = await startCluster(context, ['p', 'q', 'r'])
  const result = await fail(context, nodes, 'SIGSTOP', ['app-stalled'])
  await Promise.all(nodes.map(({ guest }) => guest.close()))
  return result
}
