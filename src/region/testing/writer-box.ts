/** One box, its writer and its reader, without the rest of a region's life. */
import { clockOf } from '../../native/clock.js'
import { encodeHeader, decodeHeader, type RegionHeader } from '../header.js'
import { boxOffset, planRegion, type RegionGeometry } from '../layout.js'
import { readSessions, type ExtractedSession } from '../region-reader.js'
import { boxSeed } from '../seed.js'
import { SessionWriter, type SessionWriterOptions } from '../session-writer.js'
import { BytesMemory } from './bytes-memory.js'

/** The box that is written to and read from. */
export const testBox = 1
export const tinyGeometry: RegionGeometry = { boxCount: 2, sensorsPerBox: 1, sessionsPerBox: 6, heapBytes: 4096 }

export function tinyRegion(geometry: RegionGeometry = tinyGeometry): { bytes: Uint8Array; header: RegionHeader } {
  const page = encodeHeader('a', 'test', 0x0123_4567_89ab_cdefn, geometry)
  const bytes = new Uint8Array(planRegion(geometry).regionBytes)
  bytes.set(page)
  return { bytes, header: decodeHeader(page) }
}

export function openWriter(bytes: Uint8Array, { plan, incarnation }: RegionHeader, options: Partial<SessionWriterOptions> & { nowMs?: () => number } = {}): SessionWriter {
  const start = boxOffset(plan, testBox)
  return new SessionWriter({
    region: bytes,
    indexOffset: start + plan.indexInBox,
    heapOffset: start + plan.heapInBox,
    sessionsPerBox: plan.sessionsPerBox,
    heapBytes: plan.heapBytes,
    seed: boxSeed(incarnation, testBox),
    sequenceFloor: 0,
    clock: clockOf(options.nowMs ?? ((): number => 1000)),
    checkFence: () => undefined,
    box: testBox,
    ...options,
  })
}

/** What a recoverer finds, by session id. */
export async function readAll(bytes: Uint8Array | ((call: number) => Uint8Array), header: RegionHeader): Promise<Map<string, ExtractedSession>> {
  const { sessions } = await readSessions(new BytesMemory(bytes), header, testBox)
  return new Map(sessions.map((session) => [session.id, session]))
}

/** What the writer itself finds, by session id. */
export function heldBy(writer: SessionWriter): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>()
  for (const store of writer.stores()) {
    for (const id of store.sessions.keys()) {
      const version = writer.get(store, id)
      if (version) found.set(id, version.payload.slice())
    }
  }
  return found
}

/** Bytes that tell by themselves which commit they are of, so that a mixture of two is seen. */
export function payloadOf(id: string, commit: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (id.charCodeAt(i % id.length) * 7 + commit * 31 + i * (commit % 13) + (i >> 8)) & 0xff
  return bytes
}
