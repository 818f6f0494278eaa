/**
 * The region's layout, version 1: every offset and size, in bytes, little-endian. `docs/layout.md` documents the
 * same numbers for programs in other languages, and a test keeps the two equal.
 *
 *     header page | control page | box directory | box 0 | box 1 | …
 *     box:  sensor cells | session index | heap of session versions
 */
import { BackdoorsError } from '../errors.js'

export const layoutVersion = 1
export const pageBytes = 4096

/** Header page: immutable once published. */
export const header = {
  offset: 0,
  bytes: pageBytes,
  /** The eight ASCII characters BACKDOOR. */
  magic: 0,
  version: 8,
  headerBytes: 12,
  incarnation: 16,
  regionBytes: 24,
  controlOffset: 32,
  controlBytes: 40,
  directoryOffset: 48,
  boxCount: 56,
  directoryEntryBytes: 60,
  boxesOffset: 64,
  boxBytes: 72,
  sensorsPerBox: 80,
  sessionsPerBox: 84,
  heapBytes: 88,
  nodeNameBytes: 96,
  nodeName: 100,
  clusterNameBytes: 164,
  clusterName: 168,
  /** CRC32C of all bytes of the page before it. */
  crc: 4092,
} as const

export const magic = 'BACKDOOR'
/** Longest name of a node, cluster, box or store, in bytes of UTF-8. */
export const maxNameBytes = 64

/**
 * Largest region, in bytes. A server sees all of its region through one ArrayBuffer, and through arrays of bytes and
 * of words over it; Node.js 20 has none beyond 2^32 bytes.
 */
export const maxRegionBytes = 2 ** 32 - 1

/** Control page: a pair of 8-byte words for the node, then one for each box. */
export const control = { offset: pageBytes, bytes: pageBytes, pairBytes: 16, fence: 0, claim: 8 } as const
/** The box of the node's daemon: what it adopted is there until a local server has it. */
export const daemonBox = 0
export const maxBoxes = control.bytes / control.pairBytes - 1

/**
 * Directory entry of a box: a word of the daemon's, and two versions that the box's owner writes in turn, so that
 * an owner that dies while it writes leaves the version before.
 */
export const directoryEntry = {
  bytes: 256,
  /** u32, the generation that the daemon has seen gone; the only word here that is the daemon's. */
  exitedGeneration: 0,
  versionA: 32,
  versionB: 128,
} as const

/** A version of a directory entry. Of two valid ones the higher revision holds; an entry of zeros is a free box. */
export const directoryVersion = {
  bytes: 96,
  /** u32, counts the changes of this entry. */
  revision: 0,
  /** u32, counts the owners this box has had; 0 = never used. */
  generation: 4,
  /** 0 free, 1 open, 2 closed. */
  state: 8,
  /** Process id of the owner: for people, never for decisions. */
  pid: 12,
  /** u64; what an owner of another name left in the box has no higher sequence. */
  sequenceFloor: 16,
  nameBytes: 24,
  name: 28,
  /** CRC32C of the version's bytes before it. */
  crc: 92,
} as const

export const boxStates = ['free', 'open', 'closed'] as const

/** Sensor cell: what moves in the first half, what it means in the second. */
export const sensorCell = {
  bytes: 64,
  /** u32; only changes count. */
  counter: 0,
  /** u32; 0 = nothing to do, so the deadline does not run. */
  pending: 4,
  /** f64 each: a level or pressure sensor's value and its limit. */
  value: 8,
  limit: 16,
  kind: 32,
  deadlineUs: 36,
  nameBytes: 40,
  name: 44,
  maxNameBytes: 16,
  /** CRC32C of bytes 32 to 60, from the box's seed. */
  crc: 60,
} as const

export const sensorKinds = ['free', 'progress', 'level', 'pressure'] as const

/**
 * Index entry of a session: where its two versions are, and which one is current.
 * Offsets and lengths of slots count units of `slotUnitBytes` from the start of the box's heap.
 */
export const indexEntry = {
  bytes: 32,
  slotA: 0,
  slotAUnits: 4,
  slotB: 8,
  slotBUnits: 12,
  flags: 16,
  /** Length of the current version's record, in bytes. */
  recordBytes: 20,
  /** Low 32 bits of the current version's sequence. */
  sequence: 24,
  /** CRC32C of the 28 bytes before it, from the box's seed. */
  crc: 28,
} as const
export const indexFlags = { used: 1, currentIsB: 2, deleted: 4 } as const
export const slotUnitBytes = 64

