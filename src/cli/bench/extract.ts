/** How fast sessions come out of a dead node's memory, and into this node's own. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import { adoptInto } from '../../recovery/adopter.js'
import type { RecoveredSession } from '../../recovery/recover.js'
import { BoxOwner } from '../../region/box-owner.js'
import type { RegionHeader } from '../../region/header.js'
import { boxOffset, record } from '../../region/layout.js'
import { ReadArena } from '../../region/read-arena.js'
import { readHeader, readSessions } from '../../region/region-reader.js'
import { createRegion, type Region } from '../../region/region.js'
import { distributionOf, sorted, type Distribution } from './statistics.js'
import { withFolder } from './watched-file.js'

export interface ExtractOptions {
  /** Sessions that are extracted, and bytes of each. */
  readonly sessions?: number
  readonly sessionBytes?: number
  readonly adopted?: number
  readonly adoptedBytes?: number
  readonly runs?: number
}

export interface ExtractResult {
  readonly sessions: number
  readonly sessionBytes: number
  readonly adopted: number
  readonly adoptedBytes: number
  /** That take part in an extraction here. */
  readonly threads: number
  /** Payloads read and checked, in 10^6 bytes a second. */
  readonly extractMBps: Distribution
  /** The same by one thread. */
  readonly oneThreadMBps: Distribution
  /** The same into memory that was never used: a daemon's first extraction, but for its code. */
  readonly firstExtractMBps: Distribution
  /** The very first, once: its code runs for the first time, too. */
  readonly coldExtractMBps: number
  /** As many bytes of the same memory copied by one thread as they lie there, into memory that is in use already. */
  readonly memcpyMBps: Distribution
  /** The same into memory that was never used: the kernel gives and clears each page. */
  readonly newMemcpyMBps: Distribution
  /** Of extraction by the first memcpy, of each run; both read the same sessions, and write to memory in use. */
  readonly ofMemcpy: Distribution
  readonly oneThreadOfMemcpy: Distribution
  /** For all of them. */
  readonly adoptMs: Distribution
  /** For a picture: what each run took, in MB/s. */
  readonly curves: Readonly<Record<'extraction' | 'memcpy', Float64Array>>
}

const geometryFor = (sessions: number, bytes: number): Parameters<typeof createRegion>[3] => ({
  // Two slots for each session, with all that is round a payload.
  boxCount: 2, sensorsPerBox: 4, sessionsPerBox: sessions, heapBytes: Math.ceil(2.2 * sessions * (bytes + record.headerBytes + 128) + 65_536),
})

/** Runs after which the compilers are done: they are not counted. */
const warmUpRuns = 5

const ttl = { ttlMs: 3_600_000, schemaVersion: 1 }

export async function benchExtract(options: ExtractOptions, progress: (text: string) => void): Promise<ExtractResult> {
  const { sessions = 10_000, sessionBytes = 4096, adopted = 100_000, adoptedBytes = 256, runs = 10 } = options
  return withFolder(async (folder) => {
    const rates = await timeExtraction(folder, { sessions, sessionBytes, runs }, progress)
    const adoptMs = new Float64Array(runs)
    const wanted = sessionsToAdopt(adopted, adoptedBytes)
    for (let run = 0; run < runs; run++) {
      progress(`adoption ${run + 1} of ${runs}`)
      adoptMs[run] = await timeAdoption(join(folder, `adopter-${run}`), wanted, adoptedBytes)
    }
    const of = (samples: Float64Array): Distribution => distributionOf(sorted(samples))
    const { copy, extract, oneThread } = rates
    const ofMemcpy = (samples: Float64Array): Distribution => of(samples.map((rate, run) => rate / (copy[run] as number)))
    return {
      sessions, sessionBytes, adopted, adoptedBytes, threads: rates.threads, extractMBps: of(extract), oneThreadMBps: of(oneThread), firstExtractMBps: of(rates.first),
      coldExtractMBps: rates.cold, memcpyMBps: of(copy), newMemcpyMBps: of(rates.newCopy), ofMemcpy: ofMemcpy(extract), oneThreadOfMemcpy: ofMemcpy(oneThread), adoptMs: of(adoptMs),
      curves: { extraction: sorted(extract), memcpy: sorted(copy) },
    }
  })
}

interface Rates extends Record<'extract' | 'oneThread' | 'copy' | 'first' | 'newCopy', Float64Array> {
  readonly cold: number
  readonly threads: number
}

type Counts = Readonly<Record<'sessions' | 'sessionBytes' | 'runs', number>>

