/**
 * A server process as the owner of its box: it takes the box, beats its sensors and commits its sessions.
 *
 * Ownership is a kernel lock on the box's directory entry, released by the kernel however the process ends. A
 * restarted server takes its box again, with its sessions, unless somebody has fenced the generation that wrote
 * them: then they are the recoverer's, and the server gets an empty box.
 */
import { BackdoorsError } from '../errors.js'
import { clockOf, monotonicClock } from '../native/clock.js'
import type { SharedMemory } from '../native/memory.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { claimGeneration, decodeClaim, fenceAll } from './control.js'
import { decodeDirectoryEntry, encodeDirectoryEntry, type DirectoryEntry } from './directory.js'
import { boxOffset, boxStates, directoryEntry, directoryEntryOffset, indexEntry, sensorCell } from './layout.js'
import { ControlWords, type Region } from './region.js'
import { boxSeed } from './seed.js'
import { describeSensor, type SensorDescription } from './sensor-cell.js'
import { SensorHandle } from './sensor-handle.js'
import { SessionWriter } from './session-writer.js'

export interface BoxOwnerOptions {
  /** Name of the server; a restarted one finds its sessions by it. */
  readonly name: string
  /** Box 0 is the daemon's, the others are the servers'. */
  readonly daemon?: boolean
  /** The node's monotonic clock in milliseconds; the same for all processes of the machine. */
  readonly nowMs?: () => number
  readonly safeguards?: Safeguards
}

export class BoxOwner {
  readonly region: Region
  readonly box: number
  readonly name: string
  readonly generation: number
  readonly sessions: SessionWriter
  readonly #control: ControlWords
  readonly #safeguards: Safeguards
  readonly #seed: number
  readonly #sensors = new Map<string, SensorHandle>()
  readonly #entry: Uint8Array
  #closed = false

  /** @throws BackdoorsError BOX_IN_USE: a server of this name is attached; BOXES_EXHAUSTED; FENCED: the node is */
  static take(region: Region, options: BoxOwnerOptions): BoxOwner {
    const control = new ControlWords(region)
    if (control.fence('node') !== 0) {
      throw new BackdoorsError('FENCED', `Node ${region.header.node} has been fenced: its sessions are another node's now. Its daemon must make a new region.`, { peer: region.header.node })
    }
    for (const box of candidates(region, options)) {
      const taken = takeBox(region, control, box, options.name)
      if (taken) return new BoxOwner(region, control, box, taken, options)
    }
    throw new BackdoorsError('BOXES_EXHAUSTED', `All ${region.header.plan.boxCount} boxes of ${region.memory.path} are taken or wait for their recovery; raise region.boxes.`, { path: region.memory.path })
  }

  private constructor(region: Region, control: ControlWords, box: number, taken: DirectoryEntry, options: BoxOwnerOptions) {
    const { plan, incarnation } = region.header
    const start = boxOffset(plan, box)
    this.region = region
    this.box = box
    this.name = options.name
    this.generation = taken.generation
    this.#control = control
    this.#safeguards = options.safeguards ?? allSafeguards
    this.#seed = boxSeed(incarnation, box)
    const entryAt = directoryEntryOffset(plan, box)
    this.#entry = region.bytes.subarray(entryAt, entryAt + directoryEntry.bytes)
    this.sessions = new SessionWriter({
      region: region.bytes,
      indexOffset: start + plan.indexInBox,
      heapOffset: start + plan.heapInBox,
      sessionsPerBox: plan.sessionsPerBox,
      heapBytes: plan.heapBytes,
      seed: this.#seed,
      sequenceFloor: taken.sequenceFloor,
      clock: options.nowMs ? clockOf(options.nowMs) : monotonicClock,
      checkFence: () => this.checkFence(),
      box,
    })
  }

