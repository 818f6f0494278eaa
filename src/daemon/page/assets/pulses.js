/** How each sensor has moved from frame to frame. */

export const pulseLength = 50

let pulses = new Map()
let lastMs = 0

const keyOf = (peer, server, sensor) => JSON.stringify([peer, server?.box ?? 'os', server?.generation, sensor])

/** The sensors of a peer, its machine's first. */
export function sensorsOf({ osSensor, servers = [] }) {
  return [...(osSensor ? [{ sensor: osSensor }] : []), ...servers.flatMap((server) => server.sensors.map((sensor) => ({ server, sensor })))]
}

/** Takes up a frame. What is not in it is forgotten. */
export function follow({ peers, nowMs }) {
  const next = new Map()
  const sinceMs = nowMs - lastMs
  for (const peer of peers) for (const { server, sensor } of sensorsOf(peer)) {
    const key = keyOf(peer.peer, server, sensor.name)
    const before = pulses.get(key)
    const isSame = before !== undefined && before.incarnation === peer.incarnation
    // Counters have 32 bits, and may wrap.
    const moved = isSame ? (sensor.counter - before.counter) >>> 0 : undefined
    const beat = { perS: moved === undefined || sinceMs <= 0 ? undefined : (moved / sinceMs) * 1000, isStalled: sensor.stalled, isIdle: sensor.pending === 0 }
    next.set(key, { incarnation: peer.incarnation, counter: sensor.counter, beats: [...(isSame ? before.beats : []), beat].slice(-pulseLength) })
  }
  pulses = next
  lastMs = nowMs
}

/** Oldest first. */
export const beatsOf = (peer, server, sensor) => pulses.get(keyOf(peer, server, sensor))?.beats ?? []
