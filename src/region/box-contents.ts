/**
 * The sessions that stand in a box, for an owner that takes it over with what its last owner left, wherever that
 * one stopped. Pure: nothing is changed here.
 */
import { indexEntry, slotUnitBytes } from './layout.js'
import { decodeIndexEntry, type NamedSlot, type SessionIndexEntry, type Slot } from './session-index.js'
import { decodeRecord, recordLength, type SessionVersion } from './session-record.js'

export interface FoundSession {
  /** Of its entry in the index. */
  readonly position: number
  readonly version: SessionVersion
  /** In bytes. */
  readonly recordBytes: number
  readonly current: NamedSlot
  /** The slot for the next version, where the entry names one for certain. */
  idle: Slot | undefined
  /** The entry does not say what is true now and has to be written anew. */
  rewrite: boolean
}

export interface BoxContents {
  readonly sessions: FoundSession[]
  /** Positions below `next` that hold no session; `cleared` are those of them whose entries still say something. */
  readonly vacant: number[]
  readonly cleared: number[]
  /** All entries from here on have never been used. */
  readonly next: number
  /** The highest sequence found. */
  readonly sequence: number
}

export function findSessions(index: Uint8Array, heap: Uint8Array, seed: number): BoxContents {
  return new Search(index, heap, seed).run()
}

class Search {
  readonly #byId = new Map<string, FoundSession>()
  readonly #free = new Set<number>()
  #next = 0
  #sequence = 0

  constructor(
    private readonly index: Uint8Array,
    private readonly heap: Uint8Array,
    private readonly seed: number,
  ) {}

  run(): BoxContents {
    const doubts: { position: number; entry: SessionIndexEntry }[] = []
    for (let position = 0; position < this.index.length / indexEntry.bytes; position++) {
      const entry = decodeIndexEntry(this.index, position, this.seed, this.heap.length)
      if (entry.state === 'free') this.#free.add(position)
      else this.#next = position + 1
      if (entry.state === 'doubtful' || (entry.state === 'live' && !this.#takeLive(position, entry))) doubts.push({ position, entry })
    }
    // What is certain comes first: an entry in doubt may name a slot that is another session's by now.
    for (const { position, entry } of doubts) this.#takeNewest(position, entry)
    const sessions = withoutOverlaps([...this.#byId.values()])
    return { sessions, ...this.#vacancies(sessions), next: this.#next, sequence: this.#sequence }
  }

  #vacancies(sessions: readonly FoundSession[]): { vacant: number[]; cleared: number[] } {
    const taken = new Set(sessions.map(({ position }) => position))
    const vacant = Array.from({ length: this.#next }, (_, position) => position).filter((position) => !taken.has(position))
    return { vacant, cleared: vacant.filter((position) => !this.#free.has(position)) }
  }

  #takeLive(position: number, { slots, recordBytes, sequence }: SessionIndexEntry): boolean {
    const [current, idle] = slots
    const version = current && this.#decode({ offset: current.offset, bytes: recordBytes })
    // The record has to be the one that the entry tells of, in length as in sequence.
    const told = version !== undefined && version.sequence % 0x1_0000_0000 === sequence && recordLength(this.heap.subarray((current as NamedSlot).offset)) === recordBytes
    if (!told) return false
    this.#keep({ position, version, recordBytes, current: current as NamedSlot, idle, rewrite: false })
    return true
  }

  #takeNewest(position: number, { slots }: SessionIndexEntry): void {
    const found = slots.flatMap((slot) => {
      const version = this.#decode(slot)
      return version === undefined ? [] : [{ version, slot }]
    })
    found.sort((a, b) => b.version.sequence - a.version.sequence)
    for (const { version, slot } of found) {
      const recordBytes = recordLength(this.heap.subarray(slot.offset)) as number
      // An entry caught in a change may name a longer slot than the record's: the rest is a neighbour's.
      const current = { ...slot, bytes: Math.ceil(recordBytes / slotUnitBytes) * slotUnitBytes }
      if (this.#keep({ position, version, recordBytes, current, idle: undefined, rewrite: true })) return
    }
  }

  /** @returns whether it is newer than what is known of this session */
  #keep(found: FoundSession): boolean {
    const { store, id, sequence } = found.version
    const key = `${store}\0${id}`
    const known = this.#byId.get(key)
    if (known !== undefined && known.version.sequence >= sequence) return false
    this.#byId.set(key, found)
    this.#sequence = Math.max(this.#sequence, sequence)
    return true
  }

  #decode({ offset, bytes }: Slot): SessionVersion | undefined {
    return decodeRecord(this.heap.subarray(offset, offset + bytes), this.seed)
  }
}

/** Honest slots never overlap. Where some do, a record within another's slot is a part of that one's payload. */
function withoutOverlaps(sessions: readonly FoundSession[]): FoundSession[] {
  const kept = new Set(sessions)
  const claims = sessions.flatMap((session) => [{ session, slot: session.current }, ...(session.idle ? [{ session, slot: session.idle }] : [])])
  claims.sort((a, b) => a.slot.offset - b.slot.offset)
  let last = claims[0]
  for (const claim of claims.slice(1)) {
    if (last === undefined || claim.slot.offset >= last.slot.offset + last.slot.bytes) {
      last = claim
    } else if (claim.slot === claim.session.idle) {
      dropIdle(claim.session)
    } else if (last.slot === last.session.idle) {
      dropIdle(last.session)
      last = claim
    } else {
      kept.delete(claim.session)
    }
  }
  return [...kept]
}

function dropIdle(session: FoundSession): void {
  session.idle = undefined
  session.rewrite = true
}
