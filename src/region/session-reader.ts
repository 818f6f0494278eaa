/**
 * Reads the sessions of a box over any RemoteMemory. Every byte is taken as hostile: bounds and totals are checked before
 * anything is asked for, and what is damaged is counted and skipped, never at the cost of its neighbours.
 */
import { readInto, readSummed } from '../fabric/bulk-reads.js'
import { paddedLength } from '../fabric/padding.js'
import type { MemoryRange, RemoteMemory, SummedParts } from '../fabric/remote-memory.js'
import { crc32c } from '../native/crc32c.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { isWithin } from './control.js'
import { ReadRecords, type FoundRecord } from './found-record.js'
import type { RegionHeader } from './header.js'
import { boxOffset, indexEntry, record } from './layout.js'
import { NewestRecords } from './newest-records.js'
import { ReadArena } from './read-arena.js'
import { boxSeed } from './seed.js'
import { decodeIndexEntry, LiveEntries, type SessionIndexEntry, type Slot } from './session-index.js'
import { recordLength, type SessionVersion } from './session-record.js'
import { viewOf } from './text.js'

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
  /** Of which store some of these say that they are, by bytes that fail their check: good for counting, and for nothing else. */
  readonly corruptStores: readonly string[]
  /** Stretches of memory that were asked for, each of a record, a header or a part of the index, and their bytes. Over verbs several go by one request. */
  readonly reads: number
  readonly bytes: number
}

/** Bytes asked for at a time where the memory does not say; fills a wire. */
const wireBatchBytes = 8 << 20
const indexChunkEntries = 32768
/** What a record's CRC does not cover: itself. */
const crcBytes = 4

/**
 * Bytes that may still be asked for; where a fabric joins reads (`bridgedBytes`), up to 1 KiB a part more is read. Versions do not overlap, so honest ones never add up to more than the heap;
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
 * @param arena payloads are views into its memory, until it is reset
 * @throws BackdoorsError what reading throws: without the memory there is nothing to return
 */
export async function readSessions(memory: RemoteMemory, header: RegionHeader, box: number, safeguards: Safeguards = allSafeguards, upTo?: number, arena = new ReadArena()): Promise<Extraction> {
  const reader = new SessionReader(memory, header, box, safeguards, upTo, arena)
  await reader.run()
  return reader.result()
}

/** As many records as are read at a time, each with as many bytes as its entry says. Filled again and again. */
class LiveBatch implements SummedParts {
  readonly triples: Float64Array
  readonly crcs: Int32Array
  readonly skip = crcBytes
  count = 0
  bytes = 0
  /** Which entry each is of. */
  readonly entries: Uint32Array

  constructor(readonly seed: number, private readonly batchBytes: number, entries: number) {
    const most = Math.min(entries, Math.ceil(batchBytes / record.headerBytes))
    this.triples = new Float64Array(3 * most)
    this.crcs = new Int32Array(most)
    this.entries = new Uint32Array(most)
  }

  /**
   * @param failed gets the positions of those that are beyond the budget
   * @returns the first entry that found no room
   */
  fill(live: LiveEntries, first: number, budget: Budget, heapStart: number, failed: number[]): number {
    this.count = this.bytes = 0
    let entry = first
    for (; entry < live.count && this.bytes < this.batchBytes; entry++) {
      const length = live.recordBytes[entry] as number
      const padded = paddedLength(length)
      if (budget.bytes < padded) {
        failed.push(live.positions[entry] as number)
        continue
      }
      budget.bytes -= padded
      this.triples[3 * this.count] = heapStart + (live.offsets[entry] as number)
      this.triples[3 * this.count + 1] = length
      this.triples[3 * this.count + 2] = this.bytes
      this.entries[this.count++] = entry
      this.bytes += padded
    }
    return entry
  }
}