/** A session version: this header, then the store's name, the session id, the origin and the payload. */
export const record = {
  headerBytes: 48,
  /** CRC32C of all bytes of the record after it, from the box's seed. */
  crc: 0,
  schemaVersion: 4,
  /** u64, increasing over all commits of the box. */
  sequence: 8,
  /** u64, milliseconds of the node's own monotonic clock. */
  committedAtMs: 16,
  payloadBytes: 24,
  /** u32, milliseconds; 0 = without end. */
  ttlMs: 28,
  storeBytes: 32,
  sessionIdBytes: 34,
  originBytes: 36,
} as const
export const maxSessionIdBytes = 1024

/** What a region's maker chooses. */
export interface RegionGeometry {
  /** 2 to 255; box 0 is the daemon's own. */
  readonly boxCount: number
  readonly sensorsPerBox: number
  readonly sessionsPerBox: number
  /**
   * Room for session versions in each box, in bytes. Each session takes two slots of its size. All boxes together
   * must stay below `maxRegionBytes`.
   */
  readonly heapBytes: number
}

export const defaultGeometry: RegionGeometry = { boxCount: 8, sensorsPerBox: 32, sessionsPerBox: 16384, heapBytes: 32 << 20 }

/** Offsets that follow from a geometry, in bytes from the region's start (in a box: from the box's start). */
export interface RegionPlan extends RegionGeometry {
  readonly directoryOffset: number
  readonly boxesOffset: number
  readonly boxBytes: number
  readonly regionBytes: number
  readonly indexInBox: number
  readonly heapInBox: number
}

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit

function checkCount(name: keyof RegionGeometry, value: number, low: number, high: number): void {
  if (!Number.isSafeInteger(value) || value < low || value > high) {
    throw new BackdoorsError('INVALID_ARGUMENT', `${name} must be a whole number from ${low} to ${high}, not ${value}.`, { field: name })
  }
}

/** @throws BackdoorsError INVALID_ARGUMENT where a number is out of its bounds, or the region too large. */
export function planRegion(geometry: RegionGeometry): RegionPlan {
  checkCount('boxCount', geometry.boxCount, 2, maxBoxes)
  checkCount('sensorsPerBox', geometry.sensorsPerBox, 1, 4096)
  checkCount('sessionsPerBox', geometry.sessionsPerBox, 1, 1 << 24)
  checkCount('heapBytes', geometry.heapBytes, slotUnitBytes, maxRegionBytes)
  const heapBytes = roundUp(geometry.heapBytes, slotUnitBytes)
  const directoryOffset = control.offset + control.bytes
  const boxesOffset = directoryOffset + roundUp(geometry.boxCount * directoryEntry.bytes, pageBytes)
  const indexInBox = geometry.sensorsPerBox * sensorCell.bytes
  const heapInBox = roundUp(indexInBox + geometry.sessionsPerBox * indexEntry.bytes, slotUnitBytes)
  const boxBytes = roundUp(heapInBox + heapBytes, pageBytes)
  const { boxCount, sensorsPerBox, sessionsPerBox } = geometry
  const regionBytes = boxesOffset + boxCount * boxBytes
  if (regionBytes > maxRegionBytes) {
    throw new BackdoorsError('INVALID_ARGUMENT', `${boxCount} boxes of ${boxBytes} bytes make a region of ${regionBytes} bytes, and it can have ${maxRegionBytes} at most: lower heapBytes, sessionsPerBox or boxCount.`, { field: 'heapBytes', length: regionBytes })
  }
  return { boxCount, sensorsPerBox, sessionsPerBox, heapBytes, directoryOffset, boxesOffset, boxBytes, regionBytes, indexInBox, heapInBox }
}

/** Start of a box in the region. */
export const boxOffset = (plan: RegionPlan, box: number): number => plan.boxesOffset + box * plan.boxBytes
/** Start of a box's directory entry in the region. */
export const directoryEntryOffset = (plan: RegionPlan, box: number): number => plan.directoryOffset + box * directoryEntry.bytes
/** Start of the control pair of a box in the region; of the whole node where `box` is 'node'. */
export const controlPairOffset = (box: number | 'node'): number =>
  control.offset + (box === 'node' ? 0 : (box + 1) * control.pairBytes)
