/** How fast sessions come out of a dead node's memory, and into this node's own. */
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
  /** Payloads read and checked, in 10^6 bytes a second. */
  readonly extractMBps: Distribution
  /** The same into memory that was never used: a daemon's first extraction. */
  readonly firstExtractMBps: Distribution
  /** As many bytes of the same memory copied as they lie there, into memory that is in use already. */
  readonly memcpyMBps: Distribution
  /** The same into memory that was never used: the kernel gives and clears each page. */
  readonly newMemcpyMBps: Distribution
  /** Of extraction by the first memcpy, of each run; both read the same sessions, and write to memory in use. */
  readonly ofMemcpy: Distribution
  /** For all of them. */
  readonly adoptMs: Distribution
  /** For a picture: what each run took, in MB/s. */
  readonly curves: Readonly<Record<'extraction' | 'memcpy', Float64Array>>
}

const geometryFor = (sessions: number, bytes: number): Parameters<typeof createRegion>[3] => ({
  // Two slots for each session, with all that is round a payload.
  boxCount: 2, sensorsPerBox: 4, sessionsPerBox: sessions, heapBytes: Math.ceil(2.2 * sessions * (bytes + record.headerBytes + 128) + 65_536),
})

const ttl = { ttlMs: 3_600_000, schemaVersion: 1 }

export async function benchExtract(options: ExtractOptions, progress: (text: string) => void): Promise<ExtractResult> {
  const { sessions = 10_000, sessionBytes = 4096, adopted = 100_000, adoptedBytes = 256, runs = 10 } = options
  return withFolder(async (folder) => {
    const { extract, first, copy, newCopy } = await timeExtraction(folder, { sessions, sessionBytes, runs }, progress)
    const adoptMs = new Float64Array(runs)
    const wanted = sessionsToAdopt(adopted, adoptedBytes)
    for (let run = 0; run < runs; run++) {
      progress(`adoption ${run + 1} of ${runs}`)
      adoptMs[run] = await timeAdoption(join(folder, `adopter-${run}`), wanted, adoptedBytes)
    }
    const of = (samples: Float64Array): Distribution => distributionOf(sorted(samples))
    return {
      sessions, sessionBytes, adopted, adoptedBytes, extractMBps: of(extract), firstExtractMBps: of(first), memcpyMBps: of(copy), newMemcpyMBps: of(newCopy),
      ofMemcpy: of(extract.map((rate, run) => rate / (copy[run] as number))), adoptMs: of(adoptMs),
      curves: { extraction: sorted(extract), memcpy: sorted(copy) },
    }
  })
}

async function timeExtraction(folder: string, { sessions, sessionBytes, runs }: { sessions: number; sessionBytes: number; runs: number }, progress: (text: string) => void): Promise<Record<'extract' | 'first' | 'copy' | 'newCopy', Float64Array>> {
  const path = join(folder, 'dead')
  const region = createRegion(path, 'dead', 'bench', geometryFor(sessions, sessionBytes))
  const memory = new ShmMemory({ peer: 'dead', path })
  try {
    const owner = BoxOwner.take(region, { name: 'bench' })
    fill(owner, sessions, sessionBytes)
    const header = await readHeader(memory)
    const [extract, first, copy, newCopy] = [new Float64Array(runs), new Float64Array(runs), new Float64Array(runs), new Float64Array(runs)]
    const lying = region.bytes.subarray(boxOffset(header.plan, owner.box) + header.plan.heapInBox).subarray(0, sessions * sessionBytes)
    const target = new Uint8Array(lying.length).fill(1)
    const arena = new ReadArena()
    // The first run of each is not counted.
    for (let run = -1; run < runs; run++) {
      progress(`extraction ${run + 1} of ${runs}`)
      const firstMs = await timeOne(memory, header, owner.box, new ReadArena(), { sessions, sessionBytes })
      arena.reset()
      const extractMs = await timeOne(memory, header, owner.box, arena, { sessions, sessionBytes })
      const copyMs = timeMs(() => target.set(lying))
      const newCopyMs = timeMs(() => new Uint8Array(lying))
      if (run < 0) continue
      first[run] = (sessions * sessionBytes) / firstMs / 1000
      extract[run] = (sessions * sessionBytes) / extractMs / 1000
      copy[run] = target.length / copyMs / 1000
      newCopy[run] = target.length / newCopyMs / 1000
    }
    owner.close()
    return { extract, first, copy, newCopy }
  } finally {
    await memory.close()
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
