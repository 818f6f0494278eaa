/**
 * The Continuation Box as its one writer sees it. A commit writes the session's idle version, then points the
 * index entry at it; at any instant of death a reader finds the old state or the new one, whole.
 */
import { BackdoorsError, type ErrorCode } from '../errors.js'
import type { Clock } from '../native/clock.js'
import { crc32c } from '../native/crc32c.js'
import { findSessions, type FoundSession } from './box-contents.js'
import { Heap } from './heap.js'
import { indexEntry, indexFlags, maxNameBytes, maxSessionIdBytes, record, slotUnitBytes } from './layout.js'
import type { Slot } from './session-index.js'
import { checkWord, decodeRecord, encodeOrigin, type SessionOrigin, type SessionVersion } from './session-record.js'
import { shortCrc32c } from './short-crc32c.js'
import { encodeName, encodeText } from './text.js'

/** What the writer keeps of one session, outside shared memory. */
interface Held {
  readonly id: string
  readonly position: number
  /** Store name, id and origin, as they stand behind each record's header. */
  prefix: Uint8Array
  idBytes: number
  originBytes: number
  current: Slot | undefined
  idle: Slot | undefined
  currentIsB: boolean
  recordBytes: number
}

/** The sessions of one store in this box. */
export interface HeldStore {
  readonly name: string
  readonly nameBytes: Uint8Array
  readonly sessions: Map<string, Held>
}

export interface CommitOptions {
  /** Time to live from this commit on, in milliseconds, a whole number below 2^32; 0 = without end. */
  readonly ttlMs: number
  /** A whole number below 2^32. */
  readonly schemaVersion: number
  readonly origin?: SessionOrigin
}

export interface SessionWriterOptions {
  /** The whole region, mapped writable. */
  readonly region: Uint8Array
  /** Start of the index and of the heap in the region, in bytes. */
  readonly indexOffset: number
  readonly heapOffset: number
  readonly sessionsPerBox: number
  readonly heapBytes: number
  readonly seed: number
  /** Sequences begin above it. */
  readonly sequenceFloor: number
  /** The node's monotonic clock. */
  readonly clock: Clock
  /** @throws BackdoorsError FENCED */
  readonly checkFence: () => void
  /** For error messages. */
  readonly box: number
}

export class SessionWriter {
  readonly #options: SessionWriterOptions
  readonly #bytes: Uint8Array
  readonly #words: Uint32Array
  readonly #stores = new Map<string, HeldStore>()
  readonly #barrier = new Int32Array(new SharedArrayBuffer(4))
  readonly #time = new Float64Array(1)
  /** Signed: half of all unsigned ones would be made objects anew whenever they are handed on. */
  readonly #seed: number
  /** By a session's position, on the node's monotonic clock; here and not in `Held`, where it could be a new object each time. */
  readonly #expiresAtMs: Float64Array
  readonly #freePositions: number[] = []
  readonly #heap: Heap
  #nextPosition: number
  #sequence: number

  /** Takes over whatever valid sessions the box holds. */
  constructor(options: SessionWriterOptions) {
    this.#options = options
    this.#bytes = options.region
    this.#words = new Uint32Array(options.region.buffer, options.region.byteOffset, Math.floor(options.region.byteLength / 4))
    this.#expiresAtMs = new Float64Array(options.sessionsPerBox)
    this.#seed = options.seed | 0
    this.#sequence = options.sequenceFloor
    const used = this.#takeOver()
    this.#nextPosition = used.next
    this.#heap = new Heap(options.heapBytes, used.slots)
  }

  get sequence(): number {
    return this.#sequence
  }

