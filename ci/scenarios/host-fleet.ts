/** Several hosts that watch each other, and one NIC machine that has the RAM of all of them. */
import type { DaemonConfigInput } from '../../src/daemon/config.js'
import type { Guest } from '../guest.js'
import { requireTools } from '../host-tools.js'
import type { ScenarioContext } from '../scenario.js'
import { daemonPort, type EventLog, makeKeys, overVerbs, rigConfig, startDaemon } from './cluster.js'
import { daxStartBytes, hostMemoryMiB, makeDaxDevice } from './hosts.js'

const nic = 'nic'

export interface FleetHost {
  readonly name: string
  readonly guest: Guest
  readonly ramPath: string
  readonly daemonLog: EventLog
}

export interface HostFleet<Names extends readonly string[]> {
  readonly nic: Guest
  readonly hosts: { [Index in keyof Names]: FleetHost }
}

/** One machine answers for all, by an emulated processor: 4.096 µs × 2^18, a second, is not too long to wait for it. */
const patiently = (config: ReturnType<typeof overVerbs>): ReturnType<typeof overVerbs> => ({ ...config, verbs: { ...config.verbs, queuePairs: { timeout: 18 } } })

/** Numbers of the regions that the memory modules are, in the modules' own order: QEMU lists them in an order of chance. */
async function moduleRegions(guest: Guest): Promise<number[]> {
  const [bus] = JSON.parse(await guest.check('ndctl list -RDvv')) as [{ dimms: { dev: string; handle: number }[]; regions: { dev: string; mappings: { dimm: string }[] }[] }]
  const handles = new Map(bus.dimms.map(({ dev, handle }) => [dev, handle]))
  const handleOf = ({ mappings: [mapping] }: (typeof bus.regions)[number]): number => handles.get(mapping?.dimm ?? '') ?? 0
  return bus.regions.sort((a, b) => handleOf(a) - handleOf(b)).map(({ dev }) => Number(dev.replace('region', '')))
}

/**
 * Boots them, starts a daemon in each, and waits until every host watches all others through the NIC machine.
 * @param recovery of every host
 */
export async function startHostFleet<const Names extends readonly string[]>(context: ScenarioContext, names: Names, recovery: DaemonConfigInput['recovery']): Promise<HostFleet<Names>> {
  await requireTools(['ndctl'])
  const ramPaths = names.map((name) => context.ramFile(name))
  const keys = await makeKeys(context, [nic, ...names])
  const [nicGuest] = await context.boot([nic], { memoryMiB: 1024, hostRams: ramPaths.map((path) => ({ path, mebibytes: hostMemoryMiB })) })
  // Its book-keeping is written into what will be the hosts' memory: before they use it.
  const regions = await moduleRegions(nicGuest)
  const lengths: number[] = []
  for (const i of names.keys()) lengths.push(await makeDaxDevice(nicGuest, regions[i]))
  const guests = await Promise.all(names.map(async (name, i) => (await context.boot([name], { memoryMiB: hostMemoryMiB, cpus: 2, ramPath: ramPaths[i] as string }))[0]))
  const addressed = names.map((name, i) => ({ name, host: (guests[i] as Guest).ip, port: daemonPort }))
  await startDaemon(context, nicGuest, {
    ...rigConfig(nic, 0), ...patiently(overVerbs(nic, nicGuest, keys)), peers: addressed,
    hosts: names.map((name, i) => ({ name, memory: `/dev/dax${String(regions[i])}.0`, map: [{ physical: daxStartBytes, length: lengths[i] as number, offset: 0 }] })),
  })
  const hosts = await Promise.all(names.map(async (name, i): Promise<FleetHost> => {
    const guest = guests[i] as Guest
    const others = names.filter((other) => other !== name)
    const config = rigConfig(name, others.length + 1)
    const { daemonLog } = await startDaemon(context, guest, {
      ...config, ...patiently(overVerbs(name, guest, keys)), ...(recovery ? { recovery } : {}),
      peers: [{ name: nic, host: nicGuest.ip, port: daemonPort }, ...others.map((other) => ({ name: other, through: nic }))],
    })
    return { name, guest, ramPath: ramPaths[i] as string, daemonLog }
  }))
  context.log('daemons run')
  await Promise.all(hosts.flatMap(({ name, daemonLog }) =>
    names.filter((other) => other !== name).map((other) => daemonLog.until(`link from ${name} to the region of ${other}`, ({ event, peer }) => event === 'watching' && peer === other, 300_000)),
  ))
  context.log('every host watches the others in the memory that the NIC machine lends')
  return { nic: nicGuest, hosts: hosts as { [Index in keyof Names]: FleetHost } }
}
