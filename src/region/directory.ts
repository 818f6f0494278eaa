import { crc32c } from '../native/crc32c.js'
import { boxStates, directoryEntry, directoryVersion as at, maxNameBytes } from './layout.js'
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

type EntryVersion = Omit<DirectoryEntry, 'exited'> & { readonly revision: number; readonly start: number }

/**
 * Writes `entry` as the newest version into the entry's 256 bytes, and leaves the version before it as it stands,
 * for whoever reads while this is under way, or after it was cut short.
 */
export function encodeDirectoryEntry(into: Uint8Array, entry: Omit<DirectoryEntry, 'exited'>): void {
  const before = newestVersion(into)
  const start = before?.start === directoryEntry.versionA ? directoryEntry.versionB : directoryEntry.versionA
  const bytes = new Uint8Array(at.bytes)
  const view = viewOf(bytes)
  const name = encodeName('box name', entry.name, maxNameBytes)
  view.setUint32(at.revision, (before?.revision ?? 0) + 1, true)
  view.setUint32(at.generation, entry.generation, true)
  view.setUint32(at.state, boxStates.indexOf(entry.state), true)
  view.setUint32(at.pid, entry.pid, true)
  view.setBigUint64(at.sequenceFloor, BigInt(entry.sequenceFloor), true)
  view.setUint32(at.nameBytes, name.length, true)
  bytes.set(name, at.name)
  view.setUint32(at.crc, crc32c(bytes, 0, at.crc, 0), true)
  into.set(bytes, start)
}

/**
 * A never used box gives generation 0 and state `free`.
 * @returns undefined where the entry is corrupt: its owner is then unknown, but its sessions are not, because
 * they are bound to the box and not to this entry.
 */
export function decodeDirectoryEntry(entry: Uint8Array): DirectoryEntry | undefined {
  if (entry.length < directoryEntry.bytes) return undefined
  const bytes = entry.slice(0, directoryEntry.bytes)
  const found = newestVersion(bytes)
  if (found === undefined) {
    const unused = bytes.subarray(directoryEntry.versionA).every((byte) => byte === 0)
    return unused ? { name: '', state: 'free', generation: 0, pid: 0, sequenceFloor: 0, exited: false } : undefined
  }
  const { name, state, generation, pid, sequenceFloor } = found
  const exited = viewOf(bytes).getUint32(directoryEntry.exitedGeneration, true) === generation
  return { name, state, generation, pid, sequenceFloor, exited }
}

function newestVersion(entry: Uint8Array): EntryVersion | undefined {
  const a = decodeVersion(entry, directoryEntry.versionA)
  const b = decodeVersion(entry, directoryEntry.versionB)
  return a === undefined || (b !== undefined && b.revision > a.revision) ? b : a
}

function decodeVersion(entry: Uint8Array, start: number): EntryVersion | undefined {
  const bytes = entry.subarray(start, start + at.bytes)
  const view = viewOf(bytes)
  if (view.getUint32(at.crc, true) !== crc32c(bytes, 0, at.crc, 0)) return undefined
  const state = boxStates[view.getUint32(at.state, true)]
  const nameBytes = view.getUint32(at.nameBytes, true)
  const name = nameBytes <= maxNameBytes ? decodeText(bytes, at.name, nameBytes) : undefined
  const sequenceFloor = Number(view.getBigUint64(at.sequenceFloor, true))
  if (state === undefined || !name || !Number.isSafeInteger(sequenceFloor)) return undefined
  const revision = view.getUint32(at.revision, true)
  return { name, state, generation: view.getUint32(at.generation, true), pid: view.getUint32(at.pid, true), sequenceFloor, revision, start }
}
