/** `backdoors devices`: what verbs sees on this machine, and which GID would be used and why. */
import type { Command } from 'commander'
import type { DeviceAttributes, GidEntry, PortAttributes } from '../../native/verbs.js'
import { describeError, type Output } from '../output.js'
import { exitCodes } from '../exit-codes.js'
import { table } from '../table.js'

const examples = `
Examples:
  backdoors devices
  backdoors devices --json

Exits with 3 where verbs is not available, or where no device has an active port with a usable GID.`

interface DescribedPort extends PortAttributes {
  /** The GID that Backdoors would use on this port, and why; or why none. */
  readonly chosenGid?: { readonly index: number; readonly gid: string; readonly reason: string }
  readonly noGid?: string
}

type DescribedDevice = Omit<DeviceAttributes, 'ports'> & {
  readonly ports: readonly DescribedPort[]
}

export function registerDevices(program: Command, output: Output): void {
  program
    .command('devices')
    .description('the RDMA devices of this machine, and which GID would be used and why')
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async ({ json }: { json?: boolean }) => {
      const { listDevices } = await import('../../fabric/verbs/device.js')
      const { chooseGid } = await import('../../fabric/verbs/gid-choice.js')
      const devices = listDevices().map((device) => describeDevice(device, chooseGid))
      const usable = devices.find(({ ports }) => ports.some(isUsable))
      if (json) output.json({ default: usable?.name ?? null, devices })
      else print(devices, usable?.name, output)
      if (usable === undefined) output.exitCode = exitCodes.unavailable
    })
}

const isUsable = ({ state, chosenGid }: DescribedPort): boolean => state === 'PORT_ACTIVE' && chosenGid !== undefined

function describeDevice(device: DeviceAttributes, choose: (device: string, port: PortAttributes) => { entry: GidEntry; reason: string }): DescribedDevice {
  const ports = device.ports.map((port): DescribedPort => {
    try {
      const { entry, reason } = choose(device.name, port)
      return { ...port, chosenGid: { index: entry.index, gid: entry.gid, reason } }
    } catch (error) {
      return { ...port, noGid: String(describeError(error)['message']) }
    }
  })
  return { ...device, ports }
}

function print(devices: readonly DescribedDevice[], usable: string | undefined, output: Output): void {
  if (devices.length === 0) {
    output.line('Verbs sees no RDMA device. For soft-RoCE: modprobe rdma_rxe, then rdma link add rxe0 type rxe netdev eth0.')
    return
  }
  for (const device of devices) {
    output.line(`${device.name}: guid ${device.guid}, firmware ${device.firmware || 'unknown'}, atomics ${device.atomics}, rd_atomic ${device.maxRdAtomic} out, ${device.maxDestRdAtomic} in`)
    for (const port of device.ports) printPort(port, output)
  }
  output.line(usable === undefined ? 'None has an active port with a usable GID.' : `Used where the configuration names none: ${usable}.`)
}

function printPort(port: DescribedPort, output: Output): void {
  output.line(`  port ${port.number}: ${port.state}, ${port.linkLayer}, MTU ${port.activeMtu} of ${port.maxMtu}`)
  if (port.gids.length > 0) output.line(table(['', 'index', 'GID', 'type', 'interface'], port.gids.map((entry) => gidRow(entry, port.chosenGid?.index))))
  output.line(port.chosenGid ? `  uses GID ${port.chosenGid.index}: ${port.chosenGid.reason}` : `  uses no GID: ${port.noGid ?? ''}`)
}

const gidRow = ({ index, gid, type, netdev }: GidEntry, chosen: number | undefined): (string | number)[] => [index === chosen ? '→' : '', index, formatGid(gid), type, netdev]

/** As an IPv6 address is written, in full. */
const formatGid = (gid: string): string => gid.match(/.{4}/g)?.join(':') ?? gid
