/**
 * What reading a dead kernel's connections costs a processor that is a real one: by a process of the machine that emulates the guests,
 * from the host's RAM file, without a network.
 */
import { ConnectionReader, type WantedConnections } from '../src/kernel/connections/index.js'
import { KernelImage } from '../src/kernel/kernel-image.js'
import { openRamFile } from '../src/kernel/ram-file.js'
import { medianOf } from './spread.js'

export interface NativeReading {
  readonly connections: number
  /** All of them, the median of some readings, in milliseconds. */
  readonly readMs: number
}

/** As often as a daemon does while a host is well, and then some more for the figure. */
const [rehearsals, readings] = [20, 9] as const

/** Symbols and types are learned before, as they are while a host is well. */
export async function readConnectionsNatively(ramPath: string, wanted: WantedConnections): Promise<NativeReading> {
  const ram = await openRamFile(ramPath)
  try {
    const image = await KernelImage.learn({ physical: ram })
    const reader = new ConnectionReader(image)
    for (let i = 0; i < rehearsals; i++) await reader.read(image, wanted)
    const times: number[] = []
    let connections = 0
    for (let i = 0; i < readings; i++) {
      const startedMs = performance.now()
      connections = (await reader.read(image, wanted)).connections.length
      times.push(performance.now() - startedMs)
    }
    return { connections, readMs: Math.round(medianOf(times) * 100) / 100 }
  } finally {
    await ram.close()
  }
}