class SessionReader {
  readonly #newest: NewestRecords
  readonly #found = new Set<SessionIndexEntry>()
  readonly #heapStart: number
  readonly #indexStart: number
  readonly #seed: number
  #corrupt = 0
  readonly #corruptStores: string[] = []
  /** Of entries in doubt, the store that a record which fails its check names. */
  readonly #claimed = new Map<SessionIndexEntry, string>()
  #reads = 0
  #bytes = 0
  readonly #certain: Budget
  readonly #doubtful: Budget

  constructor(
    private readonly memory: RemoteMemory,
    private readonly header: RegionHeader,
    box: number,
    private readonly safeguards: Safeguards,
    private readonly upTo: number | undefined,
    private readonly arena: ReadArena,
  ) {
    const start = boxOffset(header.plan, box)
    this.#heapStart = start + header.plan.heapInBox
    this.#indexStart = start + header.plan.indexInBox
    this.#seed = boxSeed(header.incarnation, box)
    this.#certain = { bytes: header.plan.heapBytes }
    this.#doubtful = { bytes: 2 * header.plan.heapBytes }
    this.#newest = new NewestRecords(Math.min(header.plan.sessionsPerBox, indexChunkEntries))
  }

  async run(): Promise<void> {
    const { sessionsPerBox } = this.header.plan
    for (let first = 0; first < sessionsPerBox; first += indexChunkEntries) {
      const count = Math.min(indexChunkEntries, sessionsPerBox - first)
      const index = await this.memory.read(this.#indexStart + first * indexEntry.bytes, count * indexEntry.bytes)
      this.#reads++
      this.#bytes += index.length
      await this.#readIndexed(index, count)
    }
  }

  async #readIndexed(index: Uint8Array, count: number): Promise<void> {
    const { heapBytes } = this.header.plan
    const view = viewOf(index)
    const live = new LiveEntries(count)
    const doubtful: SessionIndexEntry[] = []
    for (let position = 0; position < count; position++) {
      if (live.take(view, index, position, this.#seed, heapBytes)) continue
      const entry = decodeIndexEntry(index, position, this.#seed, heapBytes, view)
      if (entry.state === 'doubtful' || entry.state === 'live') doubtful.push(entry)
    }
    const failed = await this.#readLive(live)
    // Where the current version fails, or the entry does not say for certain which it is, all its slots are looked into.
    const doubts = [...failed.map((position) => decodeIndexEntry(index, position, this.#seed, heapBytes, view)), ...doubtful]
    await this.#readWanted(await this.#measure(doubts), this.#doubtful)
    for (const entry of doubts) if (entry.slots.length > 0 && !this.#found.has(entry)) this.#countCorrupt(entry)
    this.#found.clear()
    this.#claimed.clear()
  }

  #countCorrupt(entry: SessionIndexEntry): void {
    this.#corrupt++
    const store = this.#claimed.get(entry)
    if (store !== undefined) this.#corruptStores.push(store)
  }

  /** Reads the current versions, in batches. @returns the positions of those that held none, or were beyond the budget */
  async #readLive(live: LiveEntries): Promise<number[]> {
    const failed: number[] = []
    const { batchBytes = wireBatchBytes } = this.memory
    let left = 0
    for (let i = 0; i < live.count; i++) left += paddedLength(live.recordBytes[i] as number)
    left = Math.min(left, this.#certain.bytes)
    const batches = [new LiveBatch(this.#seed, batchBytes, live.count), new LiveBatch(this.#seed, batchBytes, live.count)] as const
    let next = 0
    /** Of what has been read, and not been looked at. */
    let take = (): void => undefined
    for (let first = 0; first < live.count; ) {
      const batch = batches[next] as LiveBatch
      first = batch.fill(live, first, this.#certain, this.#heapStart, failed)
      if (batch.count === 0) continue
      const target = this.arena.take(batch.bytes, left)
      left -= batch.bytes
      const reading = readSummed(this.memory, batch, target, batch.crcs)
      // One batch is looked at while the next is on its way, and nothing writes into the arena any more when this has failed.
      try {
        take()
      } catch (error) {
        await reading.catch(() => undefined)
        throw error
      }
      await reading
      this.#reads += batch.count
      this.#bytes += batch.bytes
      take = () => this.#takeBatch(batch, new ReadRecords(target), live, failed)
      next = 1 - next
    }
    take()
    return failed
  }

  #takeBatch({ triples, crcs, count, entries }: LiveBatch, records: ReadRecords, live: LiveEntries, failed: number[]): void {
    for (let i = 0; i < count; i++) {
      const length = triples[3 * i + 1] as number
      const start = triples[3 * i + 2] as number
      const entry = entries[i] as number
      // Its CRC was taken of as many bytes as the entry says, so it has to say the same of its length.
      const isValid = records.totalAt(start, length) === length && (!this.safeguards.crc || records.view.getInt32(start + record.crc, true) === crcs[i])
      const found = isValid ? records.take(start) : undefined
      if (found !== undefined && this.#isWithin(found) && this.#isNamed(found, live.sequences[entry] as number)) this.#newest.put(found)
      else failed.push(live.positions[entry] as number)
    }
  }

  result(): Extraction {
    const found = this.#newest.all
    // The dead node's own clock, as far as checked bytes tell it: no session expires too early by it.
    const nowMs = found.reduce((latest, { committedAtMs }) => Math.max(latest, committedAtMs), 0)
    const sessions = found.filter((session) => {
      const { ttlMs } = session
      if (ttlMs === 0) return true
      session.remainingMs = session.committedAtMs + ttlMs - nowMs
      return session.remainingMs > 0
    })
    return { sessions, expired: found.length - sessions.length, corrupt: this.#corrupt, corruptStores: this.#corruptStores, reads: this.#reads, bytes: this.#bytes }
  }

  #want(entry: SessionIndexEntry, slot: number, length: number): Wanted {
    const { offset, bytes } = entry.slots[slot] as Slot
    return { entry, slot, offset: this.#heapStart + offset, length: Math.min(paddedLength(length), bytes) }
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
      if (bytes < wireBatchBytes) continue
      await this.#readBatch(batch, this.arena.take(bytes, left), failed)
      left -= bytes
      batch = []
      bytes = 0
    }
    if (batch.length > 0) await this.#readBatch(batch, this.arena.take(bytes, left), failed)
    return failed
  }

  async #readBatch(batch: readonly Wanted[], target: Uint8Array, failed: Wanted[]): Promise<void> {
    await readInto(this.memory, batch, target)
    this.#reads += batch.length
    this.#bytes += target.length
    const records = new ReadRecords(target)
    let start = 0
    for (const want of batch) {
      const found = this.#recordAt(records, start, want.length)
      const claimed = found ? undefined : records.claimedStore(start, want.length)
      start += want.length
      if (claimed !== undefined) this.#claimed.set(want.entry, claimed)
      if (found && this.#isExpected(want, found)) this.#keep(want, found)
      else failed.push(want)
    }
  }

  #recordAt(records: ReadRecords, start: number, length: number): FoundRecord | undefined {
    const total = records.totalAt(start, length)
    if (total === 0) return undefined
    const { bytes, view } = records
    if (this.safeguards.crc && view.getUint32(start + record.crc, true) !== crc32c(bytes, start + crcBytes, total - crcBytes, this.#seed)) return undefined
    return records.take(start)
  }

  /** Is it within the bound, and does a certain entry's current slot hold the very version that the entry names? */
  #isExpected({ entry, slot }: Wanted, version: SessionVersion): boolean {
    return this.#isWithin(version) && (entry.state !== 'live' || slot !== 0 || this.#isNamed(version, entry.sequence))
  }

  #isWithin({ sequence }: SessionVersion): boolean {
    return this.upTo === undefined || isWithin(sequence, this.upTo)
  }

  #isNamed({ sequence }: SessionVersion, named: number): boolean {
    return !this.safeguards.crc || sequence % 0x1_0000_0000 === named
  }

  #keep({ entry, slot }: Wanted, version: FoundRecord): void {
    this.#found.add(entry)
    // It is not its entry's newest.
    version.stale = entry.state === 'live' && slot !== 0
    this.#newest.put(version)
  }
}
