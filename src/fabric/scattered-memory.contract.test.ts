import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryAddon } from '../native/load.js'
import { ScatteredMemory } from './scattered-memory.js'
import { ShmMemory } from './shm/shm-memory.js'
import { describeRemoteMemoryContract } from './testing/contract.js'
import { contractMemoryBytes } from './testing/memory-fixture.js'

/** The suite sees one memory by its bytes, so its pages are all as far from where they seem to be. */
const pageBytes = 4096
const shift = 3 * pageBytes

describeRemoteMemoryContract('scattered', () => {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-scattered-'))
  const path = join(folder, 'ram')
  const owner = new (memoryAddon().SharedMemory)({ create: true, path, length: shift + contractMemoryBytes })
  const [controlOffset, controlLength] = [4_096, 4_096]
  const pages = Array.from({ length: contractMemoryBytes / pageBytes }, (_, i) => shift + i * pageBytes)
  const opened: { close(): Promise<void> }[] = []
  const connect = (): ScatteredMemory => {
    const base = new ShmMemory({ peer: 'b', path, controlOffset: shift + controlOffset, controlLength })
    const memory = new ScatteredMemory({ base, pages, pageBytes })
    opened.push(memory, base)
    return memory
  }
  return Promise.resolve({
    memory: connect(),
    bytes: new Uint8Array(owner.buffer, shift, contractMemoryBytes),
    controlOffset,
    controlLength,
    connect: () => Promise.resolve(connect()),
    kill: () => Promise.resolve(truncateSync(path, 0)),
    close: async () => {
      for (const each of opened) await each.close()
      owner.close()
      rmSync(folder, { recursive: true })
    },
  })
})
