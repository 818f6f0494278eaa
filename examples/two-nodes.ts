/** Two nodes on this machine, and a server on each. In earnest each machine runs `backdoors daemon`, and they are peers over RDMA. */
import { mkdtempSync, rmSync } from 'node:fs'
import { attach, startDaemon, type AttachedNode, type Daemon } from 'backdoors'

export interface TwoNodes {
  readonly a: AttachedNode
  readonly b: AttachedNode
  /** The server on a hangs: work is pending, and its sensor moves no more. Node b fences it and recovers its sessions. */
  hang(): void
  close(): Promise<void>
}

export async function twoNodes(): Promise<TwoNodes> {
  const folder = mkdtempSync('/dev/shm/two-nodes-')
  const region = (node: string): string => `${folder}/${node}`
  const start = (node: string, peer: string): Promise<Daemon> =>
    startDaemon({ node, log: 'silent', region: { path: region(node), boxes: 2, heapBytes: 1 << 20 }, peers: [{ name: peer, region: region(peer) }] })
  const daemons = [await start('a', 'b'), await start('b', 'a')]
  const [a, b] = await Promise.all([attach({ region: region('a'), name: 'server' }), attach({ region: region('b'), name: 'server' })])
  // From this one it knows soon that it has been fenced.
  a.sensor('event-loop', { deadlineMs: 10_000, everyMs: 10 })
  return {
    a, b,
    hang: () => a.sensor('requests', { deadlineMs: 100 }).pending(1),
    close: async () => {
      for (const part of [a, b, ...daemons]) await part.close()
      rmSync(folder, { recursive: true })
    },
  }
}
