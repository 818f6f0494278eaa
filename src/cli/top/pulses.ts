/** How sensors have moved from frame to frame: their pulses. Pure. */
import type { DaemonStatus } from '../../daemon/status.js'
import type { ObservedSensor } from '../../monitor/verdict.js'

export interface Beats {
  /** Since the frame before; undefined where that is not known, as the sensor or the peer is new. */
  readonly moved: number | undefined
  readonly stalled: boolean
  readonly idle: boolean
}

export const pulseLength = 32

/** One sensor of one server of one peer; the peer's OS sensor has no server. */
export const sensorKey = (peer: string, box: number | undefined, sensor: string): string => JSON.stringify([peer, box ?? 'os', sensor])

interface Pulse {
  readonly incarnation: string | undefined
  readonly counter: number
  readonly beats: readonly Beats[]
}

export class Pulses {
  #pulses = new Map<string, Pulse>()

  /** What is not in this frame is forgotten. */
  add({ peers }: Pick<DaemonStatus, 'peers'>): void {
    const next = new Map<string, Pulse>()
    for (const { peer, incarnation, osSensor, servers = [] } of peers) {
      const sensors = [...(osSensor ? [{ box: undefined, sensor: osSensor }] : []), ...servers.flatMap(({ box, sensors: own }) => own.map((sensor) => ({ box, sensor })))]
      for (const { box, sensor } of sensors) {
        const key = sensorKey(peer, box, sensor.name)
        next.set(key, this.#follow(key, incarnation, sensor))
      }
    }
    this.#pulses = next
  }

  /** Oldest first, at most 32. */
  of(peer: string, box: number | undefined, sensor: string): readonly Beats[] {
    return this.#pulses.get(sensorKey(peer, box, sensor))?.beats ?? []
  }

  #follow(key: string, incarnation: string | undefined, { counter, pending, stalled }: ObservedSensor): Pulse {
    const before = this.#pulses.get(key)
    const isSame = before !== undefined && before.incarnation === incarnation
    // Counters have 32 bits, and may wrap.
    const moved = isSame ? (counter - before.counter) >>> 0 : undefined
    const beats = [...(isSame ? before.beats : []), { moved, stalled, idle: pending === 0 }].slice(-pulseLength)
    return { incarnation, counter, beats }
  }
}
