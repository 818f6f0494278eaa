/**
 * Reads a region over any RemoteMemory. Every byte is taken as hostile: bounds and totals are checked before
 * anything is asked for, and what is damaged is counted and skipped, never at the cost of its neighbours.
 */
import { BackdoorsError } from '../errors.js'
import { readInto } from '../fabric/bulk-reads.js'
import type { MemoryRange, RemoteMemory } from '../fabric/remote-memory.js'
import { allocateBulk } from '../native/bulk-memory.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { isWithin } from './control.js'
import { decodeDirectoryEntry, type DirectoryEntry } from './directory.js'
import { decodeHeader, type RegionHeader } from './header.js'
import { boxOffset, directoryEntry, header as headerAt, indexEntry, record, sensorCell } from './layout.js'
import { boxSeed } from './seed.js'
import { decodeSensor, type SensorReading } from './sensor-cell.js'
import { decodeIndexEntry, type SessionIndexEntry, type Slot } from './session-index.js'
import { RecordDecoder, recordLength, type SessionVersion } from './session-record.js'
import { viewOf } from './text.js'

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

/** A session as it came out of a box. */
export interface ExtractedSession extends SessionVersion {
  /** What is left of its time to live, in milliseconds; 0 = without end. */
  readonly remainingMs: number
  /** The newest version failed its CRC, and this is the one before it. */
  readonly stale: boolean
}

export interface Extraction {
  readonly sessions: ExtractedSession[]
  /** Past their time to live. */
  readonly expired: number
  /** Entries of which no version is valid: damage, or a first commit that death cut short. */
  readonly corrupt: number
  /** Read operations and bytes that it took. */
  readonly reads: number
  readonly bytes: number
}

/** Bytes asked for at a time; bounds the memory an extraction takes, and still fills a wire. */
const batchBytes = 8 << 20
const indexChunkEntries = 32768
/** Of memory for what is read, allocated at a time: sessions are views into it until they are adopted. */
const arenaBytes = 32 << 20
/** Ranges of such lengths lie in the memory that a fabric reads them into as they do in ours, and need no second copy. */
const lengthUnit = 8

/**
 * Bytes that may still be asked for. Versions do not overlap, so honest ones never add up to more than the heap;
 * doubts have a budget of their own, so that damaged entries do not use up what sound ones need.
 */
interface Budget {
  bytes: number
}

/** A range of its own: there are many, and each object less is one less to collect. */
interface Wanted extends MemoryRange {
  readonly entry: SessionIndexEntry
  /** Position among the entry's slots, the current one being 0. */
  readonly slot: number
}

/**
 * All live sessions of a box: its index, then only what the index says is alive, in batches. The box must be
 * fenced, or what is found is merely a glance.
 * @param upTo versions of a higher sequence (`isWithin`) are taken as not there: an earlier extraction did not find them
 * @throws BackdoorsError what reading throws: without the memory there is nothing to return
 */
export async function readSessions(memory: RemoteMemory, header: RegionHeader, box: number, safeguards: Safeguards = allSafeguards, upTo?: number): Promise<Extraction> {
  const reader = new SessionReader(memory, header, box, safeguards, upTo)
  await reader.run()
  return reader.result()
}

class SessionReader {
  /** By store, then by id. */
  readonly #newest = new Map<string, Map<string, SessionVersion>>()
  /** Those of `#newest` that are not their entry's newest. */
  readonly #stale = new Set<SessionVersion>()
  readonly #found = new Set<SessionIndexEntry>()
  readonly #heapStart: number
  readonly #indexStart: number
  readonly #seed: number
  #corrupt = 0
  #reads = 0
  #bytes = 0
  readonly #certain: Budget
  readonly #doubtful: Budget
  /** What is left of the memory allocated last. */
  #arena = new Uint8Array(0)

  constructor(
    private readonly memory: RemoteMemory,
    private readonly header: RegionHeader,
    box: number,
    private readonly safeguards: Safeguards,
    private readonly upTo: number | undefined,
  ) {
    const start = boxOffset(header.plan, box)
    this.#heapStart = start + header.plan.heapInBox
    this.#indexStart = start + header.plan.indexInBox
    this.#seed = boxSeed(header.incarnation, box)
    this.#certain = { bytes: header.plan.heapBytes }
    this.#doubtful = { bytes: 2 * header.plan.heapBytes }
  }

