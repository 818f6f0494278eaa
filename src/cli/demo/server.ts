/**
 * The demo's example server, a process of its own: it attaches to its machine's region, keeps its sessions there,
 * and answers its clients over TCP. Its first argument is a `ServerArguments` as JSON; what
 * happens to it is told on stdout as JSON lines.
 */
import { createServer, type Socket } from 'node:net'
import { attach } from '../../servers/attach.js'
import type { SessionStore } from '../../servers/session-store.js'
import { safeguardsWithout, type Canary } from '../../safeguards.js'
import { monotonicMs } from '../../native/clock.js'
import { exitCodeOf, exitCodes } from '../exit-codes.js'
import { readLines, type Request, type SessionState } from './protocol.js'
import { SessionServer } from './session-server.js'

export interface ServerArguments {
  readonly node: string
  readonly region: string
  /** Address to listen on. */
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
  /** Of its event loop's sensor, in milliseconds. Default 50. */
  readonly deadlineMs?: number
  /** End when stdin is closed, which happens however the process at its other end ends. */
  readonly endWithInput?: boolean
  readonly canary?: Canary
}

/** Name of its session store, in every node's region. */
export const storeName = 'sessions'

/** What is still on its way to a fenced server is refused for so long, in milliseconds; then its process ends. */
const refusingMs = 400

/** Portions of one takeover follow each other within so long, in milliseconds. */
const portionsWithinMs = 20

const tell = (event: string, fields: object = {}): void => {
  process.stdout.write(`${JSON.stringify({ event, atMs: monotonicMs(), ...fields })}\n`)
}

async function main({ node: name, region, host, port, deadlineMs = 50, endWithInput = false, canary }: ServerArguments): Promise<void> {
  const node = await attach({ region, name: 'shop', safeguards: safeguardsWithout(canary) })
  node.sensor('event-loop', { deadlineMs })
  const sessions = node.sessions<SessionState>(storeName)
  tellAdopted(sessions)
  const server = new SessionServer({
    node: name,
    sessions,
    isFenced: () => node.fenced,
    onFenced: () => {
      tell('fenced')
      listener.close()
      setTimeout(() => process.exit(exitCodes.fenced), refusingMs)
    },
  })
  node.once('fenced', () => void server.stop())
  const listener = createServer((socket) => serve(socket, server))
  listener.listen(port, host, () => {
    const address = listener.address()
    tell('serving', { port: typeof address === 'object' ? address?.port : port, deadlineMs })
  })
  if (endWithInput) process.stdin.on('end', () => process.exit(0)).resume()
}

/** They come over in portions, and are told of as one. */
function tellAdopted(sessions: SessionStore<SessionState>): void {
  let count = 0
  let timer: NodeJS.Timeout | undefined
  sessions.on('adopted', ({ from, ids }) => {
    const atMs = monotonicMs()
    count += ids.length
    clearTimeout(timer)
    timer = setTimeout(() => {
      tell('adopted', { atMs, from, count })
      count = 0
    }, portionsWithinMs)
  })
}

function serve(socket: Socket, server: SessionServer): void {
  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  readLines(socket, (line) => {
    const request = JSON.parse(line) as Request
    socket.write(`${JSON.stringify({ ...server.answer(request), id: request.id })}\n`)
  })
}

await main(JSON.parse(process.argv[2] ?? '{}') as ServerArguments).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(exitCodeOf(error))
})
