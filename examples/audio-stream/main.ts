/**
 * `node dist/examples/audio-stream/main.js [PORT]`: an hour of music on http://127.0.0.1:PORT/hour.wav, whose listeners are not cut off when
 * their machine fails: on a host whose memory is lent, and whose address moves (docs/continuable.md). `npm run rig -- run stream` does it.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { attach, continuable, startDaemon } from 'backdoors'
import { serveAudio } from './serve-audio.js'

const seconds = 3600
const folder = mkdtempSync('/dev/shm/audio-stream-')
const region = `${folder}/region`
const daemon = await startDaemon({ node: 'radio', log: 'warn', region: { path: region, boxes: 2 } })
const node = await attach({ region, name: 'radio' })

const server = createServer((request, response) => {
  if (request.url === '/hour.wav') void serveAudio(request, response, seconds)
  else response.writeHead(404).end()
})
continuable(server, node, { name: 'radio' })
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1')
await once(server, 'listening')
console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/hour.wav`)

await Promise.race(['SIGINT', 'SIGTERM'].map((signal) => once(process, signal)))
server.closeAllConnections()
server.close()
await node.close()
await daemon.close()
rmSync(folder, { recursive: true })
