/** Asks a network whether addresses are somebody's, before they are taken: a machine whose kernel has stopped answers no more. */
import type { NativeNeighbourListener, NetworkAddon } from '../../native/network.js'
import { claimIn, probeFrame } from './probe-frames.js'

/** When it is asked, in milliseconds from the beginning: a frame may be lost. */
export const probeAfterMs: readonly number[] = [0, 10, 20]
/** How long answers are waited for, in milliseconds. Kernels answer within one; nobody has to wait for this where other work lasts longer. */
export const probeMs = 30

export interface ProbedAddress {
  readonly interface: string
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array
}

export interface AddressProbeOptions<T extends ProbedAddress> {
  readonly addresses: readonly T[]
  readonly network: Pick<NetworkAddon, 'describeInterface' | 'sendFrame' | 'NeighbourListener'>
  readonly pause: (ms: number) => Promise<void>
  /** By an interface nobody could be asked, for example because it is down: what is wrong with it shows when an address is taken on it. */
  readonly onTrouble: (name: string, error: unknown) => void
}

export interface AddressAnswer<T extends ProbedAddress> {
  readonly address: T
  /** Of who has it, as `02:00:00:00:00:0a`. */
  readonly hardware: string
}

/** @returns those that other machines say they have, after `probeMs`, one entry for each that does. Interfaces that are no Ethernet are not asked on. Never rejects */
export async function probeAddresses<T extends ProbedAddress>({ addresses, network, pause, onTrouble }: AddressProbeOptions<T>): Promise<AddressAnswer<T>[]> {
  const answers = new Map<T, Set<string>>(addresses.map((each) => [each, new Set()]))
  const probes = [...new Set(addresses.map((each) => each.interface))].flatMap((name) => {
    const on = addresses.filter((each) => each.interface === name)
    try {
      return startProbe(network, name, on, (address, hardware) => void answers.get(address)?.add(hardware))
    } catch (error) {
      onTrouble(name, error)
      return []
    }
  })
  if (probes.length === 0) return []
  let atMs = 0
  for (const nextMs of [...probeAfterMs, probeMs]) {
    if (nextMs > atMs) await pause(nextMs - atMs)
    atMs = nextMs
    if (nextMs === probeMs) break
    for (const { name, ask } of probes) {
      try {
        ask()
      } catch (error) {
        onTrouble(name, error)
      }
    }
  }
  for (const { listeners } of probes) for (const listener of listeners) listener.close()
  return [...answers].flatMap(([address, all]) => [...all].map((hardware) => ({ address, hardware })))
}

interface Probe {
  readonly name: string
  readonly listeners: readonly NativeNeighbourListener[]
  readonly ask: () => void
}

function startProbe<T extends ProbedAddress>(network: AddressProbeOptions<T>['network'], name: string, addresses: readonly T[], onAnswer: (address: T, hardware: string) => void): Probe[] {
  const { isEthernet, hardwareAddress } = network.describeInterface(name)
  if (!isEthernet) return []
  const own = textOf(hardwareAddress)
  const onFrame = (frame: Uint8Array): void => {
    const claim = claimIn(frame)
    const address = claim && addresses.find(({ bytes }) => bytes.join() === claim.address.join())
    if (address && textOf(claim.hardware) !== own) onAnswer(address, textOf(claim.hardware))
  }
  const listeners: NativeNeighbourListener[] = []
  try {
    for (const length of new Set(addresses.map(({ bytes }) => bytes.length))) listeners.push(new network.NeighbourListener(name, length === 16, onFrame))
  } catch (error) {
    for (const listener of listeners) listener.close()
    throw error
  }
  return [{ name, listeners, ask: () => addresses.forEach(({ bytes }) => network.sendFrame(name, probeFrame(hardwareAddress, bytes))) }]
}

const textOf = (hardware: Uint8Array): string => Array.from(hardware, (byte) => byte.toString(16).padStart(2, '0')).join(':')
