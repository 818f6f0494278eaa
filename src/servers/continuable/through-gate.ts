/** What a server writes while it makes a response anew. */
import type { Callback, Chunk } from './chunks.js'
import type { Connection } from './connection.js'
import { passToKernel } from './socket-taps.js'

export function writeThroughGate(connection: Connection, chunks: readonly Chunk[], callback: Callback): void {
  const { gate } = connection
  if (connection.isOver) return callback(new Error('this connection is over'))
  connection.count(chunks)
  if (gate === undefined) return callback()
  const passed = gate.gate.take(Buffer.concat(chunks.map(({ chunk, encoding }) => (typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk))))
  if (passed === undefined) return callback()
  if (!passed.same) {
    gate.done(false)
    return
  }
  connection.gate = undefined
  gate.done(true)
  const { held, rest } = passed
  const send = (error?: Error | null): void => {
    if (error || rest.length === 0) return callback(error)
    if (connection.decideRest(rest)) passToKernel(connection, rest, callback)
    else callback(new Error('this connection is over'))
  }
  if (held.length > 0) passToKernel(connection, held, send)
  else send()
  process.nextTick(() => connection.messages?.compared())
}
