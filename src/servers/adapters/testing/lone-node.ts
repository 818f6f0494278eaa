/** A region without a daemon, and a server that is attached to it; both can be fenced as a recoverer does it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fenceAll, encodeFence } from '../../../region/control.js'
import { controlPairOffset } from '../../../region/layout.js'
import { createRegion, type Region } from '../../../region/region.js'
import { attach, type AttachedNode } from '../../attach.js'

export interface LoneNode {
  readonly node: AttachedNode
  /** Of every box there is. */
  fence(): void
  /** The server ends in order, and starts again. */
  restart(): Promise<AttachedNode>
  close(): Promise<void>
}

export async function loneNode(geometry: { sessionsPerBox?: number; heapBytes?: number } = {}): Promise<LoneNode> {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-adapter-'))
  const path = join(folder, 'region')
  const region: Region = createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox: 2, sessionsPerBox: 4096, heapBytes: 4 << 20, ...geometry })
  let node = await attach({ region: path, name: 'web' })
  return {
    get node() {
      return node
    },
    fence: () => {
      new BigUint64Array(region.memory.buffer, controlPairOffset(1), 1)[0] = encodeFence(fenceAll, 0)
    },
    restart: async () => {
      await node.close()
      node = await attach({ region: path, name: 'web' })
      return node
    },
    close: async () => {
      await node.close()
      region.memory.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
