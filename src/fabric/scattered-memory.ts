/** A piece of memory whose pages are scattered over another memory: a process's, in the RAM of its machine. */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { checkAccess, checkAligned, checkPlan, checkRange, type CheckedMemory } from './checks.js'
import type { MemoryRange, PreparedRead, RemoteMemory, Watch, WatchEvent, WatchPlan } from './remote-memory.js'

export interface ScatteredMemoryOptions {
  /** Where the pages lie. Whoever made it closes it, after this. */
  readonly base: RemoteMemory
  /** Offset of each page in the base, in order. */
  readonly pages: ArrayLike<number>
  readonly pageBytes: number
  /** In bytes; defaults to all pages. */
  readonly length?: number
}

/** The parts of one range, each without a gap in the base. */
interface Pieces {
  readonly range: MemoryRange
  readonly parts: readonly MemoryRange[]
}

/** Read, watched and compare-and-swapped as one; plain writes are refused. */
export class ScatteredMemory implements RemoteMemory {
  readonly peer: string
  readonly length: number
  readonly #base: RemoteMemory
  readonly #pages: ArrayLike<number>
  readonly #pageBytes: number
  readonly #checked: CheckedMemory
  /** Closed with the memory. */
  readonly #owned = new Set<{ close(): void }>()
  #closed = false

  /** @throws BackdoorsError INVALID_ARGUMENT where the pages are fewer than the length needs */
  constructor({ base, pages, pageBytes, length = pages.length * pageBytes }: ScatteredMemoryOptions) {
    if (length > pages.length * pageBytes) throw new BackdoorsError('INVALID_ARGUMENT', `${pages.length} pages of ${pageBytes} bytes do not hold ${length} bytes`, { field: 'length', length })
    this.peer = base.peer
    this.length = length
    this.#base = base
    this.#pages = pages
    this.#pageBytes = pageBytes
    this.#checked = { peer: this.peer, length, windows: [] }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const split = ranges.map((range) => this.#split('read', range))
    const read = await this.#base.readMany(split.flatMap(({ parts }) => parts))
    return assemble(split, read)
  }

  prepareRead(ranges: readonly MemoryRange[]): PreparedRead {
    const split = ranges.map((range) => this.#split('read', range))
    const read = new ScatteredRead(split, this.#base.prepareRead(split.flatMap(({ parts }) => parts)), () => this.#owned.delete(read))
    this.#owned.add(read)
    return read
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return new Promise(() => {
      const range = { offset, length: bytes.length }
      this.#split('write', range)
      checkAccess(this.#checked, 'write', range, ['write'])
    })
  }

  async compareAndSwap(offset: number, expected: bigint, desired: bigint): Promise<bigint> {
    const word = { offset, length: 8 }
    const { parts } = this.#split('compare-and-swap', word)
    checkAligned(this.#checked, 'compare-and-swap', word)
    try {
      return await this.#base.compareAndSwap((parts[0] as MemoryRange).offset, expected, desired)
    } catch (error) {
      // The base speaks of its own offsets: of what the caller did wrong, this one says where.
      if (isBackdoorsError(error, 'READ_ONLY')) checkAccess(this.#checked, 'compare-and-swap', word, ['atomic'])
      throw error
    }
  }

  watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    this.#checkOpen('watch', { offset: 0, length: 0 })
    const watch = this.#base.watch(this.#mapped(plan), listener)
    this.#owned.add(watch)
    return {
      get state() {
        return watch.state
      },
      update: (changed) => watch.update(this.#mapped(changed)),
      close: () => {
        this.#owned.delete(watch)
        watch.close()
      },
    }
  }

  close(): Promise<void> {
    this.#closed = true
    for (const each of [...this.#owned]) each.close()
    this.#owned.clear()
    return Promise.resolve()
  }

  #mapped(plan: WatchPlan): WatchPlan {
    checkPlan(this.#checked, plan)
    const cells = plan.cells.map(({ counterOffset, pendingOffset, deadlineUs }) => ({
      counterOffset: this.#at(counterOffset), deadlineUs, ...(pendingOffset === undefined ? {} : { pendingOffset: this.#at(pendingOffset) }),
    }))
    return { ...plan, cells }
  }

  #at(offset: number): number {
    return (this.#pages[Math.floor(offset / this.#pageBytes)] as number) + (offset % this.#pageBytes)
  }

  #split(doing: string, range: MemoryRange): Pieces {
    this.#checkOpen(doing, range)
    checkRange(this.#checked, doing, range)
    const parts: { offset: number; length: number }[] = []
    let [from, left] = [range.offset, range.length]
    while (left > 0) {
      const length = Math.min(left, this.#pageBytes - (from % this.#pageBytes))
      const offset = this.#at(from)
      const last = parts.at(-1)
      if (last && last.offset + last.length === offset) last.length += length
      else parts.push({ offset, length })
      from += length
      left -= length
    }
    return { range, parts }
  }

  #checkOpen(doing: string, { offset, length }: MemoryRange): void {
    if (this.#closed) throw new BackdoorsError('CLOSED', `${doing} ${length} bytes at offset ${offset} of ${this.peer}: it has been closed`, { peer: this.peer, offset, length })
  }
}

function assemble(split: readonly Pieces[], read: readonly Uint8Array[]): Uint8Array[] {
  let next = 0
  return split.map(({ range, parts }) => {
    const found = read.slice(next, (next += parts.length))
    return found.length === 1 ? (found[0] as Uint8Array) : fill(new Uint8Array(range.length), found)
  })
}

function fill(target: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  let at = 0
  for (const part of parts) {
    target.set(part, at)
    at += part.length
  }
  return target
}

/** A range within one page is seen where it was read to; one across pages is put together after each run. */
class ScatteredRead implements PreparedRead {
  readonly ranges: readonly MemoryRange[]
  readonly views: readonly Uint8Array[]
  readonly #base: PreparedRead
  readonly #joined: readonly { readonly target: Uint8Array; readonly parts: readonly Uint8Array[] }[]

  readonly #onClose: () => void

  constructor(split: readonly Pieces[], base: PreparedRead, onClose: () => void) {
    const joined: { target: Uint8Array; parts: readonly Uint8Array[] }[] = []
    let next = 0
    this.ranges = split.map(({ range }) => range)
    this.views = split.map(({ range, parts: { length } }) => {
      const parts = base.views.slice(next, (next += length))
      if (length === 1) return parts[0] as Uint8Array
      const target = new Uint8Array(range.length)
      joined.push({ target, parts })
      return target
    })
    this.#base = base
    this.#joined = joined
    this.#onClose = onClose
  }

  async run(): Promise<void> {
    await this.#base.run()
    for (const { target, parts } of this.#joined) fill(target, parts)
  }

  close(): void {
    this.#onClose()
    this.#base.close()
  }
}