async function timeExtraction(folder: string, { sessions, sessionBytes, runs }: Counts, progress: (text: string) => void): Promise<Rates> {
  const path = join(folder, 'dead')
  const region = createRegion(path, 'dead', 'bench', geometryFor(sessions, sessionBytes))
  const threads = Math.min(2, availableParallelism())
  const memory = new ShmMemory({ peer: 'dead', path, isHelped: threads > 1 })
  const alone = new ShmMemory({ peer: 'dead', path, isHelped: false })
  try {
    const owner = BoxOwner.take(region, { name: 'bench' })
    fill(owner, sessions, sessionBytes)
    const header = await readHeader(memory)
    const rateOf = (ms: number): number => (sessions * sessionBytes) / ms / 1000
    const rateFrom = async (from: ShmMemory, arena: ReadArena): Promise<number> => {
      arena.reset()
      return rateOf(await timeOne(from, header, owner.box, arena, { sessions, sessionBytes }))
    }
    const cold = await rateFrom(memory, new ReadArena())
    const lying = region.bytes.subarray(boxOffset(header.plan, owner.box) + header.plan.heapInBox).subarray(0, sessions * sessionBytes)
    const [extract, oneThread, copy, first, newCopy] = Array.from({ length: 5 }, () => new Float64Array(runs)) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]
    const target = new Uint8Array(lying.length).fill(1)
    const arena = new ReadArena()
    for (let run = -warmUpRuns; run < runs; run++) {
      if (run >= 0) progress(`extraction ${run + 1} of ${runs}`)
      // A place before the first is no element of the array.
      extract[run] = await rateFrom(memory, arena)
      copy[run] = rateOf(timeMs(() => target.set(lying)))
      oneThread[run] = await rateFrom(alone, arena)
    }
    // By themselves: what is thrown away each time is given back to the kernel while something else is timed.
    for (let run = 0; run < runs; run++) {
      progress(`extraction into new memory ${run + 1} of ${runs}`)
      first[run] = await rateFrom(memory, new ReadArena())
      newCopy[run] = rateOf(timeMs(() => new Uint8Array(lying)))
    }
    owner.close()
    return { extract, oneThread, copy, first, newCopy, cold, threads }
  } finally {
    await memory.close()
    await alone.close()
    region.memory.close()
  }
}

/** @returns what it took, in milliseconds */
async function timeOne(memory: ShmMemory, header: RegionHeader, box: number, arena: ReadArena, { sessions, sessionBytes }: { sessions: number; sessionBytes: number }): Promise<number> {
  const startMs = performance.now()
  const { sessions: found } = await readSessions(memory, header, box, undefined, undefined, arena)
  const tookMs = performance.now() - startMs
  if (found.length !== sessions || found.some(({ payload }) => payload.length !== sessionBytes)) throw new Error(`${found.length} sessions came out of ${sessions}`)
  return tookMs
}

function timeMs(run: () => unknown): number {
  const startMs = performance.now()
  run()
  return performance.now() - startMs
}

/** Each once, and every third once more, so that not all stand in their first slot. */
function fill(owner: BoxOwner, sessions: number, bytes: number): void {
  const store = owner.sessions.store('shop')
  const payload = new Uint8Array(bytes).fill(0x5a)
  for (let i = 0; i < sessions; i++) owner.sessions.commit(store, `session-${i}`, payload, ttl)
  for (let i = 0; i < sessions; i += 3) owner.sessions.commit(store, `session-${i}`, payload, ttl)
}

function sessionsToAdopt(count: number, bytes: number): RecoveredSession[] {
  const all = new Uint8Array(count * bytes).fill(0x5a)
  return Array.from({ length: count }, (_, i) => ({
    store: 'shop', id: `session-${i}`, sequence: i + 1, schemaVersion: 1, committedAtMs: 1000, ttlMs: ttl.ttlMs, remainingMs: ttl.ttlMs, stale: false,
    payload: all.subarray(i * bytes, (i + 1) * bytes), adoptedFrom: undefined, origin: { node: 'dead', incarnation: 0x1234_5678_9abc_def0n, box: 1, sequence: i + 1 },
  }))
}

async function timeAdoption(path: string, sessions: readonly RecoveredSession[], bytes: number): Promise<number> {
  const region: Region = createRegion(path, 'heir', 'bench', geometryFor(sessions.length, bytes))
  try {
    const owner = BoxOwner.take(region, { name: 'daemon' })
    const startMs = performance.now()
    const { adopted } = await adoptInto(owner, sessions)
    const ms = performance.now() - startMs
    if (adopted !== sessions.length) throw new Error(`${adopted} sessions of ${sessions.length} were adopted`)
    owner.close()
    return ms
  } finally {
    region.memory.close()
  }
}
