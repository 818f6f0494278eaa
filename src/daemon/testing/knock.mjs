/**
 * A worker that knocks with malformed handshakes, so many a second as far as it comes to it, until it is told to stop; it tells how many
 * it has begun, how many of those the node took and is done with, and for how long it has been at it.
 */
import { connect } from 'node:net'
import { performance } from 'node:perf_hooks'
import { parentPort, workerData } from 'node:worker_threads'

const { address, perSecond, atATime, malformed } = workerData
const startMs = performance.now()
let begun = 0
let ended = 0
let taken = 0

function knock() {
  // From several addresses, as one has no more than some ten thousand ports.
  const socket = connect({ ...address, localAddress: `127.0.0.${2 + (begun % 8)}` }, () => {
    taken++
    socket.end(malformed[begun % malformed.length])
  })
  begun++
  socket.on('error', () => undefined)
  socket.on('close', () => ended++)
  socket.resume()
}

const timer = setInterval(() => {
  const ms = performance.now() - startMs
  while (begun < (ms / 1000) * perSecond && begun - ended < atATime) knock()
  parentPort.postMessage({ begun, done: Math.min(ended, taken), ms })
}, 5)
parentPort.once('message', () => {
  clearInterval(timer)
  parentPort.close()
})
