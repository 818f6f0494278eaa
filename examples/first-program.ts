import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { attach, startDaemon, type Adopted, type Daemon } from 'backdoors'

interface Cart {
  items: string[]
}

// Two nodes on this machine. In earnest each machine runs `backdoors daemon`, and they are peers over RDMA.
const folder = mkdtempSync('/dev/shm/first-program-')
const region = (node: string): string => `${folder}/${node}`
const start = (node: string, peer: string): Promise<Daemon> =>
  startDaemon({ node, log: 'silent', region: { path: region(node), boxes: 2, heapBytes: 1 << 20 }, peers: [{ name: peer, region: region(peer) }] })
const daemons = [await start('a', 'b'), await start('b', 'a')]

// A server on a: it commits a session before it answers its client.
const shop = await attach({ region: region('a'), name: 'shop' })
shop.sessions<Cart>('carts').commit('u-17', { items: ['book'] })

// The same server on b. It serves carts too, and those that it adopts.
const other = await attach({ region: region('b'), name: 'shop' })
const carts = other.sessions<Cart>('carts')

// The server on a hangs: work is pending, and its sensor moves no more. Node b fences it and recovers its sessions.
shop.sensor('requests', { deadlineMs: 100 }).pending(1)
const [{ from, ids }] = (await once(carts, 'adopted')) as [Adopted]
for (const id of ids) console.log(`${id} came over from ${from}:`, carts.get(id))

for (const part of [shop, other, ...daemons]) await part.close()
rmSync(folder, { recursive: true })
