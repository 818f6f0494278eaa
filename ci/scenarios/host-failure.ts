/** A whole host fails under load, and its memory outlives it: sessions are recovered through its NIC machine. */
import type { Guest } from '../guest.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { hangKernel } from '../hang-kernel.js'
import { panicKernel } from '../panic-kernel.js'
import { isUnharmed, judge, rigTimes, startClients, type RigEvent } from './cluster.js'
import { hostMachines, startHostCluster, type HostCluster } from './hosts.js'

const sessions = 40
/** Each client commits some five times a second: a panic at a random instant catches commits half done. */
const thinkMs = 200
const longestDelayMs = 3000

/** How a host fails, and what has to be seen of it. */
interface HostFailure {
  readonly name: string
  readonly verdicts: readonly string[]
  /** @returns when it failed, where that is later than the call; and how long after that it had stopped, where that takes time. */
  fail(guest: Guest, cluster: HostCluster): Promise<{ failedMs: number; stoppedAfterMs?: number } | void>
  /** After the recovery: the host runs on, and its server has to find itself fenced. Without it, the host stays dead. */
  revive?(guest: Guest): Promise<void>
}

async function trial(context: ScenarioContext, cluster: HostCluster, failure: HostFailure, number: number): Promise<ScenarioResult> {
  const { log } = context
  const guest = await cluster.bootHost()
  const a = await cluster.startHost(guest)
  const healthy = await cluster.watching
  const clients = await startClients(healthy, a, [healthy], sessions, { prefix: `${guest.name}-`, thinkMs })
  const delayMs = Math.random() * longestDelayMs
  await new Promise((resolve) => setTimeout(resolve, delayMs))
  clients.process.write('fail a\n')
  const calledAtMs = performance.now()
  const { failedMs: failedAtMs, stoppedAfterMs } = (await failure.fail(guest, cluster)) ?? { failedMs: calledAtMs }
  await guest.yieldToOthers()
  log(`trial ${number}: ${failure.name} after ${Math.round(delayMs)} ms of load`)
  const since = (matches: (event: RigEvent) => boolean) => (event: RigEvent): boolean => event.atMs > calledAtMs && matches(event)
  const verdict = await healthy.daemonLog.until('verdict', since(({ event, peer, verdict: kind }) => event === 'verdict' && peer === 'a' && kind !== 'alive'))
  log(`trial ${number}: ${String(verdict.verdict)}: ${String(verdict.seen)}`)
  const recovered = await healthy.daemonLog.until('recovery', since(({ event, outcome }) => event === 'recovered' && outcome === 'announced'))
  await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 90_000)
  const lastClientMs = performance.now() - failedAtMs
  await failure.revive?.(guest)
  const fenced = failure.revive === undefined ? undefined : await a.serverLog.until('word that it is fenced', ({ event }) => event === 'fenced').then(() => true, () => false)
  if (failure.revive === undefined) clients.process.write('gone a\n')
  const judgement = await judge(clients)
  await guest.close()
  const ok = isUnharmed(judgement) && judgement.recovered === sessions &&
    failure.verdicts.includes(String(verdict.verdict)) && fenced !== false
  return {
    ok, delayMs: Math.round(delayMs), ...judgement, verdict: verdict.verdict, seen: verdict.seen, ...(fenced === undefined ? {} : { fenced }),
    ...(stoppedAfterMs === undefined ? {} : { stoppedAfterMs: Math.round(stoppedAfterMs) }), detectMs: Math.round(healthy.daemonLog.wasAtMs(verdict) - failedAtMs), toldMs: Math.round(verdict.atMs - failedAtMs), recoverMs: Math.round(recovered.atMs - failedAtMs), lastClientMs: Math.round(lastClientMs),
  }
}

/** One trial of each failure, on one cluster; the host is booted anew for each. */
async function trials(context: ScenarioContext, failures: readonly HostFailure[]): Promise<ScenarioResult> {
  const cluster = await startHostCluster(context)
  const results: ScenarioResult[] = []
  for (const [i, failure] of failures.entries()) {
    const result = await trial(context, cluster, failure, i + 1)
    context.log(JSON.stringify({ trial: i + 1, failure: failure.name, ...result }))
    results.push(result)
  }
  const sum = (field: string): number => results.reduce((total, result) => total + Number(result[field]), 0)
  const all = (field: string): unknown[] => results.map((result) => result[field] ?? null)
  return {
    ok: results.every(({ ok }) => ok), failures: failures.map(({ name }) => name), trials: results.length,
    sessions: sum('sessions'), recovered: sum('recovered'), lost: sum('lost'), servedTwice: sum('servedTwice'), invented: sum('invented'), acknowledged: sum('acknowledged'),
    findings: results.flatMap(({ findings }) => findings as string[]).slice(0, 20), verdicts: all('verdict'), seen: all('seen'), fenced: all('fenced'),
    intervalMs: rigTimes.intervalMs, deadlineMs: rigTimes.osDeadlineMs, stoppedAfterMs: all('stoppedAfterMs'), detectMs: all('detectMs'), toldMs: all('toldMs'), recoverMs: all('recoverMs'), lastClientMs: all('lastClientMs'),
  }
}

const panic: HostFailure = {
  name: 'panic',
  verdicts: ['os-panicked'],
  fail: async (guest, { ramPath }) => {
    const { panickedMs, stoppedMs } = await panicKernel(guest, ramPath)
    return { failedMs: panickedMs, stoppedAfterMs: stoppedMs - panickedMs }
  },
}

const hang: HostFailure = {
  name: 'hang',
  verdicts: ['os-stalled'],
  fail: async (guest, { ramPath }) => ({ failedMs: await hangKernel(guest, ramPath, 2) }),
}

const pause: HostFailure = {
  name: 'pause',
  verdicts: ['os-stalled'],
  fail: (guest) => guest.freeze(),
  revive: (guest) => guest.thaw(),
}

export const panicRecover: Scenario = {
  name: 'panic-recover',
  summary: 'a host panics at a random instant under load; its sessions are read out of its memory and served on (--trials)',
  machines: hostMachines,
  run: (context) => trials(context, Array.from({ length: context.trials }, () => panic)),
}

export const hangHost: Scenario = {
  name: 'hang-host',
  summary: 'both processors of a host spin with interrupts off: no panic, and no progress; its sessions are served on',
  machines: hostMachines,
  run: (context) => trials(context, [hang]),
}

/** Paused by its hypervisor, recovered, and resumed. */
export const pausedHost = (context: ScenarioContext): Promise<ScenarioResult> => trials(context, [pause])
