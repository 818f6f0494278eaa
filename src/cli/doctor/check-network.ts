/** RDMA devices, their ports and GIDs, and whether soft-RoCE could stand in for one. */
import { chooseGid } from '../../fabric/verbs/gid-choice.js'
import type { DeviceAttributes, PortAttributes } from '../../native/verbs.js'
import { badOnVerbs, type Finding, type Purpose } from './finding.js'
import type { Machine } from './machine.js'

interface ActivePort {
  readonly device: DeviceAttributes
  readonly port: PortAttributes
}

const activePorts = (machine: Machine): ActivePort[] =>
  (machine.verbsDevices() ?? []).flatMap((device) => device.ports.filter(({ state }) => state === 'PORT_ACTIVE').map((port) => ({ device, port })))

export function checkDevices(machine: Machine, purpose: Purpose): Finding {
  const about = { check: 'rdma-device', why: 'Reading another machine\'s memory needs an RDMA device with an active port; nodes on one machine (fabric shm) do without.' }
  const devices = machine.verbsDevices()
  const active = activePorts(machine)
  if (active.length > 0) return { ...about, severity: 'ok', seen: active.map(({ device, port }) => `${device.name} port ${port.number} is active`).join(', ') }
  if (devices === undefined || devices.length === 0) {
    return { ...about, severity: badOnVerbs(purpose), seen: 'verbs sees no device', mend: 'Install the NIC\'s driver, or make a soft-RoCE device: modprobe rdma_rxe, then rdma link add rxe0 type rxe netdev eth0.' }
  }
  return { ...about, severity: badOnVerbs(purpose), seen: `${devices.map(({ name }) => name).join(', ')}: no port is active`, mend: 'Plug the cable in and set the interface up ("ip link set … up").' }
}

export function checkGids(machine: Machine, purpose: Purpose): Finding | undefined {
  const active = activePorts(machine)
  if (active.length === 0) return undefined
  const about = { check: 'gid', why: 'The GID is the address of a queue pair; a RoCE v2 one of an IPv4 address works everywhere, a link-local one may not.' }
  const choices = active.map(({ device, port }) => describeGid(device.name, port))
  const seen = choices.map(({ text }) => text).join('; ')
  if (choices.some(({ quality }) => quality === 'good')) return { ...about, severity: 'ok', seen }
  const mend = 'Give the network interface an IPv4 address, or name the GID to use by verbs.gidIndex.'
  return { ...about, severity: choices.some(({ quality }) => quality === 'poor') ? 'warn' : badOnVerbs(purpose), seen, mend }
}

function describeGid(device: string, port: PortAttributes): { text: string; quality: 'good' | 'poor' | 'none' } {
  try {
    const { entry, reason } = chooseGid(device, port)
    const good = entry.type === 'ib' || (entry.type === 'roce-v2' && !/^fe[89ab]/.test(entry.gid))
    return { text: `${device} port ${port.number} would use GID ${entry.index} (${reason})`, quality: good ? 'good' : 'poor' }
  } catch {
    return { text: `${device} port ${port.number} has no GID`, quality: 'none' }
  }
}

export function checkMtu(machine: Machine): Finding | undefined {
  const active = activePorts(machine)
  if (active.length === 0) return undefined
  const about = { check: 'mtu', why: 'RDMA splits messages by the path MTU; 1024 is what Ethernet\'s usual 1500 bytes allow, 4096 wants jumbo frames and reads faster.' }
  const seen = active.map(({ device, port }) => `${device.name} port ${port.number}: ${port.activeMtu} of ${port.maxMtu}`).join(', ')
  if (active.every(({ port }) => port.activeMtu >= 1024)) return { ...about, severity: 'ok', seen }
  return { ...about, severity: 'warn', seen, mend: 'ip link set dev … mtu 9000 on every host and switch of the way (1500 at least).' }
}

export function checkSoftRoce(machine: Machine): Finding {
  const about = { check: 'soft-roce', why: 'The kernel module rdma_rxe makes an RDMA device of any Ethernet interface; it dies with its kernel, so it is for trying, not for surviving a panic.' }
  const release = machine.readText('/proc/sys/kernel/osrelease') ?? ''
  if (machine.exists('/sys/module/rdma_rxe')) return { ...about, severity: 'ok', seen: 'rdma_rxe is loaded' }
  const listed = ['modules.dep', 'modules.builtin'].some((file) => machine.readText(`/lib/modules/${release}/${file}`)?.includes('/rdma_rxe.ko'))
  if (listed) return { ...about, severity: 'ok', seen: 'rdma_rxe can be loaded (modprobe rdma_rxe)' }
  if (activePorts(machine).length > 0) return { ...about, severity: 'ok', seen: 'this kernel has no rdma_rxe, and there is a device without it' }
  return { ...about, severity: 'warn', seen: `kernel ${release} has no module rdma_rxe`, mend: 'Run a distribution\'s own kernel (Debian: linux-image-amd64), or try RDMA in guests: npm run rig -- shell.' }
}
