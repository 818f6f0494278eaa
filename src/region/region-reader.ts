/**
 * Reads a region over any RemoteMemory. Every byte is taken as hostile: bounds and totals are checked before
 * anything is asked for, and what is damaged is counted and skipped, never at the cost of its neighbours.
 */
import { BackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { decodeDirectoryEntry, type DirectoryEntry } from './directory.js'
import { decodeHeader, type RegionHeader } from './header.js'
import { boxOffset, directoryEntry, header as headerAt, sensorCell } from './layout.js'
import { boxSeed } from './seed.js'
import { decodeSensor, type SensorReading } from './sensor-cell.js'

export { readSessions, type ExtractedSession, type Extraction } from './session-reader.js'

/** @throws BackdoorsError REGION_CORRUPT, LAYOUT_UNSUPPORTED, REGION_TRUNCATED, and what reading throws */
export async function readHeader(memory: RemoteMemory): Promise<RegionHeader> {
  if (memory.length < headerAt.bytes) {
    throw new BackdoorsError('REGION_TRUNCATED', `Node ${memory.peer} lends ${memory.length} bytes, which is no region: a header alone has ${headerAt.bytes}.`, { peer: memory.peer, length: memory.length })
  }
  const decoded = decodeHeader(await memory.read(headerAt.offset, headerAt.bytes), { peer: memory.peer })
  if (decoded.plan.regionBytes > memory.length) {
    throw new BackdoorsError('REGION_TRUNCATED', `Node ${memory.peer} lends ${memory.length} of its region's ${decoded.plan.regionBytes} bytes.`, { peer: memory.peer, length: memory.length })
  }
  return decoded
}

/** One entry for each box; undefined where it is corrupt. */
export async function readDirectory(memory: RemoteMemory, { plan }: RegionHeader): Promise<(DirectoryEntry | undefined)[]> {
  const bytes = await memory.read(plan.directoryOffset, plan.boxCount * directoryEntry.bytes)
  return Array.from({ length: plan.boxCount }, (_, box) =>
    decodeDirectoryEntry(bytes.subarray(box * directoryEntry.bytes, (box + 1) * directoryEntry.bytes)),
  )
}

export interface BoxSensors {
  readonly sensors: SensorReading[]
  readonly corrupt: number
}

/** The sensors of several boxes, in the order asked for. */
export async function readSensors(memory: RemoteMemory, { plan, incarnation }: RegionHeader, boxes: readonly number[]): Promise<BoxSensors[]> {
  const bytes = plan.sensorsPerBox * sensorCell.bytes
  const cells = await memory.readMany(boxes.map((box) => ({ offset: boxOffset(plan, box), length: bytes })))
  return cells.map((block, i) => {
    const seed = boxSeed(incarnation, boxes[i] as number)
    const sensors: SensorReading[] = []
    let corrupt = 0
    for (let cell = 0; cell < plan.sensorsPerBox; cell++) {
      const found = decodeSensor(block.subarray(cell * sensorCell.bytes, (cell + 1) * sensorCell.bytes), seed, cell)
      if (found === 'corrupt') corrupt++
      else if (found) sensors.push(found)
    }
    return { sensors, corrupt }
  })
}
