import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Server } from 'socket.io'
import { io } from 'socket.io-client'
import type { AttachedNode } from 'backdoors'
import { recoveryAdapter } from 'backdoors/socket.io'
import { twoNodes } from './two-nodes.js'

function serve(node: AttachedNode, port: number): Server {
  const server = new Server({ connectionStateRecovery: {}, adapter: recoveryAdapter(node, { waitMs: 30_000 }) })
  server.on('connection', (socket) => {
    if (!socket.recovered) void socket.join('lobby')
    socket.emit('news', socket.recovered ? 'go on' : 'welcome')
  })
  return server.listen(port)
}

const nodes = await twoNodes()
const onA = serve(nodes.a, 0)
const { port } = onA.httpServer.address() as AddressInfo
const client = io(`http://127.0.0.1:${port}`)
const heard: string[] = []
const until = (what: string): Promise<void> => new Promise((resolve) => client.on('news', (news: string) => news === what && resolve()))
client.on('news', (news: string) => heard.push(news))
await until('welcome')

// The client is cut off, and what it misses is sent meanwhile. Then the server hangs, and another takes its address over.
client.io.engine.close()
onA.to('lobby').emit('news', 'one')
onA.to('lobby').emit('news', 'two')
nodes.hang()
await once(nodes.a, 'fenced')
await onA.close()
const onB = serve(nodes.b, port)
await until('go on')
console.log(client.recovered ? 'The client has recovered:' : 'The client is a new one:', heard)

client.disconnect()
await onB.close()
await nodes.close()
