/** One JSON value a line over a stream: how the rig talks to QEMU's monitor and to the agent in a guest. */

import type { Socket } from 'node:net'

/** Longer lines mean that the other side has gone mad; they end the connection instead of filling the memory. */
const longestLineBytes = 64 << 20

/**
 * Calls `onMessage` for every line of `socket`. A line that is no JSON, or never ends, destroys the socket with an error.
 * Bytes are joined before they are decoded, so a character split between two chunks survives.
 */
export function readJsonLines(socket: Socket, onMessage: (message: unknown) => void): void {
  let pending: Buffer[] = []
  let pendingBytes = 0
  socket.on('data', (chunk: Buffer) => {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = Buffer.concat([...pending, chunk.subarray(start, end)]).toString('utf8')
      pending = []
      pendingBytes = 0
      start = end + 1
      try {
        onMessage(JSON.parse(line))
      } catch (error) {
        socket.destroy(new Error(`unexpected line: ${line.slice(0, 200)}`, { cause: error }))
        return
      }
    }
    if (start < chunk.length) pending.push(chunk.subarray(start))
    pendingBytes += chunk.length - start
    if (pendingBytes > longestLineBytes) socket.destroy(new Error('endless line'))
  })
}

export function writeJsonLine(socket: Socket, message: unknown): void {
  socket.write(`${JSON.stringify(message)}\n`)
}
