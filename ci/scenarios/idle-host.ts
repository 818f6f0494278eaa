/**
 * A host that has nothing to do, and runs nothing of this project: its kernel's own variables have to tell that it lives,
 * and, when it hangs in the end, that it does not.
 */
import { hangKernel } from '../hang-kernel.js'
import type { Scenario } from '../scenario.js'
import { hostMachines, startHostCluster } from './hosts.js'

const idleMs = 60_000

export const idleHost: Scenario = {
  name: 'idle-host',
  summary: 'an idle host without a daemon for 60 s: never suspected, by its kernel\'s variables alone; then hung, and seen',
  machines: hostMachines,
  async run(context) {
    const { log } = context
    const cluster = await startHostCluster(context)
    const beganAtMs = performance.now()
    const guest = await cluster.bootHost()
    const { daemonLog } = await cluster.watching
    await daemonLog.until('watch of the kernel', ({ event, peer, atMs }) => event === 'machine' && peer === 'a' && atMs > beganAtMs)
    const watchedAtMs = performance.now()
    log('the kernel of a is watched')
    await new Promise((resolve) => setTimeout(resolve, idleMs))
    const suspicions = daemonLog.events.filter(({ event, peer, verdict, atMs }) => event === 'verdict' && peer === 'a' && verdict !== 'alive' && atMs > watchedAtMs)
    log(`${suspicions.length} suspicions in ${idleMs / 1000} s`)
    const calledAtMs = performance.now()
    const hungAtMs = await hangKernel(guest, cluster.ramPath, 2)
    const seen = await daemonLog.until('verdict on the hung host', ({ event, peer, verdict, atMs }) => event === 'verdict' && peer === 'a' && verdict !== 'alive' && atMs > calledAtMs)
    await guest.close()
    log(`hung: ${String(seen.verdict)}: ${String(seen.seen)}`)
    return {
      ok: suspicions.length === 0 && seen.verdict === 'os-stalled', idleMs, suspicions: suspicions.map(({ seen: why }) => why),
      verdict: seen.verdict, seen: seen.seen, detectMs: Math.round(seen.atMs - hungAtMs),
    }
  },
}
