/** The region of docs/layout.md's worked example, made by the code that makes every region. */
import { encodeDirectoryEntry } from '../directory.js'
import { boxOffset, directoryEntry, directoryEntryOffset, indexEntry, sensorCell } from '../layout.js'
import { boxSeed } from '../seed.js'
import { describeSensor } from '../sensor-cell.js'
import { openWriter, testBox, tinyRegion } from './writer-box.js'

export interface Example {
  readonly bytes: Uint8Array
  readonly seed: number
  /** Offset in the region and length, by the name that the page gives to the block. */
  readonly blocks: ReadonlyMap<string, { readonly offset: number; readonly length: number }>
}

export function workedExample(): Example {
  const { bytes, header } = tinyRegion()
  const { plan, incarnation } = header
  const seed = boxSeed(incarnation, testBox)
  const entryAt = directoryEntryOffset(plan, testBox)
  encodeDirectoryEntry(bytes.subarray(entryAt, entryAt + directoryEntry.bytes), { name: 'shop', state: 'open', generation: 1, pid: 4711, sequenceFloor: 0 })
  const start = boxOffset(plan, testBox)
  const cell = bytes.subarray(start, start + sensorCell.bytes)
  describeSensor(cell, seed, { name: 'event-loop', kind: 'progress', deadlineUs: 50_000 })
  new DataView(cell.buffer, cell.byteOffset).setUint32(sensorCell.counter, 7, true)
  new DataView(cell.buffer, cell.byteOffset).setUint32(sensorCell.pending, 1, true)
  const writer = openWriter(bytes, header, { nowMs: () => 1000 })
  const store = writer.store('carts')
  const origin = { node: 'b', incarnation: 0xfedc_ba98_7654_3211n, box: 2, sequence: 41 }
  writer.commit(store, 'u-1', new TextEncoder().encode('milk'), { ttlMs: 60_000, schemaVersion: 1, origin })
  writer.commit(store, 'u-1', new TextEncoder().encode('milk, bread'), { ttlMs: 60_000, schemaVersion: 1 })
  const index = start + plan.indexInBox
  const heap = start + plan.heapInBox
  return {
    bytes,
    seed,
    blocks: new Map([
      ['header', { offset: 0, length: 176 }],
      ['header-crc', { offset: 4092, length: 4 }],
      ['directory', { offset: entryAt + directoryEntry.versionA, length: 96 }],
      ['sensor', { offset: start, length: sensorCell.bytes }],
      ['index', { offset: index, length: indexEntry.bytes }],
      ['record-1', { offset: heap, length: 81 }],
      ['record-2', { offset: heap + 128, length: 88 }],
    ]),
  }
}

/** As `xxd -g4` shows it, with the offset from the region's start. */
export function hexOf(bytes: Uint8Array, offset: number, length: number): string {
  const lines: string[] = []
  for (let at = 0; at < length; at += 16) {
    const line = Buffer.from(bytes.subarray(offset + at, offset + Math.min(length, at + 16)))
    const text = line.toString('latin1').replace(/[^ -~]/g, '.')
    lines.push(`${(offset + at).toString(16).padStart(6, '0')}  ${(line.toString('hex').match(/.{1,8}/g) ?? []).join(' ').padEnd(35)}  ${text}`)
  }
  return lines.join('\n')
}
