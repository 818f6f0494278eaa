/** WebSockets of the package `ws`, on a continuable server. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { BackdoorsError } from '../../errors.js'
import { connectionOf, setConnection } from './connection-of.js'
import type { Connection } from './connection.js'
import type { FrameKind } from './frame-scanner.js'
import { Messages } from './messages.js'

/** What is needed of a `WebSocket` of `ws`. */
export interface ContinuableWebSocket {
  readonly readyState: number
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- any event with any values
  emit(event: string | symbol, ...values: any[]): boolean
  // eslint-disable-next-line @typescript-eslint/no-unsafe-function-type -- as Node.js declares it
  rawListeners(event: string): Function[]
  close(code?: number, data?: string | Buffer): void
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever `ws` sends
  send(data: any, ...options: any[]): void
}

/** What is needed of a `WebSocketServer` of `ws`. */
export interface WebSockets<W extends ContinuableWebSocket> {
  readonly options: { readonly perMessageDeflate?: unknown }
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- `ws` allows for other classes of requests
  handleUpgrade(request: any, socket: Duplex, head: Buffer, callback: (client: W, request: any) => void): void
}

const open = 1
const known = new WeakSet()

/**
 * Makes each whole message of these WebSockets a checkpoint: it is done with when its `message` handlers have returned, and the promises
 * that they returned are settled. One that was not done with when the machine failed is given again on the next one, under the same
 * `messageKey`, and its handlers have to answer it as before. What `connection` handlers send at once is not sent again.
 * Call it once, before the server listens. Of sockets that came by a server that is not continuable, nothing changes.
 * @throws BackdoorsError INVALID_ARGUMENT where messages would be compressed: the compressor's memory is lost with its machine
 *
 * @example
 * const sockets = new WebSocketServer({ server, perMessageDeflate: false })
 * continuableWebSockets(sockets)
 * continuable(server, node, { name: 'chat' })
 */
export function continuableWebSockets<W extends ContinuableWebSocket>(sockets: WebSockets<W>): void {
  if (sockets.options.perMessageDeflate !== undefined && sockets.options.perMessageDeflate !== false) {
    throw new BackdoorsError('INVALID_ARGUMENT', 'WebSockets that compress cannot be continued: what the compressor knows is in the process that died. Say perMessageDeflate: false.', { field: 'perMessageDeflate' })
  }
  if (known.has(sockets)) return
  known.add(sockets)
  const handleUpgrade = sockets.handleUpgrade.bind(sockets)
  sockets.handleUpgrade = (request: IncomingMessage, socket, head, callback) => handleUpgrade(request, socket, head, (client, upgraded) => {
    const connection = connectionOf(socket)
    if (connection === undefined) callback(client, upgraded)
    else introduce(connection, client, () => callback(client, upgraded))
  })
}

/**
 * Names one message over the whole cluster, for its handler, before that first waits: the same when it is given again on another machine,
 * and never another's. A handler that keeps it with what it does does that once.
 * @throws BackdoorsError INVALID_ARGUMENT where no message is given to this socket's handlers now, or it is not continuable
 *
 * @example
 * socket.on('message', async (data) => {
 *   const key = messageKey(socket)
 *   socket.send(await orders.once(key, data))
 * })
 */
export function messageKey(socket: ContinuableWebSocket): string {
  const connection = connectionOf(socket)
  const current = connection?.messages?.current
  if (connection === undefined || current === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'No message of a continuable WebSocket is given to this handler now: it has no key.', { field: 'socket' })
  return `${connection.id} ${connection.nonce.toString(16).padStart(16, '0')} m${current.end}`
}

/** Sees what the socket's handlers are given from now on, and makes it known to its server. */
function introduce(connection: Connection, client: ContinuableWebSocket, tell: () => void): void {
  if (connection.preamble === undefined) connection.giveUp('not-continuable')
  const messages = new Messages(connection)
  connection.messages = messages
  setConnection(client, connection)
  tap(connection, messages, client)
  try {
    // What it was told first has its place before the checkpoint, and the client has it.
    if (connection.continuation === undefined) tell()
    else withoutWriting(connection.socket, tell)
  } finally {
    messages.opened()
  }
}

/** What is written stands: another machine wrote it. It does not even come to the socket's queue, which may wait for the kernel. */
function withoutWriting(socket: Socket, run: () => void): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is put back as it was
  const { write } = socket
  socket.write = (...values: unknown[]): boolean => {
    const callback = values.at(-1)
    if (typeof callback === 'function') process.nextTick(callback)
    return true
  }
  try {
    run()
  } finally {
    socket.write = write
  }
}

function tap(connection: Connection, messages: Messages, client: ContinuableWebSocket): void {
  const emit = client.emit.bind(client)
  const close = client.close.bind(client)
  const send = client.send.bind(client)
  client.emit = (event: string | symbol, ...values: unknown[]): boolean => {
    if (event !== 'message' && event !== 'ping' && event !== 'pong') return emit(event, ...values)
    // An emitter does not say what its listeners return.
    const listeners = client.rawListeners(event)
    messages.give(event satisfies FrameKind, () => listeners.map((listener): unknown => Reflect.apply(listener, client, values)))
    return listeners.length > 0
  }
  client.close = (...values) => {
    // The next machine's server would not know that it had said goodbye, and would say so again.
    if (client.readyState === open && !messages.isClosing) connection.giveUp('not-continuable')
    close(...values)
  }
  client.send = (data, ...options: unknown[]) => {
    // Nor that it is within a message.
    if ((options[0] as { fin?: boolean } | undefined)?.fin === false) connection.giveUp('not-continuable')
    send(data, ...options)
  }
}
