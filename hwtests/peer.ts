#!/usr/bin/env node
/**
 * The other end of the two-host tests: lends memory, and does to it what the tests say.
 *
 *     node dist/hwtests/peer.js [PORT]     (BACKDOORS_DEVICE names the device)
 *
 * It trusts whoever connects: for test networks only.
 */
import { createServer, type Socket } from 'node:net'
import { VerbsDevice, VerbsLender } from '../src/fabric/verbs/index.js'
import { memoryAddon } from '../src/native/load.js'
import { defaultPort, onMessage, type PeerAnswer, peerMemoryLength, type PeerRequest, send } from './peer-protocol.js'

const name = process.env['BACKDOORS_DEVICE']
const device = VerbsDevice.open(name === undefined ? {} : { device: name })
const memory = new (memoryAddon().SharedMemory)({ create: true, memfd: true, path: 'backdoors-hwtests', length: peerMemoryLength })
const bytes = new Uint8Array(memory.buffer)
const words = new DataView(memory.buffer)
const lender = new VerbsLender({ device, memory, control: { offset: 4_096, length: 4_096 } })
let beat: NodeJS.Timeout | undefined

function answer(request: PeerRequest): PeerAnswer {
  switch (request.op) {
    case 'accept':
      return lender.accept(request.watcher, request.endpoints)
    case 'release':
      lender.release(request.watcher)
      return {}
    case 'fill':
      bytes.fill(request.value, request.offset, request.offset + request.length)
      return {}
    case 'word':
      return { word: words.getBigUint64(request.offset, true) }
    case 'beat':
      clearInterval(beat)
      if (request.intervalMs > 0) beat = setInterval(() => words.setUint32(request.offset, words.getUint32(request.offset, true) + 1, true), request.intervalMs)
      return {}
  }
}

function serve(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  onMessage<PeerRequest>(socket, (request) => {
    try {
      send(socket, answer(request))
    } catch (error) {
      send(socket, { error: String(error) })
    }
  })
}

const port = Number(process.argv[2] ?? defaultPort)
createServer(serve).listen(port, () => {
  process.stdout.write(`ready on ${device.name}, port ${port}\n`)
})
