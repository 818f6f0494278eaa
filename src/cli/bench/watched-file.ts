/** A file that stands for a host's memory, and what watches it: what the benchmarks of the sampler have in common. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { BackdoorsError } from '../../errors.js'
import type { Watch } from '../../fabric/remote-memory.js'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import type { ShmSampler } from '../../fabric/shm/shm-sampler.js'
import { memoryAddon } from '../../native/load.js'
import type { SharedMemory } from '../../native/memory.js'

/** Where regions stand: a file on a disk would be written back to it now and then. */
const parentFolder = (): string => (existsSync('/dev/shm') ? '/dev/shm' : tmpdir())

/** A folder for as long as `run` takes. */
export async function withFolder<T>(run: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(parentFolder(), 'backdoors-bench-'))
  try {
    return await run(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export class WatchedFile {
  readonly shared: SharedMemory
  readonly memory: ShmMemory

  constructor(path: string, sampler?: ShmSampler, length = 65_536) {
    this.shared = new (memoryAddon().SharedMemory)({ create: true, path, length })
    this.memory = new ShmMemory({ peer: 'bench', path, ...(sampler === undefined ? {} : { sampler }) })
  }

  get path(): string {
    return this.shared.path
  }

  async close(): Promise<void> {
    await this.memory.close()
    this.shared.close()
  }
}

/** Longer than anything here takes: what is waited for so long does not come. */
const patienceMs = 60_000

/** @throws BackdoorsError TIMEOUT */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const untilMs = performance.now() + patienceMs
  while (!holds()) {
    if (performance.now() > untilMs) throw new BackdoorsError('TIMEOUT', `the benchmark has waited ${patienceMs} ms in vain for ${what}`)
    await sleepMs(1)
  }
}

export const roundsMore = async (watch: Watch, count: number): Promise<void> => {
  const from = watch.state.rounds
  await until(`${count} rounds`, () => watch.state.rounds >= from + count)
}

/** How often a host beats whose deadline this is, in microseconds: as a daemon does. */
export const beatIntervalUs = (deadlineUs: number): number => Math.max(50, deadlineUs / 20)
