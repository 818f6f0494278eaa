/** An hour of audio is streamed as fast as it goes; its server's host panics midway, and the listener gets every byte. */
import { audioSeconds, httpPort } from '../takeover/words.js'
import type { ListenerArguments, ListenerJudgement } from '../takeover/listener.js'
import type { Guest } from '../guest.js'
import { guestProgram } from '../guest-programs.js'
import { panicKernel } from '../panic-kernel.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { EventLog } from './cluster.js'
import type { HostCluster } from './hosts.js'
import { startTakeoverCluster, startTakeoverServer, takeoverAddress, takeoverMachines } from './takeover-cluster.js'

/** The panic comes when so much of it has been heard, at random between these. */
const [earliest, latest] = [0.1, 0.6] as const

async function trial(context: ScenarioContext, cluster: HostCluster, listenerGuest: Guest): Promise<ScenarioResult> {
  const healthy = await cluster.watching
  const guest = await cluster.bootHost()
  const a = await cluster.startHost(guest, () => startTakeoverServer('a', guest))
  const tellAt = earliest + Math.random() * (latest - earliest)
  const args: ListenerArguments = { host: takeoverAddress, port: httpPort, seconds: audioSeconds, tellAt }
  const listener = await listenerGuest.spawn([...guestProgram('ci/takeover/listener'), JSON.stringify(args)])
  const listenerLog = new EventLog(listener)
  const heard = await listenerLog.until('half of the stream', ({ event }) => event === 'heard' || event === 'judged', 600_000)
  const { panickedMs } = await panicKernel(guest, cluster.ramPath)
  context.log(`the host panics after ${Math.round(tellAt * 100)} % of the stream`)
  await guest.yieldToOthers()
  const report = await healthy.daemonLog.until('connections', ({ event, atMs }) => event === 'connections' && atMs > panickedMs)
  const judged = (await listenerLog.until('end of the stream', ({ event }) => event === 'judged', 600_000)) as unknown as ListenerJudgement
  a.daemon.kill('SIGKILL')
  await guest.close()
  return {
    ok: judged.identical && heard['bytes'] !== undefined && report['continued'] === 1,
    clients: 1, continued: judged.identical ? 1 : 0, reset: report['reset'], wrongBytes: judged.firstWrongByte === undefined ? 0 : 1, lost: judged.expectedBytes - judged.bytes,
    bytes: judged.bytes, sha256: judged.sha256, panicAtShare: Math.round(tellAt * 100) / 100, longestGapMs: judged.longestGapMs,
    streamMBps: Math.round(judged.bytes / judged.seconds / 1e4) / 100, splitMs: report['ms'], ...(judged.error === undefined ? {} : { error: judged.error }),
  }
}

export const stream: Scenario = {
  name: 'stream',
  machines: takeoverMachines,
  summary: 'an hour of audio, streamed at speed; its host panics midway, and what was received is the same to the bit (--trials)',
  async run(context) {
    const { cluster, clients } = await startTakeoverCluster(context)
    const results: ScenarioResult[] = []
    for (let number = 1; number <= context.trials; number++) {
      const result = await trial(context, cluster, clients)
      context.log(JSON.stringify({ trial: number, ...result }))
      results.push(result)
    }
    return { ok: results.every(({ ok }) => ok), trials: results.length, streams: results }
  },
}
