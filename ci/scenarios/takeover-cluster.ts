/** A host whose clients' connections go on elsewhere, the node where they do, and a guest for the clients. */
import type { Guest } from '../guest.js'
import { guestProgram } from '../guest-programs.js'
import type { ScenarioContext } from '../scenario.js'
import type { TakeoverServerArguments } from '../takeover/server.js'
import { httpPort } from '../takeover/words.js'
import { EventLog, regionOf, rigTimes, type ClusterNode } from './cluster.js'
import { startHostCluster, type HostCluster } from './hosts.js'

/** Of the host, and of who recovers it. */
export const takeoverAddress = '10.99.0.200'

/** Scenarios of these machines may share them. */
export const takeoverMachines = 'takeover'

export async function startTakeoverServer(node: string, guest: Guest): Promise<Pick<ClusterNode, 'server' | 'serverLog'>> {
  const args: TakeoverServerArguments = { node, region: regionOf(node), port: httpPort, deadlineMs: rigTimes.serverDeadlineMs }
  const server = await guest.spawn([...guestProgram('ci/takeover/server'), JSON.stringify(args)])
  const serverLog = new EventLog(server)
  await serverLog.until(`server of ${node}`, ({ event }) => event === 'serving')
  return { server, serverLog }
}

export interface TakeoverCluster {
  readonly cluster: HostCluster
  /** The guest that the clients run in. */
  readonly clients: Guest
}

export async function startTakeoverCluster(context: ScenarioContext): Promise<TakeoverCluster> {
  const recovery = { addresses: [{ node: 'a', address: `${takeoverAddress}/24`, interface: 'eth0' }] }
  const guest = context.shared(`${takeoverMachines} clients`, async () => (await context.boot(['c'], { memoryMiB: 768 }))[0])
  const cluster = startHostCluster(context, { recovery, startServer: startTakeoverServer, healthyCpus: 2 })
  return { cluster: await cluster, clients: await guest }
}
