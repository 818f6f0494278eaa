/** A host panics under HTTP and WebSocket clients that have no code for it; another machine goes on with their very connections. */
import type { Guest } from '../guest.js'
import { guestProgram } from '../guest-programs.js'
import { readConnectionsNatively } from '../native-reading.js'
import { panicKernel } from '../panic-kernel.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { spreadOf } from '../spread.js'
import type { ClientJudgement, TakeoverClientsArguments } from '../takeover/clients.js'
import { drawTakeover } from '../takeover/picture.js'
import { SegmentLog, type ObservedWait } from '../takeover/segments.js'
import { httpPort } from '../takeover/words.js'
import { EventLog, rigTimes, type RigEvent } from './cluster.js'
import type { HostCluster } from './hosts.js'
import { startTakeoverCluster, startTakeoverServer, takeoverAddress, takeoverMachines } from './takeover-cluster.js'

const [http, webSockets] = [100, 20] as const
/** More often, and an emulated processor would be busy with requests alone: their answers would wait for each other, not for the takeover. */
const thinkMs = 2000
const longestDelayMs = 3000
/** Of all clients, those whose connection has to go on. */
const leastContinued = 0.99

async function startClients(guest: Guest, prefix: string) {
  const args: TakeoverClientsArguments = { host: takeoverAddress, port: httpPort, prefix, http, webSockets, thinkMs }
  const clients = await guest.spawn([...guestProgram('ci/takeover/clients'), JSON.stringify(args)])
  return { clients, log: new EventLog(clients) }
}

/** How long each client waited; of those whose request was lost on the way, also how much longer than their own time-out made them. */
function waitsOf(waits: readonly ObservedWait[]): Record<string, unknown> {
  const lost = waits.filter(({ transmissions }) => transmissions > 1)
  const heard = waits.filter(({ transmissions }) => transmissions === 1)
  return {
    waitMs: spreadOf(waits.map(({ waitMs }) => waitMs)), requestsLost: lost.length,
    heardWaitMs: spreadOf(heard.map(({ waitMs }) => waitMs)), afterOwnTimeoutMs: spreadOf(lost.map(({ afterLastMs }) => afterLastMs)),
  }
}

