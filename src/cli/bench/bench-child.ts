/**
 * The processes that a benchmark needs beside its own: one script, in the parts of
 *
 *     host FILE BEAT_US     a watched host: beats the counter at the start of FILE by a native thread
 *     server FILE BEAT_US   the same, and an HTTP server, which beats the counter at 64 for each request; it says its port, and at /usage how many
 *                           requests it has had, and its processor time
 *     http KIND REGION APP  an HTTP server, `plain` or `continuable`, which keeps its connections in REGION; what it runs is nothing but a
 *                           handler (`bare`) or an application of Express (`express`); it says its port
 *     spin                  a busy processor
 *     sweep MIB             busy memory: writes over so much of it, again and again
 *
 * It says "ready" as soon as it does its part, and ends when its standard input does: with whoever started it.
 */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { memoryAddon } from '../../native/load.js'
import { BoxOwner } from '../../region/box-owner.js'
import { openRegion } from '../../region/region.js'
import { messagePackCodec } from '../../servers/codec.js'
import { continuable } from '../../servers/continuable/continuable.js'
import { SessionStore } from '../../servers/session-store.js'

const [part, ...args] = process.argv.slice(2)

/** In one turn of the event loop; then it is seen whether the parent has gone. */
const busyMs = 20

function ready(more = ''): void {
  process.stdout.write(`ready ${more}\n`)
}

function beat(path: string, intervalUs: number): ArrayBuffer {
  const { SharedMemory, BeatThread } = memoryAddon()
  const memory = new SharedMemory({ path })
  new BeatThread({ memory, counterOffset: 0, fenceOffset: 8, fenceLimit: 0, intervalUs })
  return memory.buffer
}

const items = { items: Array.from({ length: 20 }, (_, i) => ({ sku: `sku-${i}`, cents: 499 + i })) }

/** Connections are kept for as long as the benchmark rests between its rounds. */
const keepAliveTimeout = 0

function serve(words: Uint32Array): void {
  const body = Buffer.from(JSON.stringify(items))
  const server = createServer({ keepAliveTimeout }, (request, response) => {
    words[16] = ((words[16] as number) + 1) >>> 0
    const answer = request.url === '/usage' ? Buffer.from(JSON.stringify({ requests: words[16], cpuUs: cpuUs(), atMs: performance.now() })) : body
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length }).end(answer)
  })
  server.listen(0, '127.0.0.1', () => ready(String((server.address() as AddressInfo).port)))
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

const usage = (): Buffer => Buffer.from(String(cpuUs()))

function bare(): RequestListener {
  const body = Buffer.from(JSON.stringify(items))
  return (request, response) => {
    const answer = request.url === '/cpu' ? usage() : body
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length }).end(answer)
  }
}

/** As applications begin: a body parser, a router, and JSON made anew for each answer. */
async function expressApplication(): Promise<RequestListener> {
  const { default: express } = await import('express')
  const application = express()
  application.use(express.json())
  application.get('/items', (_, response) => void response.json(items))
  application.get('/cpu', (_, response) => void response.send(usage().toString()))
  return application as RequestListener
}

async function serveHttp(kind: string, path: string, application: string): Promise<void> {
  const server = createServer({ keepAliveTimeout }, application === 'express' ? await expressApplication() : bare())
  if (kind === 'continuable') {
    const owner = BoxOwner.take(openRegion(path), { name: 'bench' })
    continuable(server, {
      incarnation: owner.region.header.incarnation,
      sessions: (name, options = {}) => new SessionStore(owner, name, options.codec ?? messagePackCodec(), options),
      onRestored: () => () => undefined,
    })
  }
  server.listen(0, '127.0.0.1', () => ready(String((server.address() as AddressInfo).port)))
}

/** Runs `work` for ever, in turns. */
function keepBusy(work: () => void): void {
  const turn = (): void => {
    const untilMs = performance.now() + busyMs
    while (performance.now() < untilMs) work()
    setImmediate(turn)
  }
  setImmediate(turn)
  ready()
}

process.stdin.resume().once('end', () => process.exit(0)).once('error', () => process.exit(0))

switch (part) {
  case 'host':
    beat(args[0] as string, Number(args[1]))
    ready()
    break
  case 'server':
    serve(new Uint32Array(beat(args[0] as string, Number(args[1]))))
    break
  case 'http':
    await serveHttp(args[0] as string, args[1] as string, args[2] as string)
    break
  case 'spin':
    keepBusy(() => void Math.sqrt(performance.now()))
    break
  case 'sweep': {
    const bytes = new Uint8Array(Number(args[0]) * 2 ** 20)
    let turn = 0
    keepBusy(() => bytes.fill(turn++ & 0xff))
    break
  }
  default:
    process.stderr.write(`there is no part ${part ?? ''}\n`)
    process.exit(2)
}
