/**
 * A server process as the owner of its box: it takes the box, beats its sensors and commits its sessions.
 *
 * Ownership is a kernel lock on the box's directory entry, released by the kernel however the process ends. A
 * restarted server takes its box again, with its sessions, unless somebody has fenced the generation that wrote
 * them: then they are the recoverer's, and the server gets an empty box.
 */
import { BackdoorsError } from '../errors.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { claimGeneration, decodeClaim } from './control.js'
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

/** CLOCK_MONOTONIC in milliseconds, without garbage. */
const monotonicOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()
export const monotonicMs = (): number => performance.now() + monotonicOffsetMs

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
      nowMs: options.nowMs ?? monotonicMs,
      checkFence: () => this.checkFence(),
      box,
    })
  }

  /** Has this owner been fenced? Two loads. */
  get fenced(): boolean {
    if (!this.#safeguards.fence) return false
    return this.#control.fence(this.box) >= this.generation || this.#control.fence('node') !== 0
  }

  /** @throws BackdoorsError FENCED */
  checkFence(): void {
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
      throw new BackdoorsError('SENSORS_EXHAUSTED', `Box ${this.box} has room for ${plan.sensorsPerBox} sensors; raise region.sensors.`, { box: this.box })
    }
    const offset = boxOffset(plan, this.box) + cell * sensorCell.bytes
    const sensor = new SensorHandle(this.region, offset, description, () => this.fenced)
    describeSensor(this.region.bytes.subarray(offset, offset + sensorCell.bytes), this.#seed, description)
    this.#sensors.set(description.name, sensor)
    return sensor
  }

  /**
   * An orderly end: the box is closed, and its sessions are nobody's to recover. They stay for a restarted
   * server of the same name. Idempotent. Leaves the region mapped.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    writeEntry(this.#entry, { name: this.name, state: 'closed', generation: this.generation, pid: process.pid, sequenceFloor: this.sessions.sequence })
    this.region.memory.unlockBytes(directoryEntryOffset(this.region.header.plan, this.box), 1)
  }
}

/** The boxes to try: the one that bears the name already, then the never used, then those that were left. */
function candidates(region: Region, options: BoxOwnerOptions): number[] {
  if (options.daemon) return [0]
  const { plan } = region.header
  const own: number[] = []
  const fresh: number[] = []
  const left: number[] = []
  for (let box = 1; box < plan.boxCount; box++) {
    const entry = readEntry(region, box)
    if (entry?.name === options.name) own.push(box)
    else if (entry?.state === 'free') fresh.push(box)
    else if (entry?.state === 'closed' || isRecovered(region, box)) left.push(box)
  }
  const held = own.find((box) => region.memory.isLocked(directoryEntryOffset(plan, box), 1))
  if (held !== undefined) {
    throw new BackdoorsError('BOX_IN_USE', `A server named ${options.name} is attached to ${region.memory.path} already; give each process its own name.`, { path: region.memory.path, box: held })
  }
  return [...own, ...fresh, ...left]
}

function readEntry(region: Region, box: number): DirectoryEntry | undefined {
  const start = directoryEntryOffset(region.header.plan, box)
  return decodeDirectoryEntry(region.bytes.subarray(start, start + directoryEntry.bytes))
}

/** Did a recovery of this box run to its end, so that what is left in it is nobody's? */
function isRecovered(region: Region, box: number): boolean {
  const control = new ControlWords(region)
  const fence = control.fence(box)
  const claim = decodeClaim(control.claim(box))
  return fence > 0 && claim?.step === 'announced' && claim.generation === claimGeneration(fence)
}

/**
 * Locks the box, opens a new generation in it, and only then looks at the fence: either this process sees the
 * recoverer's fence, or the recoverer sees the new generation (and fences that too).
 * @returns the new entry, or undefined where the box is somebody else's
 */
function takeBox(region: Region, control: ControlWords, box: number, name: string): DirectoryEntry | undefined {
  const { plan } = region.header
  const entryAt = directoryEntryOffset(plan, box)
  if (!region.memory.lockBytes(entryAt, 1)) return undefined
  const bytes = region.bytes.subarray(entryAt, entryAt + directoryEntry.bytes)
  const previous = decodeDirectoryEntry(bytes)
  const fence = control.fence(box)
  const fenced = previous !== undefined && previous.generation > 0 && fence >= previous.generation
  if (previous !== undefined && (!fenced || isRecovered(region, box))) {
    const wipe = fenced || previous.name !== name
    const entry: DirectoryEntry = {
      name, state: 'open', pid: process.pid, exited: false,
      sequenceFloor: wipe ? wipeBox(region, box, previous) : previous.sequenceFloor,
      generation: Math.max(previous.generation, fence) + 1,
    }
    writeEntry(bytes, entry)
    if (control.fence(box) === fence && control.fence('node') === 0) return entry
    // Fenced in between: what is in the box is the recoverer's, under the generation that it was written in.
    writeEntry(bytes, previous)
  }
  region.memory.unlockBytes(entryAt, 1)
  return undefined
}

const entryBarrier = new Int32Array(new SharedArrayBuffer(4))

function writeEntry(into: Uint8Array, entry: Omit<DirectoryEntry, 'exited'>): void {
  if (entry.state === 'free') into.fill(0)
  else encodeDirectoryEntry(into, entry)
  Atomics.add(entryBarrier, 0, 1)
}

/** Empties a box that had another owner. @returns a sequence above all that were used in it */
function wipeBox(region: Region, box: number, previous: DirectoryEntry): number {
  const { plan, incarnation } = region.header
  const start = boxOffset(plan, box)
  const index = region.bytes.subarray(start + plan.indexInBox, start + plan.indexInBox + plan.sessionsPerBox * indexEntry.bytes)
  const last = new SessionWriter({
    region: region.bytes, indexOffset: start + plan.indexInBox, heapOffset: start + plan.heapInBox,
    sessionsPerBox: plan.sessionsPerBox, heapBytes: plan.heapBytes, seed: boxSeed(incarnation, box),
    sequenceFloor: previous.sequenceFloor, nowMs: monotonicMs, checkFence: () => undefined, box,
  }).sequence
  index.fill(0)
  return last
}

/** For the daemon: marks the owner of this generation as gone. */
export function markExited(region: Region, box: number, generation: number): void {
  const word = (directoryEntryOffset(region.header.plan, box) + directoryEntry.exitedGeneration) >> 2
  Atomics.store(new Uint32Array(region.memory.buffer), word, generation)
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