async function trial(context: ScenarioContext, cluster: HostCluster, clientsGuest: Guest, number: number): Promise<ScenarioResult> {
  const { log, network } = context
  const healthy = await cluster.watching
  const guest = await cluster.bootHost()
  const a = await cluster.startHost(guest, () => startTakeoverServer('a', guest))
  const { clients, log: clientsLog } = await startClients(clientsGuest, `t${number}-`)
  await clientsLog.until('answers to all clients', ({ event }) => event === 'warm')
  log(`trial ${number}: ${http} HTTP clients and ${webSockets} WebSockets are served by a`)
  const segments = new SegmentLog(takeoverAddress, httpPort)
  network.observer = segments.observe
  const delayMs = Math.random() * longestDelayMs
  await new Promise((resolve) => setTimeout(resolve, delayMs))
  clients.write('fail\n')
  const calledAtMs = performance.now()
  const { panickedMs: failedAtMs, stoppedMs } = await panicKernel(guest, cluster.ramPath)
  segments.fail(failedAtMs)
  await guest.yieldToOthers()
  const since = (matches: (event: RigEvent) => boolean) => (event: RigEvent): boolean => event.atMs > calledAtMs && matches(event)
  const verdict = await healthy.daemonLog.until('verdict', since(({ event, peer, verdict: kind }) => event === 'verdict' && peer === 'a' && kind !== 'alive'))
  const report = await healthy.daemonLog.until('connections', since(({ event }) => event === 'connections'))
  await clientsLog.until('answers to all clients', ({ event }) => event === 'all-continued', 60_000)
  network.observer = undefined
  if (context.plotPath !== undefined) {
    const decidedMs = report.atMs - failedAtMs
    const { answer } = report['ms'] as { readonly answer: number }
    const marks = [{ text: 'it is seen', atMs: verdict.atMs - failedAtMs }, { text: 'its address is at the other machine', atMs: decidedMs - answer }, { text: 'all connections are decided on', atMs: decidedMs }]
    await drawTakeover(context.plotPath, { requests: segments.requests, failedAtMs, marks, failed: guest.name })
  }
  clients.write('stop\n')
  const judged = (await clientsLog.until('judgement', ({ event }) => event === 'judged'))['clients'] as ClientJudgement[]
  await clients.exited
  const native = await readConnectionsNatively(cluster.ramPath, { addresses: [Uint8Array.from(takeoverAddress.split('.'), Number)], ports: [httpPort] })
  a.daemon.kill('SIGKILL')
  await guest.close()
  const continued = judged.filter(({ error, answeredSinceFailure }) => error === undefined && answeredSinceFailure > 0)
  const wrongBytes = judged.reduce((sum, client) => sum + client.wrongBytes, 0)
  const lost = judged.filter(({ error, answeredSinceFailure }) => error === undefined && answeredSinceFailure === 0).length
  const reset = report['reset'] as Readonly<Record<string, number>>
  const toldResets = Object.values(reset).reduce((sum, count) => sum + count, 0)
  const at = (event: RigEvent): number => Math.round(event.atMs - failedAtMs)
  return {
    // Who was cut off was told why, and nobody was cut off or left waiting beside these.
    ok: wrongBytes === 0 && lost === 0 && judged.length - continued.length <= toldResets && (segments.resets === 0 || toldResets > 0) && verdict['verdict'] === 'os-panicked',
    delayMs: Math.round(delayMs), clients: judged.length, continued: continued.length, reset, wrongBytes,
    errors: judged.flatMap(({ client, error }) => (error === undefined ? [] : [`${client}: ${error}`])).slice(0, 10),
    lost, resetFrames: segments.resets, answered: judged.reduce((sum, client) => sum + client.answered, 0),
    ...waitsOf(segments.waits), verdict: verdict['verdict'], detectMs: at(verdict), stoppedMs: Math.round(stoppedMs - failedAtMs), connectionsMs: at(report), splitMs: report['ms'], native,
  }
}

export const tcpTakeover: Scenario = {
  name: 'tcp-takeover',
  machines: takeoverMachines,
  summary: 'a host panics at a random instant; clients without any code for it are served on, on their very TCP connections (--trials)',
  async run(context) {
    const { cluster, clients: clientsGuest } = await startTakeoverCluster(context)
    const results: ScenarioResult[] = []
    for (let number = 1; number <= context.trials; number++) {
      const result = await trial(context, cluster, clientsGuest, number)
      context.log(JSON.stringify({ trial: number, ...result }))
      results.push(result)
    }
    const sum = (field: string): number => results.reduce((total, result) => total + Number(result[field]), 0)
    const all = (field: string): unknown[] => results.map((result) => result[field])
    return {
      ok: results.every(({ ok }) => ok) && sum('continued') >= leastContinued * sum('clients'), trials: results.length, clients: sum('clients'), continued: sum('continued'), reset: all('reset'), wrongBytes: sum('wrongBytes'),
      lost: sum('lost'), resetFrames: sum('resetFrames'), answered: sum('answered'), errors: results.flatMap((result) => result['errors'] as string[]).slice(0, 20), requestsLost: all('requestsLost'), waitMs: all('waitMs'),
      heardWaitMs: all('heardWaitMs'), afterOwnTimeoutMs: all('afterOwnTimeoutMs'), verdicts: all('verdict'), detectMs: all('detectMs'), stoppedMs: all('stoppedMs'), connectionsMs: all('connectionsMs'), splitMs: all('splitMs'), native: all('native'),
      intervalMs: rigTimes.intervalMs,
    }
  },
}
