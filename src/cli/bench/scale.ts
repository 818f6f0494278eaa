/** What it costs one sampler thread to watch many, and how many it can. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleepMs } from 'node:timers/promises'
import type { Watch } from '../../fabric/remote-memory.js'
import { createShmSampler, type ShmSampler } from '../../fabric/shm/shm-sampler.js'
import { memoryAddon } from '../../native/load.js'
import { Histogram } from '../../fabric/histogram.js'
import { WatchedFile, withFolder } from './watched-file.js'

export interface ScaleRow {
  readonly peers: number
  /** Of all peers together. */
  readonly sensors: number
  /** At 1 kHz: rounds of each peer a second, on average. */
  readonly heldHz: number
  /** Of one processor's time, in percent, and for each peer. */
  readonly cpuPercent: number
  readonly cpuPercentPerPeer: number
  /** Processor time of one round of one peer, in microseconds. */
  readonly cpuUsPerRound: number
  /** How much later than meant reads were posted. */
  readonly latenessP50Us: number
  readonly latenessP99Us: number
  /** The highest rate tried at which 99% of all rounds were held, a second and peer; 0 where none was. */
  readonly highestHeldHz: number
}

/** Tried in this order, in microseconds. */
const triedIntervalsUs: readonly number[] = [20, 50, 100, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000]
const heldShare = 0.99
const sensorsPerPeer = 4
/** Apart from each other as sensor cells are, in bytes. */
const cellBytes = 64
const beatEveryMs = 5

/** @param cpu the processor that the thread keeps to */
export async function benchScale(peers: number, secondsEach: number, cpu: number): Promise<ScaleRow> {
  return withFolder(async (folder) => {
    const sampler = createShmSampler({ cpu })
    const fleet = new Fleet(folder, peers, sampler)
    try {
      const { cpuUs, rounds, us, lateness } = await fleet.measure(1000, secondsEach)
      return {
        peers, sensors: peers * sensorsPerPeer, heldHz: (rounds / peers / us) * 1e6, cpuPercent: (cpuUs / us) * 100, cpuPercentPerPeer: (cpuUs / us / peers) * 100,
        cpuUsPerRound: cpuUs / rounds, latenessP50Us: lateness.quantileUs(0.5), latenessP99Us: lateness.quantileUs(0.99), highestHeldHz: await highestHeld(fleet, peers, secondsEach),
      }
    } finally {
      await fleet.close()
      sampler.close()
    }
  })
}

async function highestHeld(fleet: Fleet, peers: number, secondsEach: number): Promise<number> {
  for (const intervalUs of triedIntervalsUs) {
    const { rounds, us } = await fleet.measure(intervalUs, secondsEach)
    if (rounds >= (heldShare * peers * us) / intervalUs) return 1e6 / intervalUs
  }
  return 0
}

interface Measured {
  /** Of the sampler's thread. */
  readonly cpuUs: number
  readonly rounds: number
  readonly us: number
  readonly lateness: Histogram
}

class Fleet {
  readonly #files: readonly WatchedFile[]
  readonly #watches: readonly Watch[]
  readonly #words: readonly Uint32Array[]

  constructor(folder: string, peers: number, sampler: ShmSampler) {
    this.#files = Array.from({ length: peers }, (_, i) => new WatchedFile(join(folder, `peer-${i}`), sampler, 4096))
    this.#words = this.#files.map(({ shared }) => new Uint32Array(shared.buffer))
    this.#watches = this.#files.map(({ memory }) => memory.watch(planAt(1000), () => undefined))
  }

  async measure(intervalUs: number, seconds: number): Promise<Measured> {
    for (const watch of this.#watches) watch.update(planAt(intervalUs))
    const beats = setInterval(() => this.#beat(), beatEveryMs)
    try {
      await sleepMs(Math.min(200, seconds * 200))
      const before = this.#look()
      await sleepMs(seconds * 1000)
      const after = this.#look()
      return { cpuUs: after.cpuUs - before.cpuUs, rounds: after.rounds - before.rounds, us: after.atUs - before.atUs, lateness: after.lateness.since(before.lateness) }
    } finally {
      clearInterval(beats)
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()))
  }

  #beat(): void {
    for (const words of this.#words) for (let i = 0; i < sensorsPerPeer; i++) words[(i * cellBytes) / 4] = ((words[(i * cellBytes) / 4] as number) + 1) >>> 0
  }

  #look(): { cpuUs: number; rounds: number; atUs: number; lateness: Histogram } {
    const atUs = memoryAddon().monotonicUs()
    const cpuUs = threadCpuUs('bd-sampler')
    const states = this.#watches.map(({ state }) => state)
    const lateness = new Histogram()
    for (const { histograms } of states) histograms?.lateness.counts.forEach((count, bucket) => (lateness.counts[bucket] = (lateness.counts[bucket] ?? 0) + count))
    return { atUs, cpuUs, rounds: states.reduce((sum, { rounds }) => sum + rounds, 0), lateness }
  }
}

const planAt = (intervalUs: number): Parameters<Watch['update']>[0] => ({
  cells: Array.from({ length: sensorsPerPeer }, (_, i) => ({ counterOffset: i * cellBytes, deadlineUs: 10e6 })),
  intervalUs,
  unreachableAfterUs: 60e6,
})

/** Processor time that the thread of this name has used, in microseconds: the first field of its schedstat. */
export function threadCpuUs(name: string): number {
  for (const task of readdirSync('/proc/self/task')) {
    const folder = `/proc/self/task/${task}`
    if (readFileSync(`${folder}/comm`, 'utf8').trim() === name) return Number(readFileSync(`${folder}/schedstat`, 'utf8').split(' ')[0]) / 1000
  }
  return 0
}
