/** Makes a socket that came over behave as one that its server accepted. */
import type { Server, Socket } from 'node:net'
import type { Connection } from './connection.js'

/** What a server keeps of its options (lib/net.js), and gives to the sockets that it accepts. */
interface Accepting {
  readonly allowHalfOpen?: boolean
  readonly noDelay?: boolean
  readonly keepAlive?: boolean
  /** In seconds. */
  readonly keepAliveInitialDelay?: number
}

export function setAsAccepted(socket: Socket, server: Server): void {
  const { allowHalfOpen = false, noDelay = false, keepAlive = false, keepAliveInitialDelay = 0 } = server as Accepting
  socket.allowHalfOpen = allowHalfOpen
  socket.setNoDelay(noDelay)
  socket.setKeepAlive(keepAlive, 1000 * keepAliveInitialDelay)
}

/** Has it had requests, and is none of them under way? One that has not sent anything yet is to Node.js what it always is. */
export const isBetweenRequests = ({ input, preamble }: Connection): boolean => input.end > 0 && input.length === 0 && preamble === undefined

/** It was paused on its way here; as a new connection, it flows as soon as somebody listens. */
export function letFlow(socket: Socket): void {
  if (socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0) {
    socket.resume()
    return
  }
  const flow = (event: string | symbol): void => {
    if (event !== 'data' && event !== 'readable') return
    socket.removeListener('newListener', flow)
    process.nextTick(() => socket.resume())
  }
  socket.on('newListener', flow)
}
