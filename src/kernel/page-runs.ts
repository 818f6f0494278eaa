/** Where all pages of a range of addresses are: a walk over whole page tables, many tables in one batch. */
import { BackdoorsError } from '../errors.js'
import { decodeEntry, decodeHidden, entryBytes, pageBytes, type PageTableFormat, type PageTableLevel } from './page-table-format.js'
import type { PhysicalMemory } from './physical-memory.js'
import type { Faults } from './walks.js'

/** Neighbouring pages of one kind. Pages are counted from address 0; numbers of pages fit where addresses would not. */
export interface PageRun {
  readonly page: number
  readonly count: number
  /**
   * `frame`: in memory, from `physical` on without a gap. `none`: the entry is empty. `other`: an entry that says something
   * else (swapped out, being moved, …), or a table that cannot be read.
   */
  readonly kind: 'frame' | 'none' | 'other'
  /** Of a frame: physical address of its first byte. Else 0. */
  readonly physical: number
}

export interface PageRunsOptions {
  readonly physical: PhysicalMemory
  readonly format: PageTableFormat
  /** Physical address of the root table. */
  readonly root: number
  /** Tables that may still be read: shared by all walks of one process, against tables that lead to each other. */
  readonly budget: { tables: number }
  readonly faults: Faults
}

/** Tables that are read in one batch. */
const batchTables = 64
const entries = pageBytes / entryBytes

/** The runs of `count` pages from `page` on, without a gap, in order. @throws what reading throws */
export async function* pageRuns(options: PageRunsOptions, page: number, count: number): AsyncGenerator<PageRun> {
  let pending: PageRun | undefined
  const { physical, format, root } = options
  const walk = { ...options, seen: new Set([root]) }
  const [table] = physical.has({ physical: root, length: pageBytes }) ? await physical.readMany([{ physical: root, length: pageBytes }]) : []
  for await (const run of runsOf(walk, format.levels, table, 0, { page, end: page + count })) {
    const isNext = pending?.kind === run.kind && (run.kind !== 'frame' || pending.physical + pending.count * pageBytes === run.physical)
    if (pending && isNext) pending = { ...pending, count: pending.count + run.count }
    else {
      if (pending) yield pending
      pending = run
    }
  }
  if (pending) yield pending
}

interface Walk extends PageRunsOptions {
  /** Tables that this walk has come to: two entries that lead to one table are a circle, or damage. */
  readonly seen: Set<number>
}

interface Wanted {
  readonly page: number
  readonly end: number
}

interface Part extends PageRun {
  /** Of an entry that leads to a table: its physical address. */
  readonly table?: number
}

/** @param first the page that the table's first entry begins at */
async function* runsOf(options: Walk, levels: readonly PageTableLevel[], table: Uint8Array | undefined, first: number, wanted: Wanted): AsyncGenerator<PageRun> {
  const [level, ...below] = levels
  if (level === undefined || table === undefined) {
    yield { page: wanted.page, count: wanted.end - wanted.page, kind: 'other', physical: 0 }
    return
  }
  const parts = partsOf(options.format, level, table, first, wanted)
  for (let at = 0; at < parts.length; at += batchTables) {
    const batch = parts.slice(at, at + batchTables)
    const tables = await readTables(options, batch.flatMap((part) => part.table ?? []))
    for (const part of batch) {
      if (part.table === undefined) yield part
      else {
        const pagesPerEntry = 2 ** (level.shift - 12)
        yield* runsOf(options, below, tables.get(part.table), Math.floor(part.page / pagesPerEntry) * pagesPerEntry, { page: part.page, end: part.page + part.count })
      }
    }
  }
}

/** What the entries of one table say; those alike are taken together. */
function partsOf(format: PageTableFormat, level: PageTableLevel, table: Uint8Array, first: number, { page, end }: Wanted): Part[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength)
  const pagesPerEntry = 2 ** (level.shift - 12)
  const parts: Part[] = []
  let from = page
  while (from < end) {
    const index = Math.floor((from - first) / pagesPerEntry) % entries
    const to = Math.min(end, (Math.floor(from / pagesPerEntry) + 1) * pagesPerEntry)
    const entry = view.getBigUint64(index * entryBytes, true)
    const part = partOf(format, level, entry, from, to - from)
    const last = parts.at(-1)
    const isAlike = last !== undefined && part.table === undefined && last.table === undefined && last.kind === part.kind && (part.kind !== 'frame' || last.physical + last.count * pageBytes === part.physical)
    if (isAlike) parts[parts.length - 1] = { ...last, count: last.count + part.count }
    else parts.push(part)
    from = to
  }
  return parts
}

function partOf(format: PageTableFormat, level: PageTableLevel, entry: bigint, page: number, count: number): Part {
  if (entry === 0n) return { page, count, kind: 'none', physical: 0 }
  const decoded = decodeEntry(format, level, entry)
  if (decoded.kind === 'table') return { page, count, kind: 'other', physical: 0, table: decoded.physical }
  const frame = decoded.kind === 'page' ? decoded.physical : decodeHidden(format, level, entry)
  if (frame === undefined) return { page, count, kind: 'other', physical: 0 }
  return { page, count, kind: 'frame', physical: frame + (page % 2 ** (level.shift - 12)) * pageBytes }
}

async function readTables({ physical, budget, faults, seen }: Walk, wanted: readonly number[]): Promise<Map<number, Uint8Array>> {
  const fresh = wanted.filter((table) => !seen.has(table) && seen.add(table) && physical.has({ physical: table, length: pageBytes }))
  const affordable = fresh.slice(0, Math.max(0, budget.tables))
  if (affordable.length < fresh.length && budget.tables >= 0) {
    // Said once.
    budget.tables = -1
    faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `The page tables of a process of ${physical.memory.peer} are more than can be: what lies behind the rest is left out.`, { peer: physical.memory.peer }))
  } else budget.tables -= affordable.length
  const read = affordable.length === 0 ? [] : await physical.readMany(affordable.map((table) => ({ physical: table, length: pageBytes })))
  return new Map(affordable.map((table, i) => [table, read[i] as Uint8Array]))
}
