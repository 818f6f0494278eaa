/** What a server pays for being recoverable: its commits and its beats, in the process that makes them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getHeapStatistics } from 'node:v8'
import { BoxOwner } from '../../region/box-owner.js'
import { createRegion, type Region } from '../../region/region.js'
import { messagePackCodec } from '../../servers/codec.js'
import { distributionOf, sorted } from './statistics.js'

export interface CommitBenchOptions {
  /** Samples of each row. Default 200,000. */
  readonly samples?: number
  /** Runs before the samples, uncounted. Default: as many as samples, at most 50,000. */
  readonly warmUp?: number
  /** Sessions that are committed in turn. Default 1000. */
  readonly sessions?: number
  /** Where the region is made for as long as this runs. Default: the system's folder for temporary files. */
  readonly folder?: string
  /** Called with what was timed for each row, ascending; times `scale` it is in microseconds. */
  readonly onSamples?: (name: string, ascending: Float64Array, scale: number) => void
}

export interface CommitBenchRow {
  readonly name: string
  readonly unit: 'µs' | 'B'
  readonly samples: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

export interface Cart {
  readonly user: string
  readonly currency: string
  readonly items: readonly { readonly sku: string; readonly name: string; readonly quantity: number; readonly cents: number }[]
  readonly updatedAtMs: number
}

export const cart: Cart = {
  user: 'customer-174230',
  currency: 'EUR',
  items: ['espresso cups', 'kettle', 'filter papers', 'grinder', 'beans, 1 kg'].map((name, i) => ({ sku: `sku-${1000 + 37 * i}`, name, quantity: 1 + (i % 3), cents: 499 + 850 * i })),
  updatedAtMs: 1_763_880_000_000,
}

const payloadSizes = [64, 1024, 16_384]
/** A beat is shorter than a look at the clock, so that many are timed together. */
const beatsPerSample = 1000
const usPerMs = 1000

/**
 * Times commits of bytes in several sizes, of a typical cart, and beats, in a region of its own.
 * @throws BackdoorsError SYSTEM_CALL_FAILED where there is no room for the region
 */
export function benchCommit(options: CommitBenchOptions = {}): CommitBenchRow[] {
  const { samples = 200_000, warmUp = Math.min(samples, 50_000), sessions = 1000 } = options
  return withRegion(options.folder ?? tmpdir(), sessions, (region) => {
    const owner = BoxOwner.take(region, { name: 'bench' })
    const measure = (name: string, run: (i: number) => void, runsPerSample = 1, count = samples): CommitBenchRow => {
      time(run, warmUp)
      const ascending = sorted(time(run, count))
      options.onSamples?.(name, ascending, usPerMs / runsPerSample)
      const { p50, p99, p999 } = distributionOf(ascending, usPerMs / runsPerSample)
      return { name, unit: 'µs', samples: count, p50, p99, p999 }
    }
    const commits = payloadSizes.map((bytes) => measure(`commit-${bytes}B`, committing(owner, sessions, bytes)))
    const sensor = owner.sensor({ name: 'event-loop', kind: 'progress', deadlineUs: 50_000 })
    const beat = (): void => {
      for (let i = 0; i < beatsPerSample; i++) sensor.beat()
    }
    const rows = [
      ...commits,
      measure('commit-cart', committingCarts(owner, sessions)),
      measure('beat', beat, beatsPerSample, Math.ceil(samples / beatsPerSample)),
      garbageRow(owner, sessions, samples),
    ]
    owner.close()
    return rows
  })
}

function withRegion<T>(parent: string, sessions: number, run: (region: Region) => T): T {
  const folder = mkdtempSync(join(parent, 'backdoors-bench-'))
  const room = 2 * 1.3 * payloadSizes.reduce((sum, bytes) => sum + bytes + 256, 1024) * sessions
  let region: Region | undefined
  try {
    region = createRegion(join(folder, 'region'), 'bench', 'bench', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 5 * sessions, heapBytes: Math.ceil(room) })
    return run(region)
  } finally {
    region?.memory.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function committing(owner: BoxOwner, sessions: number, bytes: number): (i: number) => void {
  const store = owner.sessions.store(`bytes-${bytes}`)
  const ids = Array.from({ length: sessions }, (_, i) => `session-${i}`)
  const payload = new Uint8Array(bytes).fill(0x5a)
  const options = { ttlMs: 3_600_000, schemaVersion: 1 }
  return (i) => owner.sessions.commit(store, ids[i % sessions] as string, payload, options)
}

function committingCarts(owner: BoxOwner, sessions: number): (i: number) => void {
  const store = owner.sessions.store('carts')
  const codec = messagePackCodec<Cart>()
  const options = { ttlMs: 3_600_000, schemaVersion: 1 }
  return (i) => owner.sessions.commit(store, `session-${i % sessions}`, codec.encode(cart), options)
}

/** @returns the milliseconds that each sample took */
function time(run: (i: number) => void, samples: number): Float64Array {
  const ms = new Float64Array(samples)
  for (let i = 0; i < samples; i++) {
    const startMs = performance.now()
    run(i)
    ms[i] = performance.now() - startMs
  }
  return ms
}

/** Commits between two looks at the heap; few, so that hardly any interval has a collection in it. */
const commitsPerInterval = 1000

/** Bytes of the JavaScript heap that a commit of 1 KiB uses up, each sample over many commits. */
function garbageRow(owner: BoxOwner, sessions: number, samples: number): CommitBenchRow {
  const commit = committing(owner, sessions, 1024)
  const intervals = Math.max(3, Math.ceil(samples / commitsPerInterval))
  const bytes = new Float64Array(intervals)
  for (let interval = 0; interval < intervals; interval++) {
    const before = getHeapStatistics().used_heap_size
    for (let i = 0; i < commitsPerInterval; i++) commit(i)
    bytes[interval] = (getHeapStatistics().used_heap_size - before) / commitsPerInterval
  }
  const { p50, p99, p999 } = distributionOf(sorted(bytes))
  return { name: 'commit-1024B-garbage', unit: 'B', samples: intervals, p50, p99, p999 }
}