  /** Sessions held, in all stores, the expired among them. */
  get size(): number {
    let size = 0
    for (const store of this.#stores.values()) size += store.sessions.size
    return size
  }

  stores(): Iterable<HeldStore> {
    return this.#stores.values()
  }

  /** @param name 1 to 64 bytes of UTF-8 */
  store(name: string): HeldStore {
    const known = this.#stores.get(name)
    if (known) return known
    const store: HeldStore = { name, nameBytes: encodeName('store name', name, maxNameBytes), sessions: new Map() }
    this.#stores.set(name, store)
    return store
  }

  /**
   * Commits `payload` as the session's newest state. When it returns, the commit is acknowledged: a recoverer
   * will find it. About a microsecond for 1 KiB; allocates nothing for a session that exists.
   * @throws BackdoorsError FENCED: the outcome is unknown, do not acknowledge to anyone. BOX_FULL,
   * SESSION_TOO_LARGE, SESSION_ID_INVALID, INVALID_ARGUMENT: nothing has changed.
   */
  commit(store: HeldStore, id: string, payload: Uint8Array, options: CommitOptions): void {
    this.#options.checkFence()
    checkWord('ttlMs', options.ttlMs)
    checkWord('schemaVersion', options.schemaVersion)
    const origin = options.origin === undefined ? undefined : encodeOrigin(options.origin)
    const held = store.sessions.get(id) ?? this.#begin(store, id)
    const prefixBytes = origin === undefined ? held.prefix.length : held.prefix.length - held.originBytes + origin.length
    const recordBytes = record.headerBytes + prefixBytes + payload.length
    if (held.idle === undefined || held.idle.bytes < recordBytes) this.#growIdle(store, held, recordBytes)
    if (origin !== undefined) setPrefix(store, held, origin)
    this.#writeRecord(held, payload, options)
    this.#publish(store, held, recordBytes)
    this.#options.checkFence()
  }

  /** The newest committed state; its payload is a view into the region, true until the next commit but one. */
  get(store: HeldStore, id: string): SessionVersion | undefined {
    const held = store.sessions.get(id)
    if (held?.current === undefined) return undefined
    const version = this.#decode(held.current, held.recordBytes)
    if (version === undefined) {
      throw new BackdoorsError('RECORD_CORRUPT', `Session ${id} of store ${store.name} fails its CRC in memory: something has written over box ${this.#options.box}.`, { store: store.name, sessionId: id, box: this.#options.box })
    }
    return this.#nowMs() >= (this.#expiresAtMs[held.position] as number) ? undefined : version
  }

  /** Where the current record of a live session stands in the region, in bytes, and which node it came from. */
  locate(store: HeldStore, id: string): { offset: number; length: number; from: string } | undefined {
    const held = store.sessions.get(id)
    const version = this.get(store, id)
    if (held?.current === undefined || version === undefined) return undefined
    return { offset: this.#options.heapOffset + held.current.offset, length: held.recordBytes, from: version.origin?.node ?? '' }
  }

  /** @returns whether there was such a session. @throws BackdoorsError FENCED: outcome unknown */
  delete(store: HeldStore, id: string): boolean {
    this.#options.checkFence()
    const held = store.sessions.get(id)
    if (held === undefined) return false
    this.#sequence++
    this.#writeEntry(held, indexFlags.used | indexFlags.deleted, 0, this.#sequence)
    // Even a damaged entry must not bring the session back, so its versions are made invalid too: the older one
    // first, and seen to be so, for else it might be found in the place of the newer one.
    for (const slot of [held.idle, held.current]) {
      if (slot === undefined) continue
      this.#invalidate(slot)
      Atomics.add(this.#barrier, 0, 1)
      this.#heap.free(slot)
    }
    store.sessions.delete(id)
    this.#freePositions.push(held.position)
    this.#options.checkFence()
    return true
  }

  /** Deletes what has outlived its time to live. @returns how many */
  sweep(): number {
    return this.#sweepAllBut(undefined)
  }

  #sweepAllBut(kept: Held | undefined): number {
    const nowMs = this.#nowMs()
    let swept = 0
    for (const store of this.#stores.values()) {
      for (const held of store.sessions.values()) {
        if (held !== kept && nowMs >= (this.#expiresAtMs[held.position] as number) && this.delete(store, held.id)) swept++
      }
    }
    return swept
  }

  #nowMs(): number {
    this.#options.clock(this.#time)
    return this.#time[0] as number
  }

  /** A record without a store's name is none. The CRC goes too, lest the next record's lengths bring this one back. */
  #invalidate(slot: Slot): void {
    const word = (this.#options.heapOffset + slot.offset) / 4
    this.#words[word + record.crc / 4] = 0
    this.#words[word + record.storeBytes / 4] = 0
  }

  #decode(slot: Slot, bytes: number): SessionVersion | undefined {
    const start = this.#options.heapOffset + slot.offset
    return decodeRecord(this.#bytes.subarray(start, start + bytes), this.#seed)
  }

  #fail(code: ErrorCode, why: string, store: HeldStore, id: string): BackdoorsError {
    return new BackdoorsError(code, `Cannot commit session ${JSON.stringify(id.slice(0, 80))} of store ${store.name}: ${why}`, { store: store.name, sessionId: id.slice(0, 80), box: this.#options.box })
  }

  /** Makes room for a session that is not there yet. It has no version until its first commit is published. */
  #begin(store: HeldStore, id: string): Held {
    const idBytes = encodeText(id, maxSessionIdBytes)
    if (idBytes === undefined) {
      throw this.#fail('SESSION_ID_INVALID', `an id is 1 to ${maxSessionIdBytes} bytes of well-formed text without NUL.`, store, id)
    }
    const position = this.#takePosition() ?? (this.sweep() > 0 ? this.#takePosition() : undefined)
    if (position === undefined) {
      throw this.#fail('BOX_FULL', `all ${this.#options.sessionsPerBox} entries of the box are taken; raise region.sessionsPerBox, or give sessions a time to live.`, store, id)
    }
    const prefix = new Uint8Array(store.nameBytes.length + idBytes.length)
    prefix.set(store.nameBytes, 0)
    prefix.set(idBytes, store.nameBytes.length)
    return {
      id, position, prefix, idBytes: idBytes.length, originBytes: 0, current: undefined, idle: undefined,
      currentIsB: true, recordBytes: 0,
    }
  }

  #takePosition(): number | undefined {
    const freed = this.#freePositions.pop()
    if (freed !== undefined) return freed
    return this.#nextPosition < this.#options.sessionsPerBox ? this.#nextPosition++ : undefined
  }

  #growIdle(store: HeldStore, held: Held, recordBytes: number): void {
    const isNew = held.current === undefined
    // Two versions have to fit, each in whole units.
    const limit = Math.floor(this.#options.heapBytes / 2 / slotUnitBytes) * slotUnitBytes
    const tooLarge = recordBytes > limit
    const slot = tooLarge ? undefined : this.#findRoom(held, recordBytes)
    if (slot === undefined) {
      if (isNew) this.#freePositions.push(held.position)
      if (tooLarge) throw this.#fail('SESSION_TOO_LARGE', `${recordBytes} bytes; a box of ${this.#options.heapBytes} bytes takes sessions of up to ${limit}. Raise region.heapBytes.`, store, held.id)
      throw this.#fail('BOX_FULL', `no ${recordBytes} bytes are left of the box's ${this.#options.heapBytes}; raise region.heapBytes, or give sessions a time to live.`, store, held.id)
    }
    held.idle = slot
  }

  /**
   * A slot for the next version; one too small is given back for it, and only then, for the index entry names it
   * until the next version is published: a slot that an entry names is never another session's.
   */
  #findRoom(held: Held, recordBytes: number): Slot | undefined {
    const found = this.#exchange(held.idle, recordBytes)
    return found ?? (this.#sweepAllBut(held) > 0 ? this.#exchange(held.idle, recordBytes) : undefined)
  }

  #exchange(small: Slot | undefined, recordBytes: number): Slot | undefined {
    const found = small === undefined ? this.#heap.allocate(recordBytes) : this.#heap.replace(small, recordBytes)
    if (found === undefined || small === undefined) return found
    // What is left in a free slot must never be found again, so it is gone before the slot is anybody's.
    this.#invalidate(small)
    Atomics.add(this.#barrier, 0, 1)
    return found
  }

  #writeRecord(held: Held, payload: Uint8Array, options: CommitOptions): void {
    const start = this.#options.heapOffset + (held.idle as Slot).offset
    const word = start / 4
    const words = this.#words
    const sequence = ++this.#sequence
    this.#options.clock(this.#time)
    const nowMs = Math.floor(this.#time[0] as number)
    this.#expiresAtMs[held.position] = options.ttlMs > 0 ? nowMs + options.ttlMs : Infinity
    const storeBytes = held.prefix.length - held.idBytes - held.originBytes
    words[word + 1] = options.schemaVersion
    words[word + 2] = sequence >>> 0
    words[word + 3] = Math.floor(sequence / 0x1_0000_0000)
    words[word + 4] = nowMs >>> 0
    words[word + 5] = Math.floor(nowMs / 0x1_0000_0000)
    words[word + 6] = payload.length
    words[word + 7] = options.ttlMs
    words[word + 8] = storeBytes | (held.idBytes << 16)
    words[word + 9] = held.originBytes
    // All of it anew each time: what has been damaged in the slot meanwhile must not get a CRC that is right.
    words[word + 10] = 0
    words[word + 11] = 0
    this.#bytes.set(held.prefix, start + record.headerBytes)
    this.#bytes.set(payload, start + record.headerBytes + held.prefix.length)
    const checked = record.headerBytes + held.prefix.length + payload.length - 4
    words[word] = crc32c(this.#bytes, start + 4, checked, this.#seed)
  }

  #publish(store: HeldStore, held: Held, recordBytes: number): void {
    const { current } = held
    held.current = held.idle
    held.idle = current
    held.currentIsB = !held.currentIsB
    held.recordBytes = recordBytes
    this.#writeEntry(held, liveFlags(held), recordBytes, this.#sequence)
    if (current === undefined) store.sessions.set(held.id, held)
    // A full barrier: the fences are read only after all that was written is visible to every reader.
    Atomics.add(this.#barrier, 0, 1)
  }

  #writeEntry(held: Held, flags: number, recordBytes: number, sequence: number): void {
    const start = this.#options.indexOffset + held.position * indexEntry.bytes
    const word = start / 4
    const words = this.#words
    const slotA = held.currentIsB ? held.idle : held.current
    const slotB = held.currentIsB ? held.current : held.idle
    // A slot that is none loses its length only: an offset of 0 is the slot of another session.
    if (slotA !== undefined) words[word] = slotA.offset / slotUnitBytes
    words[word + 1] = slotA === undefined ? 0 : slotA.bytes / slotUnitBytes
    if (slotB !== undefined) words[word + 2] = slotB.offset / slotUnitBytes
    words[word + 3] = slotB === undefined ? 0 : slotB.bytes / slotUnitBytes
    words[word + 4] = flags
    words[word + 5] = recordBytes
    words[word + 6] = sequence >>> 0
    words[word + 7] = shortCrc32c(this.#bytes, start, indexEntry.crc, this.#seed)
  }

  /** Takes over what stands in the box. @returns the slots in use, and the first entry never used */
  #takeOver(): { slots: Slot[]; next: number } {
    const { indexOffset, sessionsPerBox, heapOffset, heapBytes, seed } = this.#options
    const index = this.#bytes.subarray(indexOffset, indexOffset + sessionsPerBox * indexEntry.bytes)
    const heap = this.#bytes.subarray(heapOffset, heapOffset + heapBytes)
    const { sessions, vacant, cleared, next, sequence } = findSessions(index, heap, seed)
    this.#sequence = Math.max(this.#sequence, sequence)
    for (const found of sessions) this.#hold(found)
    // Only when all that is kept has its entry, so that it is named by one at every instant of this.
    for (const position of cleared) {
      const start = indexOffset + position * indexEntry.bytes
      this.#bytes.fill(0, start, start + indexEntry.bytes)
    }
    Atomics.add(this.#barrier, 0, 1)
    for (const position of vacant.reverse()) this.#freePositions.push(position)
    return { slots: sessions.flatMap(({ current, idle }) => (idle ? [current, idle] : [current])), next }
  }

  #hold({ position, version, recordBytes, current, idle, rewrite }: FoundSession): void {
    const store = this.store(version.store)
    const held: Held = {
      id: version.id, position, prefix: new Uint8Array(0), idBytes: 0, originBytes: 0, current, idle,
      currentIsB: current.isB, recordBytes,
    }
    this.#expiresAtMs[position] = version.ttlMs > 0 ? version.committedAtMs + version.ttlMs : Infinity
    setPrefix(store, held, version.origin === undefined ? undefined : encodeOrigin(version.origin))
    store.sessions.set(version.id, held)
    // The slot keeps its place in the entry, so that it is named at every instant of this, too.
    if (rewrite) this.#writeEntry(held, liveFlags(held), recordBytes, version.sequence)
  }
}

const liveFlags = (held: Held): number => indexFlags.used | (held.currentIsB ? indexFlags.currentIsB : 0)

function setPrefix(store: HeldStore, held: Held, origin: Uint8Array | undefined): void {
  const idBytes = new TextEncoder().encode(held.id)
  const prefix = new Uint8Array(store.nameBytes.length + idBytes.length + (origin?.length ?? 0))
  prefix.set(store.nameBytes, 0)
  prefix.set(idBytes, store.nameBytes.length)
  if (origin) prefix.set(origin, store.nameBytes.length + idBytes.length)
  held.prefix = prefix
  held.idBytes = idBytes.length
  held.originBytes = origin?.length ?? 0
}