  async run(): Promise<void> {
    const { sessionsPerBox, heapBytes } = this.header.plan
    for (let first = 0; first < sessionsPerBox; first += indexChunkEntries) {
      const count = Math.min(indexChunkEntries, sessionsPerBox - first)
      const index = await this.memory.read(this.#indexStart + first * indexEntry.bytes, count * indexEntry.bytes)
      this.#reads++
      this.#bytes += index.length
      const view = viewOf(index)
      const entries: SessionIndexEntry[] = []
      for (let position = 0; position < count; position++) {
        const entry = decodeIndexEntry(index, position, this.#seed, heapBytes, view)
        if (entry.state === 'live' || entry.state === 'doubtful') entries.push(entry)
      }
      await this.#readEntries(entries)
    }
  }

  result(): Extraction {
    const found = [...this.#newest.values()].flatMap((ids) => [...ids.values()])
    // The dead node's own clock, as far as checked bytes tell it: no session expires too early by it.
    const nowMs = found.reduce((latest, { committedAtMs }) => Math.max(latest, committedAtMs), 0)
    const sessions: ExtractedSession[] = []
    for (const version of found) {
      const remainingMs = version.ttlMs === 0 ? 0 : version.committedAtMs + version.ttlMs - nowMs
      if (version.ttlMs !== 0 && remainingMs <= 0) continue
      const { store, id, sequence, schemaVersion, committedAtMs, ttlMs, origin, payload } = version
      // Member by member: a spread of so many takes several times as long.
      sessions.push({ store, id, sequence, schemaVersion, committedAtMs, ttlMs, origin, payload, remainingMs, stale: this.#stale.has(version) })
    }
    return { sessions, expired: found.length - sessions.length, corrupt: this.#corrupt, reads: this.#reads, bytes: this.#bytes }
  }

  async #readEntries(entries: readonly SessionIndexEntry[]): Promise<void> {
    const live = entries.filter(({ state }) => state === 'live')
    const failed = await this.#readWanted(live.map((entry) => this.#want(entry, 0, entry.recordBytes)), this.#certain)
    // Where the current version fails, or the entry does not say for certain which it is, all its slots are looked into.
    const doubts = [...failed.map(({ entry }) => entry), ...entries.filter(({ state }) => state === 'doubtful')]
    await this.#readWanted(await this.#measure(doubts), this.#doubtful)
    for (const entry of entries) if (entry.slots.length > 0 && !this.#found.has(entry)) this.#corrupt++
    this.#found.clear()
  }

  #want(entry: SessionIndexEntry, slot: number, length: number): Wanted {
    const { offset, bytes } = entry.slots[slot] as Slot
    return { entry, slot, offset: this.#heapStart + offset, length: Math.min(Math.ceil(length / lengthUnit) * lengthUnit, bytes) }
  }

  /** Reads the headers in all slots of these entries. @returns the records that they tell of, as long as they say */
  async #measure(entries: readonly SessionIndexEntry[]): Promise<Wanted[]> {
    const headers = entries.flatMap((entry) => entry.slots.map((_, slot) => this.#want(entry, slot, record.headerBytes)))
    if (headers.length === 0) return []
    const blocks = await this.memory.readMany(headers)
    this.#reads += headers.length
    this.#bytes += headers.length * record.headerBytes
    return headers.flatMap(({ entry, slot }, i) => {
      const length = recordLength(blocks[i] as Uint8Array)
      return length !== undefined && length <= (entry.slots[slot] as Slot).bytes ? [this.#want(entry, slot, length)] : []
    })
  }

  /** Reads and decodes in batches. @returns those that held no valid version, or were beyond the budget */
  async #readWanted(wanted: readonly Wanted[], budget: Budget): Promise<Wanted[]> {
    const failed: Wanted[] = []
    let left = Math.min(budget.bytes, wanted.reduce((sum, { length }) => sum + length, 0))
    let batch: Wanted[] = []
    let bytes = 0
    for (const want of wanted) {
      if (budget.bytes < want.length) {
        failed.push(want)
        continue
      }
      budget.bytes -= want.length
      batch.push(want)
      bytes += want.length
      if (bytes < batchBytes) continue
      await this.#readBatch(batch, this.#take(bytes, left), failed)
      left -= bytes
      batch = []
      bytes = 0
    }
    if (batch.length > 0) await this.#readBatch(batch, this.#take(bytes, left), failed)
    return failed
  }

  async #readBatch(batch: readonly Wanted[], target: Uint8Array, failed: Wanted[]): Promise<void> {
    await readInto(this.memory, batch, target)
    this.#reads += batch.length
    this.#bytes += target.length
    const decoder = new RecordDecoder(target, this.#seed, this.safeguards.crc)
    let start = 0
    for (const want of batch) {
      const version = decoder.decode(start, want.length)
      start += want.length
      if (version && this.#isExpected(want, version)) this.#keep(want, version)
      else failed.push(want)
    }
  }

  /** @param left so many bytes will be taken yet, these among them */
  #take(bytes: number, left: number): Uint8Array {
    if (this.#arena.length < bytes) this.#arena = allocateBulk(Math.max(bytes, Math.min(left, arenaBytes)))
    const taken = this.#arena.subarray(0, bytes)
    this.#arena = this.#arena.subarray(bytes)
    return taken
  }

  /** Is it within the bound, and does a certain entry's current slot hold the very version that the entry names? */
  #isExpected({ entry, slot }: Wanted, version: SessionVersion): boolean {
    if (this.upTo !== undefined && !isWithin(version.sequence, this.upTo)) return false
    return entry.state !== 'live' || slot !== 0 || !this.safeguards.crc || version.sequence % 0x1_0000_0000 === entry.sequence
  }

  #keep({ entry, slot }: Wanted, version: SessionVersion): void {
    this.#found.add(entry)
    let ids = this.#newest.get(version.store)
    if (ids === undefined) this.#newest.set(version.store, (ids = new Map<string, SessionVersion>()))
    const known = ids.get(version.id)
    if (known && known.sequence >= version.sequence) return
    ids.set(version.id, version)
    if (entry.state === 'live' && slot !== 0) this.#stale.add(version)
  }
}
