/**
 * A machine hangs under load, and the one that recovers it hangs, too, at one of the six steps of the recovery: a third one recovers
 * both. Woken again, the two find themselves fenced.
 */
import { recoverySteps, type RecoveryStep } from '../../src/region/control.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { bootGuests, endNodes, hang, judge, startClients, startNodes, wakeFenced, type ClusterGuests } from './cluster.js'

const sessions = 20
/** The node that is to recover second fences by a command first, which takes that long: so the other one is first. In seconds. */
const secondFencesForS = 4

async function trial(context: ScenarioContext, cluster: ClusterGuests<readonly ['a', 'b', 'c']>, step: RecoveryStep): Promise<ScenarioResult> {
  const { log } = context
  const nodes = await startNodes(context, cluster, { b: { stopAt: { peer: 'a', step } }, c: { recovery: { fence: { command: ['/bin/sleep', String(secondFencesForS)] } } } })
  const [a, b, c] = nodes
  const clients = await startClients(c, a, [b, c], sessions, { prefix: `${step}-` })
  clients.process.write('fail a\n')
  hang(a)
  const failedAtMs = performance.now()
  await b.daemonLog.until(`${step} of a by b`, ({ event, peer, step: told }) => event === 'step' && peer === 'a' && told === step)
  log(`b stopped at ${step}`)
  clients.process.write('fail b\n')
  // Its daemon stops itself; a second signal might come before that, and be the one that it is woken from.
  b.server.kill('SIGSTOP')
  const last = await c.daemonLog.until('recovery of b by c', ({ event, peer, outcome }) => event === 'recovered' && peer === 'b' && outcome === 'announced')
  await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 90_000)
  log(`${sessions} sessions are served by c`)
  const lastClientMs = performance.now() - failedAtMs
  const fenced = [await wakeFenced(a), await wakeFenced(b)]
  const judgement = await judge(clients)
  await endNodes(nodes)
  const ok = judgement.lost === 0 && judgement.servedTwice === 0 && judgement.invented === 0 && judgement.recovered === sessions && fenced.every(Boolean)
  return { ok, step, ...judgement, fenced, recoverMs: Math.round(last.atMs - failedAtMs), lastClientMs: Math.round(lastClientMs) }
}

export const recovererDies: Scenario = {
  name: 'recoverer-dies',
  summary: 'the recoverer of a hung machine hangs at each of the six steps: a third node succeeds it, nothing is lost or served twice',
  async run(context) {
    const cluster = await bootGuests(context, ['a', 'b', 'c'])
    const results: ScenarioResult[] = []
    for (const step of recoverySteps) {
      const result = await trial(context, cluster, step)
      context.log(JSON.stringify(result))
      results.push(result)
    }
    const sum = (field: string): number => results.reduce((total, result) => total + Number(result[field]), 0)
    return {
      ok: results.every(({ ok }) => ok), steps: recoverySteps, sessions: sum('sessions'), recovered: sum('recovered'), lost: sum('lost'), servedTwice: sum('servedTwice'),
      invented: sum('invented'), acknowledged: sum('acknowledged'), findings: results.flatMap(({ findings }) => findings as string[]).slice(0, 20),
      fenced: results.map(({ fenced }) => fenced), recoverMs: results.map(({ recoverMs }) => recoverMs), lastClientMs: results.map(({ lastClientMs }) => lastClientMs),
    }
  },
}
