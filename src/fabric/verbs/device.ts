/** An RDMA device that has been opened, with the port and the GID in use. */
import { BackdoorsError } from '../../errors.js'
import { verbsAddon } from '../../native/load.js'
import type { Context, DeviceAttributes, DeviceEvent, PortAttributes, ProtectionDomain, WorkBatch } from '../../native/verbs.js'
import { type SamplerSettings, SharedSampler } from '../sampling/shared-sampler.js'
import { chooseGid, gidAt, type GidChoice } from './gid-choice.js'

export interface VerbsDeviceOptions {
  /** Name, e.g. `mlx5_0`. Default: the first device with an active port. */
  readonly device?: string
  /** Port number, from 1. Default: the first active one. */
  readonly port?: number
  /** Index into the port's GID table. Default: the best by score (`chooseGid`). */
  readonly gidIndex?: number
  /** Told of the device's asynchronous events. */
  readonly onEvent?: (event: DeviceEvent) => void
  /** How the sampler's thread runs. */
  readonly sampler?: SamplerSettings
}

const isActive = ({ state }: PortAttributes): boolean => state === 'PORT_ACTIVE'

/** The devices of this machine. @throws BackdoorsError VERBS_UNAVAILABLE, VERBS_CALL_FAILED */
export function listDevices(): readonly DeviceAttributes[] {
  return verbsAddon().devices()
}

/** @throws BackdoorsError DEVICE_NOT_FOUND */
function findDevice(devices: readonly DeviceAttributes[], name: string | undefined): DeviceAttributes {
  const found = name === undefined ? devices.find(({ ports }) => ports.some(isActive)) : devices.find((device) => device.name === name)
  if (found !== undefined) return found
  const present = devices.map((device) => device.name).join(', ') || 'none'
  const wanted = name === undefined ? 'no RDMA device has an active port' : `there is no RDMA device ${name}`
  throw new BackdoorsError('DEVICE_NOT_FOUND', `${wanted}; devices present: ${present}`, name === undefined ? {} : { path: name })
}

/** @throws BackdoorsError DEVICE_NOT_FOUND */
function findPort(device: DeviceAttributes, number: number | undefined): PortAttributes {
  const found = number === undefined ? device.ports.find(isActive) : device.ports.find((port) => port.number === number)
  if (found !== undefined) return found
  const message = number === undefined ? `no port of ${device.name} is active` : `${device.name} has no port ${number}`
  throw new BackdoorsError('DEVICE_NOT_FOUND', message, { path: device.name })
}

/**
 * @example
 * const device = VerbsDevice.open()
 * console.log(device.name, device.gid.entry.gid, device.gid.reason)
 * device.close()
 */
export class VerbsDevice {
  readonly context: Context
  readonly domain: ProtectionDomain
  /** The thread that samples for all watches on this device; started by the first. */
  readonly sampler: SharedSampler<readonly [batch: WorkBatch]>

  private constructor(
    readonly attributes: DeviceAttributes,
    readonly port: PortAttributes,
    readonly gid: GidChoice,
    { onEvent, sampler = {} }: VerbsDeviceOptions,
  ) {
    const verbs = verbsAddon()
    this.sampler = new SharedSampler((listener) => new verbs.Sampler(listener, sampler), sampler)
    this.context = new verbs.Context(attributes.name, onEvent)
    this.domain = new verbs.ProtectionDomain(this.context)
  }

  /** @throws BackdoorsError VERBS_UNAVAILABLE, DEVICE_NOT_FOUND, NO_USABLE_GID, VERBS_CALL_FAILED */
  static open(options: VerbsDeviceOptions = {}): VerbsDevice {
    const attributes = findDevice(listDevices(), options.device)
    const port = findPort(attributes, options.port)
    const { name } = attributes
    const gid = options.gidIndex === undefined ? chooseGid(name, port) : gidAt(name, port, options.gidIndex)
    return new VerbsDevice(attributes, port, gid, options)
  }

  get name(): string {
    return this.attributes.name
  }

  /** Idempotent. What was made from the device is closed by whoever made it, and holds the device until then. */
  close(): void {
    this.sampler.close()
    this.domain.close()
    this.context.close()
  }
}
