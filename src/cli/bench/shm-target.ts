/** A machine without a device: memory of this process, read as another process would read it. */
import type { MemoryRange } from '../../fabric/remote-memory.js'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import { memoryAddon } from '../../native/load.js'
import { fillPattern } from './pattern.js'
import { patternLength, targetLength, type BenchRead, type BenchTarget } from './target.js'

export function openShmTarget(): BenchTarget {
  const { SharedMemory, FileReader } = memoryAddon()
  const shared = new SharedMemory({ create: true, memfd: true, path: 'backdoors-bench', length: targetLength })
  fillPattern(new Uint8Array(shared.buffer, 0, patternLength))
  const path = `/proc/self/fd/${shared.fd}`
  const memory = new ShmMemory({ peer: 'bench', path })
  const file = new FileReader(path)
  return {
    fabric: 'shm',
    device: 'shm',
    responder: 'none: a file is read',
    memory,
    prepare: (ranges: readonly MemoryRange[]): BenchRead => {
      const prepared = memory.prepareRead(ranges)
      const [range, view] = [ranges[0] as MemoryRange, prepared.views[0] as Uint8Array]
      const triple = Float64Array.of(range.offset, range.length, 0)
      return {
        views: prepared.views,
        // What the run of one range comes down to in the addon: shm has no prepared reads that poll.
        ...(ranges.length === 1 ? { runSync: () => void file.read(triple, 1, view) } : {}),
        start: () => prepared.run(),
        close: () => prepared.close(),
      }
    },
    async close() {
      file.close()
      await memory.close()
      shared.close()
    },
  }
}
