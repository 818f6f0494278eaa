/**
 * Runs on a host that is about to panic: holds sessions in its region, and connections in its kernel. Its first argument is
 * a `BusyHostArguments` as JSON; says `{"event":"ready"}` when all are there.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { attach } from '../../src/index.js'
import { bytesCodec } from '../../src/servers/codec.js'

export interface BusyHostArguments {
  readonly region: string
  readonly sessions: number
  readonly sessionBytes: number
  /** Each has two ends, both on this host. */
  readonly connections: number
  readonly deadlineMs: number
}

const { region, sessions, sessionBytes, connections, deadlineMs } = JSON.parse(process.argv[2] ?? '{}') as BusyHostArguments

const node = await attach({ region, name: 'busy-host' })
node.sensor('event-loop', { deadlineMs })
const store = node.sessions('held', { codec: bytesCodec })
for (let i = 0; i < sessions; i++) store.commit(`held-${i}`, new Uint8Array(sessionBytes).fill(i))

const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: connections })
await once(server, 'listening')
const accepted = new Promise<void>((resolve) => {
  let count = 0
  server.on('connection', () => {
    if (++count === connections) resolve()
  })
})
const { port } = server.address() as AddressInfo
for (let i = 0; i < connections; i++) {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
}
await accepted
process.stdout.write(`${JSON.stringify({ event: 'ready' })}\n`)
