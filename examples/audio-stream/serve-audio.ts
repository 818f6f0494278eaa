import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { checkpoint, continuationOf } from 'backdoors'
import { audioAt, streamBytes } from './audio.js'

const chunkBytes = 32 << 10

/**
 * Answers with the music, as fast as the listener takes it. When this machine fails midway, the next one is given the request again,
 * and goes on behind the last checkpoint: the listener gets every byte once.
 */
export async function serveAudio(request: IncomingMessage, response: ServerResponse, seconds: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'audio/wav', 'content-length': streamBytes(seconds) })
  response.flushHeaders()
  for (let at = continuationOf(request)?.bytes ?? 0; at < streamBytes(seconds) && !response.destroyed; at += chunkBytes) {
    if (!response.write(audioAt(at, chunkBytes, seconds))) await drained(response)
    checkpoint(response)
    // A kernel may take all that is written at once: other listeners, and this server's own sensor, have their turn.
    await nextTurn()
  }
  response.end()
}

/** Resolves when more can be written, or nobody is left to write to. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}
