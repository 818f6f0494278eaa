/** A host, the NIC machine that has its RAM, and a healthy node that watches the host through it. */
import { execFileSync } from 'node:child_process'
import type { DaemonConfigInput } from '../../src/daemon/config.js'
import type { Guest, GuestOptions } from '../guest.js'
import { requireTools } from '../host-tools.js'
import type { ScenarioContext } from '../scenario.js'
import { daemonPort, makeKeys, overVerbs, rigConfig, startDaemon, startServer, type ClusterNode } from './cluster.js'

/** Names of the nodes; the host's guest has a number behind it, as it is booted anew for each trial. */
const [host, nic, healthy] = ['a', 'a-nic', 'b'] as const

const hostMemoryMiB = 512
/** The DAX device begins where the first 2 MiB of the host's physical memory end: its own book-keeping lies in them. */
const daxStartBytes = 2 << 20

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

/** @param region of the host and of the healthy node, where it differs from the rig's own */
export async function startHostCluster(context: ScenarioContext, region: DaemonConfigInput['region'] = {}): Promise<HostCluster> {
  const configOf = (node: string, watched: number): DaemonConfigInput => {
    const config = rigConfig(node, watched)
    return { ...config, region: { ...config.region, ...region } }
  }
  await requireTools(['ndctl', 'fallocate', 'taskset', 'perl'])
  const ramPath = context.ramFile(host)
  const keys = await makeKeys(context, [nic, healthy])
  const [[nicGuest], [healthyGuest]] = await Promise.all([
    context.boot([nic], { memoryMiB: 768, hostRam: { path: ramPath, mebibytes: hostMemoryMiB } }),
    context.boot([healthy], { memoryMiB: 768 }),
  ])
  const length = await makeDaxDevice(nicGuest)
  // Starting a program takes an emulated machine seconds: they start side by side, and the host boots meanwhile.
  const watching = Promise.all([
    startDaemon(context, nicGuest, {
      ...rigConfig(nic, 0), ...overVerbs(nic, nicGuest, keys),
      peers: [{ name: healthy, host: healthyGuest.ip, port: daemonPort }],
      hosts: [{ name: host, memory: '/dev/dax0.0', map: [{ physical: daxStartBytes, length, offset: 0 }] }],
    }),
    startHealthy(context, configOf(healthy, 2), { guest: healthyGuest, nicGuest, keys }),
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
    startHost: async (guest, start = () => startServer(host, guest)) => {
      const before = performance.now()
      const { daemonLog } = await watching
      // No RDMA on the host: its region is shared memory that nobody but its NIC machine reads from outside.
      const own = await startDaemon(context, guest, { ...configOf(host, 0), fabric: 'shm' })
      const server = await start()
      await daemonLog.until('link to the host\'s region', ({ event, peer, atMs }) => event === 'watching' && peer === host && atMs > before)
      context.log('the healthy node watches the region of a in its memory')
      return { name: host, guest, ...own, ...server }
    },
  }
}

/** @returns its length, in bytes */
async function makeDaxDevice(guest: Guest): Promise<number> {
  await guest.check('ndctl create-namespace -f -e namespace0.0 -m devdax --map=mem --align=4096')
  return Number(await guest.check('cat /sys/bus/dax/devices/dax0.0/size'))
}

async function startHealthy(context: ScenarioContext, config: DaemonConfigInput, { guest, nicGuest, keys }: { guest: Guest; nicGuest: Guest; keys: string }): Promise<ClusterNode> {
  const daemon = await startDaemon(context, guest, {
    ...config, ...overVerbs(healthy, guest, keys),
    peers: [{ name: nic, host: nicGuest.ip, port: daemonPort }, { name: host, through: nic }],
  })
  const node = { name: healthy, guest, ...daemon, ...(await startServer(healthy, guest)) }
  await daemon.daemonLog.until('link to the NIC machine', ({ event, peer }) => event === 'watching' && peer === nic)
  context.log('the NIC machine lends the RAM of a')
  return node
}