  /** Has this owner been fenced? Two loads. */
  get fenced(): boolean {
    if (!this.#safeguards.fence) return false
    return this.#control.fence(this.box) >= this.generation || this.#control.fence('node') !== 0
  }

  /** @throws BackdoorsError FENCED; CLOSED: the box may be another process's by now */
  checkFence(): void {
    if (this.#closed) throw new BackdoorsError('CLOSED', `Server ${this.name} has closed its box; attach again.`, { box: this.box })
    if (this.fenced) {
      throw new BackdoorsError('FENCED', `Server ${this.name} on node ${this.region.header.node} has been fenced: another node serves its sessions. Stop serving; if a commit was under way, do not acknowledge it.`, { peer: this.region.header.node, box: this.box })
    }
  }

  /** @throws BackdoorsError SENSORS_EXHAUSTED, INVALID_ARGUMENT */
  sensor(description: SensorDescription): SensorHandle {
    const known = this.#sensors.get(description.name)
    if (known) return known
    const { plan } = this.region.header
    const cell = this.#sensors.size
    if (cell >= plan.sensorsPerBox) {
      throw new BackdoorsError('SENSORS_EXHAUSTED', `Box ${this.box} has room for ${plan.sensorsPerBox} sensors; raise region.sensorsPerBox.`, { box: this.box })
    }
    const offset = boxOffset(plan, this.box) + cell * sensorCell.bytes
    const sensor = new SensorHandle(this.region, offset, description, () => this.#closed || this.fenced)
    describeSensor(this.region.bytes.subarray(offset, offset + sensorCell.bytes), this.#seed, description)
    this.#sensors.set(description.name, sensor)
    return sensor
  }

  /**
   * An orderly end: the box is closed, and its sessions are nobody's to recover. They stay for a restarted
   * server of the same name. A box that is fenced stays open, for its sessions are somebody's to recover.
   * Idempotent. Leaves the region mapped.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    const entry = { name: this.name, generation: this.generation, pid: process.pid, sequenceFloor: this.sessions.sequence }
    if (!this.fenced) writeEntry(this.#entry, { ...entry, state: 'closed' })
    if (this.fenced) writeEntry(this.#entry, { ...entry, state: 'open' })
    release(this.region, this.box)
  }
}

/** Boxes held by this process through one mapping: the kernel's locks tell only mappings apart. */
const heldHere = new WeakMap<SharedMemory, Set<number>>()

function lock(region: Region, box: number): boolean {
  const held = heldHere.get(region.memory) ?? new Set()
  heldHere.set(region.memory, held)
  if (held.has(box) || !region.memory.lockBytes(directoryEntryOffset(region.header.plan, box), 1)) return false
  held.add(box)
  return true
}

function release(region: Region, box: number): void {
  region.memory.unlockBytes(directoryEntryOffset(region.header.plan, box), 1)
  heldHere.get(region.memory)?.delete(box)
}

const isHeld = (region: Region, box: number): boolean =>
  heldHere.get(region.memory)?.has(box) === true || region.memory.isLocked(directoryEntryOffset(region.header.plan, box), 1)

/** @throws BackdoorsError BOX_IN_USE where a living process holds a box under this name */
function checkNameIsFree(region: Region, name: string, own?: number): void {
  for (let box = 1; box < region.header.plan.boxCount; box++) {
    if (box === own || readEntry(region, box)?.name !== name || !isHeld(region, box)) continue
    throw new BackdoorsError('BOX_IN_USE', `A server named ${name} is attached to ${region.memory.path} already; give each process its own name.`, { path: region.memory.path, box })
  }
}

/** The boxes to try: the one that bears the name already, then the never used, then those that were left. */
function candidates(region: Region, options: BoxOwnerOptions): number[] {
  if (options.daemon) return [0]
  checkNameIsFree(region, options.name)
  const control = new ControlWords(region)
  const { plan } = region.header
  const own: number[] = []
  const fresh: number[] = []
  const left: number[] = []
  for (let box = 1; box < plan.boxCount; box++) {
    const entry = readEntry(region, box)
    // A server that was fenced goes on in another box, and what is in that one counts from then on.
    if (entry?.name === options.name && control.fence(box) < entry.generation) own.push(box)
    else if (entry?.state === 'free') fresh.push(box)
    else if (entry?.state === 'closed' || isRecovered(region, box)) left.push(box)
  }
  return [...own, ...fresh, ...left]
}

function readEntry(region: Region, box: number): DirectoryEntry | undefined {
  const start = directoryEntryOffset(region.header.plan, box)
  return decodeDirectoryEntry(region.bytes.subarray(start, start + directoryEntry.bytes))
}

/** Has somebody fenced the node, or the last owner of a server's box, and not come to the end of its recovery? */
export function isBeingRecovered(region: Region): boolean {
  const control = new ControlWords(region)
  if (control.fence('node') !== 0) return decodeClaim(control.claim('node'))?.step !== 'announced'
  const isOwed = (box: number): boolean => control.fence(box) > 0 && control.fence(box) >= (readEntry(region, box)?.generation ?? 0) && !isRecovered(region, box)
  return Array.from({ length: region.header.plan.boxCount - 1 }, (_, i) => i + 1).some(isOwed)
}

/** Did a recovery of this box run to its end, so that what is left in it is nobody's? */
function isRecovered(region: Region, box: number): boolean {
  const control = new ControlWords(region)
  const fence = control.fence(box)
  const claim = decodeClaim(control.claim(box))
  return fence > 0 && fence < fenceAll && claim?.step === 'announced' && claim.generation === claimGeneration(fence)
}

/**
 * Locks the box, opens a new generation in it, and only then looks at the fence: either this process sees the
 * recoverer's fence, or the recoverer sees the new generation (and fences that too).
 * @returns the new entry, or undefined where the box is somebody else's
 */
function takeBox(region: Region, control: ControlWords, box: number, name: string): DirectoryEntry | undefined {
  if (!lock(region, box)) return undefined
  let taken: DirectoryEntry | undefined
  try {
    taken = openGeneration(region, control, box, name)
  } finally {
    if (taken === undefined) release(region, box)
  }
  return taken
}

function openGeneration(region: Region, control: ControlWords, box: number, name: string): DirectoryEntry | undefined {
  const { plan } = region.header
  const entryAt = directoryEntryOffset(plan, box)
  const bytes = region.bytes.subarray(entryAt, entryAt + directoryEntry.bytes)
  const previous = decodeDirectoryEntry(bytes)
  const fence = control.fence(box)
  if (previous === undefined) return undefined
  const fenced = previous.generation > 0 && fence >= previous.generation
  // The entry may have changed since it was looked at: whoever took the box meanwhile and died has left sessions in it.
  const sessionsAreOwed = fenced ? !isRecovered(region, box) : previous.state === 'open' && previous.name !== name
  const generation = Math.max(previous.generation, fence) + 1
  if (sessionsAreOwed || generation >= fenceAll) return undefined
  const sequenceFloor = fenced || previous.name !== name ? wipeBox(region, box, previous, bytes) : previous.sequenceFloor
  // The sensors of the owner before would never move again, and be taken for this one's.
  const sensors = boxOffset(plan, box)
  region.bytes.fill(0, sensors, sensors + plan.sensorsPerBox * sensorCell.bytes)
  const entry: DirectoryEntry = { name, state: 'open', pid: process.pid, exited: false, sequenceFloor, generation }
  const left: DirectoryEntry = { ...previous, sequenceFloor: Math.max(previous.sequenceFloor, sequenceFloor) }
  writeEntry(bytes, entry)
  if (control.fence(box) !== fence || control.fence('node') !== 0) {
    // Fenced in between: what is in the box is the recoverer's, under the generation that it was written in.
    writeEntry(bytes, left)
    return undefined
  }
  try {
    // Of two processes that start under one name at the same time, one at least sees the other.
    if (box !== 0) checkNameIsFree(region, name, box)
  } catch (error) {
    writeEntry(bytes, left)
    throw error
  }
  return entry
}

const entryBarrier = new Int32Array(new SharedArrayBuffer(4))

function writeEntry(into: Uint8Array, entry: Omit<DirectoryEntry, 'exited'>): void {
  if (entry.state === 'free') into.fill(0)
  else encodeDirectoryEntry(into, entry)
  Atomics.add(entryBarrier, 0, 1)
}

/**
 * Empties a box that had another owner. Sequences go on from where it was, also when this is cut short, for a
 * session's origin names its sequence, and no two of them may be the same.
 * @returns a sequence that none was above
 */
function wipeBox(region: Region, box: number, previous: DirectoryEntry, entry: Uint8Array): number {
  const { plan, incarnation } = region.header
  const start = boxOffset(plan, box)
  const index = region.bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  const last = new SessionWriter({
    region: region.bytes, indexOffset: start + plan.indexInBox, heapOffset: start + plan.heapInBox,
    sessionsPerBox: plan.sessionsPerBox, heapBytes: plan.heapBytes, seed: boxSeed(incarnation, box),
    sequenceFloor: previous.sequenceFloor, clock: monotonicClock, checkFence: () => undefined, box,
  }).sequence
  if (previous.state !== 'free') writeEntry(entry, { ...previous, sequenceFloor: last })
  index.fill(0)
  return last
}

/** For the daemon: marks the owner of this generation as gone. */
export function markExited(region: Region, box: number, generation: number): void {
  const at = directoryEntryOffset(region.header.plan, box) + directoryEntry.exitedGeneration
  Atomics.store(new Uint32Array(region.memory.buffer, at, 1), 0, generation)
}

/** For the daemon: boxes that are open but whose owner's kernel lock is gone. */
export function abandonedBoxes(region: Region): { box: number; entry: DirectoryEntry }[] {
  const { plan } = region.header
  const found: { box: number; entry: DirectoryEntry }[] = []
  for (let box = 1; box < plan.boxCount; box++) {
    const entry = readEntry(region, box)
    const abandoned = entry?.state === boxStates[1] && !entry.exited && !region.memory.isLocked(directoryEntryOffset(plan, box), 1)
    if (entry && abandoned) found.push({ box, entry })
  }
  return found
}
