/** A host, the NIC machine that has its RAM, and a healthy node that watches the host through it. */
import { execFileSync } from 'node:child_process'
import type { DaemonConfigInput } from '../../src/daemon/config.js'
import type { Guest, GuestOptions } from '../guest.js'
import { requireTools } from '../host-tools.js'
import type { ScenarioContext } from '../scenario.js'
import { daemonPort, makeKeys, overVerbs, rigConfig, startDaemon, startServer as startExampleServer, type ClusterNode } from './cluster.js'

/** Names of the nodes; the host's guest has a number behind it, as it is booted anew for each trial. */
const [host, nic, healthy] = ['a', 'a-nic', 'b'] as const

export const hostMemoryMiB = 512
/** The DAX device begins where the first 2 MiB of the host's physical memory end: its own book-keeping lies in them. */
export const daxStartBytes = 2 << 20

export interface HostCluster {
  readonly nic: Guest
  /** The healthy node, once it watches; with a server of its own, which takes sessions over. */
  readonly watching: Promise<ClusterNode>
  readonly ramPath: string
  /** Boots the host, whose RAM is empty then. */
  bootHost(options?: Partial<GuestOptions>): Promise<Guest>
  /** Starts daemon and server (by default the example server) on the host, and waits until the healthy node watches its region. */
  startHost(guest: Guest, start?: () => Promise<Pick<ClusterNode, 'server' | 'serverLog'>>): Promise<ClusterNode>
}

/** What is particular to the host and the healthy node of one scenario. */
export interface HostVariant {
  readonly region?: DaemonConfigInput['region']
  readonly recovery?: DaemonConfigInput['recovery']
  /** Processors of the healthy node: 1 by default, 2 where its daemon and its server are busy at the same time. */
  readonly healthyCpus?: 1 | 2
  /** In place of the example server. */
  readonly startServer?: (node: string, guest: Guest) => Promise<Pick<ClusterNode, 'server' | 'serverLog'>>
}

/** The machines that scenarios share which need no variant. */
export const hostMachines = 'host'

/** Of scenarios on the same machines the first one starts it. */
export const startHostCluster = (context: ScenarioContext, variant: HostVariant = {}): Promise<HostCluster> => context.shared(hostMachines, () => start(context, variant))

async function start(context: ScenarioContext, { region, recovery = {}, healthyCpus = 1, startServer = startExampleServer }: HostVariant): Promise<HostCluster> {
  const configOf = (node: string, watched: number): DaemonConfigInput => {
    const config = rigConfig(node, watched)
    return { ...config, region: { ...config.region, ...region }, recovery }
  }
  await requireTools(['ndctl', 'fallocate', 'taskset', 'perl'])
  const ramPath = context.ramFile(host)
  const keys = await makeKeys(context, [nic, healthy])
  const [[nicGuest], [healthyGuest]] = await Promise.all([
    context.boot([nic], { memoryMiB: 768, hostRams: [{ path: ramPath, mebibytes: hostMemoryMiB }] }),
    context.boot([healthy], { memoryMiB: 768, cpus: healthyCpus }),
  ])
  const length = await makeDaxDevice(nicGuest)
  // Starting a program takes an emulated machine seconds: they start side by side, and the host boots meanwhile.
  const watching = Promise.all([
    startDaemon(context, nicGuest, {
      ...rigConfig(nic, 0), ...overVerbs(nic, nicGuest, keys),
      peers: [{ name: healthy, host: healthyGuest.ip, port: daemonPort }],
      hosts: [{ name: host, memory: '/dev/dax0.0', map: [{ physical: daxStartBytes, length, offset: 0 }] }],
    }),
    startHealthy(context, configOf(healthy, 2), { guest: healthyGuest, nicGuest, keys, startServer }),
  ]).then(([, node]) => node)
  watching.catch(() => undefined) // told to whoever waits for it
  let boots = 0
  return {
    nic: nicGuest, watching, ramPath,
    bootHost: async (options) => {
      // What an earlier life left in memory would be found, too: a kernel that is no more.
      if (boots > 0) execFileSync('fallocate', ['--punch-hole', '--offset', String(daxStartBytes), '--length', String((hostMemoryMiB << 20) - daxStartBytes), ramPath])
      const [guest] = await context.boot([`${host}-${++boots}`], { memoryMiB: hostMemoryMiB, cpus: 2, ramPath, ...options })
      return guest
    },
    startHost: async (guest, serve = () => startServer(host, guest)) => {
      const before = performance.now()
      const { daemonLog } = await watching
      // No RDMA on the host: its region is shared memory that nobody but its NIC machine reads from outside.
      const own = await startDaemon(context, guest, { ...configOf(host, 0), fabric: 'shm' })
      const server = await serve()
      await daemonLog.until('link to the host\'s region', ({ event, peer, atMs }) => event === 'watching' && peer === host && atMs > before)
      context.log('the healthy node watches the region of a in its memory')
      return { name: host, guest, ...own, ...server }
    },
  }
}

/** @param index of the memory module. @returns the length of `/dev/daxINDEX.0`, in bytes */
export async function makeDaxDevice(guest: Guest, index = 0): Promise<number> {
  await guest.check(`ndctl create-namespace -f -e namespace${index}.0 -m devdax --map=mem --align=4096`)
  return Number(await guest.check(`cat /sys/bus/dax/devices/dax${index}.0/size`))
}

interface HealthyParts extends Required<Pick<HostVariant, 'startServer'>> {
  readonly guest: Guest
  readonly nicGuest: Guest
  readonly keys: string
}

async function startHealthy(context: ScenarioContext, config: DaemonConfigInput, { guest, nicGuest, keys, startServer }: HealthyParts): Promise<ClusterNode> {
  const daemon = await startDaemon(context, guest, {
    ...config, ...overVerbs(healthy, guest, keys),
    peers: [{ name: nic, host: nicGuest.ip, port: daemonPort }, { name: host, through: nic }],
  })
  const node = { name: healthy, guest, ...daemon, ...(await startServer(healthy, guest)) }
  await daemon.daemonLog.until('link to the NIC machine', ({ event, peer }) => event === 'watching' && peer === nic)
  context.log('the NIC machine lends the RAM of a')
  return node
}
