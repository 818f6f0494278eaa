import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryAddon } from '../../native/load.js'
import { describeRemoteMemoryContract } from '../testing/contract.js'
import { contractMemoryBytes } from '../testing/memory-fixture.js'
import { ShmMemory } from './shm-memory.js'

describeRemoteMemoryContract('shm', () => {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-contract-'))
  const path = join(folder, 'region')
  const owner = new (memoryAddon().SharedMemory)({ create: true, path, length: contractMemoryBytes })
  const [controlOffset, controlLength] = [4_096, 4_096]
  const connect = (): ShmMemory => new ShmMemory({ peer: 'b', path, controlOffset, controlLength })
  const memory = connect()
  const opened = [memory]
  return Promise.resolve({
    memory,
    bytes: new Uint8Array(owner.buffer),
    controlOffset,
    controlLength,
    connect: () => {
      const other = connect()
      opened.push(other)
      return Promise.resolve(other)
    },
    // Memory of the same machine goes away only where its file is cut off. Nobody may touch the owner's bytes
    // from then on.
    kill: () => Promise.resolve(truncateSync(path, 0)),
    close: async () => {
      for (const each of opened) await each.close()
      owner.close()
      rmSync(folder, { recursive: true })
    },
  })
})
