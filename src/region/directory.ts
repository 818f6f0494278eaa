import { crc32c } from '../native/crc32c.js'
import { boxStates, directoryEntry as at, maxNameBytes } from './layout.js'
import { decodeText, encodeName, viewOf } from './text.js'

export type BoxState = (typeof boxStates)[number]

/** Whose a box is. */
export interface DirectoryEntry {
  readonly name: string
  readonly state: BoxState
  /** Counts the owners of this box; 0 = never used. */
  readonly generation: number
  readonly pid: number
  readonly sequenceFloor: number
  /** The daemon has seen the owner of this generation gone. */
  readonly exited: boolean
}

/** The entry's 256 bytes but for `exitedGeneration`, which is the daemon's and is kept as it stands in `into`. */
export function encodeDirectoryEntry(into: Uint8Array, entry: Omit<DirectoryEntry, 'exited'>): void {
  const bytes = new Uint8Array(at.bytes)
  const view = viewOf(bytes)
  const name = encodeName('box name', entry.name, maxNameBytes)
  view.setUint32(at.generation, entry.generation, true)
  view.setUint32(at.state, boxStates.indexOf(entry.state), true)
  view.setUint32(at.pid, entry.pid, true)
  view.setBigUint64(at.sequenceFloor, BigInt(entry.sequenceFloor), true)
  view.setUint32(at.nameBytes, name.length, true)
  bytes.set(name, at.name)
  view.setUint32(at.crc, crc32c(bytes, 0, at.crc, 0), true)
  const exited = at.exitedGeneration
  into.set(bytes.subarray(0, exited), 0)
  into.set(bytes.subarray(exited + 4), exited + 4)
}

/**
 * A never used box gives generation 0 and state `free`.
 * @returns undefined where the entry is corrupt: its owner is then unknown, but its sessions are not, because
 * they are bound to the box and not to this entry.
 */
export function decodeDirectoryEntry(entry: Uint8Array): DirectoryEntry | undefined {
  if (entry.length < at.bytes) return undefined
  const bytes = entry.slice(0, at.bytes)
  const view = viewOf(bytes)
  const exitedGeneration = view.getUint32(at.exitedGeneration, true)
  view.setUint32(at.exitedGeneration, 0, true)
  if (bytes.every((byte) => byte === 0)) return { name: '', state: 'free', generation: 0, pid: 0, sequenceFloor: 0, exited: false }
  if (view.getUint32(at.crc, true) !== crc32c(bytes, 0, at.crc, 0)) return undefined
  const state = boxStates[view.getUint32(at.state, true)]
  const nameBytes = view.getUint32(at.nameBytes, true)
  const name = nameBytes <= maxNameBytes ? decodeText(bytes, at.name, nameBytes) : undefined
  const sequenceFloor = Number(view.getBigUint64(at.sequenceFloor, true))
  if (state === undefined || !name || !Number.isSafeInteger(sequenceFloor)) return undefined
  const generation = view.getUint32(at.generation, true)
  return { name, state, generation, pid: view.getUint32(at.pid, true), sequenceFloor, exited: exitedGeneration === generation }
}
