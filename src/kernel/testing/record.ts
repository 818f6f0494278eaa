/** Notes which pages of a memory are read, and makes a core of just those: a recorded host. */
import type { MemoryRange, ReadableMemory } from '../../fabric/remote-memory.js'
import { elfMachines } from '../elf.js'
import { headBytes, packHead, packNotes, type ElfSegment } from '../exports/elf-writer.js'
import { pageBytes } from '../page-table-format.js'
import type { PhysicalMemory } from '../physical-memory.js'

export class Recorder implements ReadableMemory {
  readonly #memory: ReadableMemory
  /** Numbers of pages. */
  readonly #pages = new Set<number>()

  constructor(memory: ReadableMemory) {
    this.#memory = memory
  }

  get peer(): string {
    return this.#memory.peer
  }

  get length(): number {
    return this.#memory.length
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    for (const { offset, length } of ranges) {
      for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + length; page++) this.#pages.add(page)
    }
    return await this.#memory.readMany(ranges)
  }

  /** The pages that were read, as rows without a gap: first page, and how many. */
  runs(): [number, number][] {
    const runs: [number, number][] = []
    for (const page of [...this.#pages].sort((a, b) => a - b)) {
      const last = runs.at(-1)
      if (last && last[0] + last[1] === page) last[1]++
      else runs.push([page, 1])
    }
    return runs
  }
}

/**
 * An ELF core that has these pages of a physical memory and no others.
 * @param change may write to each page, of which it is told the physical address
 */
export async function coreOf(physical: PhysicalMemory, runs: readonly (readonly [number, number])[], change: (bytes: Uint8Array, physical: number) => void): Promise<Uint8Array> {
  const notes = packNotes([])
  let offset = headBytes(notes.length, runs.length)
  const segments = runs.map(([page, count]): ElfSegment => {
    const bytes = count * pageBytes
    const segment = { offset, virtual: 0n, physical: BigInt(page * pageBytes), fileBytes: bytes, memoryBytes: bytes, flags: 4 }
    offset += bytes
    return segment
  })
  const core = new Uint8Array(offset)
  core.set(packHead(elfMachines.x86, notes, segments))
  const read = await physical.readMany(segments.map(({ physical: at, fileBytes }) => ({ physical: Number(at), length: fileBytes })))
  for (const [i, segment] of segments.entries()) {
    const bytes = (read[i] as Uint8Array).slice()
    change(bytes, Number(segment.physical))
    core.set(bytes, segment.offset)
  }
  return core
}
