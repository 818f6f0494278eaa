/**
 * Runs in a guest: a server whose clients' connections outlive its machine. It counts each client's words, over HTTP and over
 * WebSockets; a word that is given to it a second time, because its machine failed midway, counts once. It serves the
 * audio stream of the examples, too. Its first argument is a
 * `TakeoverServerArguments` as JSON; what happens to it is told on stdout as JSON lines.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { WebSocketServer } from 'ws'
import { attach, continuable, continuableWebSockets, messageKey, requestKey } from '../../src/index.js'
import { serveAudio } from '../../examples/audio-stream/serve-audio.js'
import { audioSeconds, noWords, replyTo, withWord, type Tally } from './words.js'

export interface TakeoverServerArguments {
  readonly node: string
  readonly region: string
  readonly port: number
  /** Of its event loop's sensor, in milliseconds. */
  readonly deadlineMs: number
}

/** What a client has said so far, and the key of the request that said the last of it. */
interface Told extends Tally {
  readonly key: string
}

/** Of a client's words, in milliseconds: those of earlier trials make room. */
const ttlMs = 180_000

const tell = (event: string, fields: object = {}): void => void process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)

async function main({ node: name, region, port, deadlineMs }: TakeoverServerArguments): Promise<void> {
  const node = await attach({ region, name: 'words' })
  node.sensor('event-loop', { deadlineMs })
  node.once('fenced', () => {
    tell('fenced')
    process.exit(4)
  })
  const words = node.sessions<Told>('words', { ttlMs })

  /** Counts a word once, however often it is given. @returns the answer to it */
  const count = (client: string, word: string, key: string): string => {
    const told = words.get(client)
    if (told?.key === key) return replyTo(client, told)
    const next = withWord(told ?? noWords, word)
    words.commit(client, { ...next, key })
    return replyTo(client, next)
  }

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url === '/hour.wav') return void serveAudio(request, response, audioSeconds)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => response.end(count(clientOf(request), Buffer.concat(chunks).toString(), requestKey(request))))
  }
  const server = createServer({ keepAliveTimeout: 0 }, serve)
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  sockets.on('connection', (socket, request) => {
    const client = clientOf(request)
    socket.on('message', (data: Buffer) => socket.send(count(client, data.toString(), messageKey(socket))))
  })
  continuableWebSockets(sockets)
  continuable(server, node, { name: 'words', replay: () => true })
  server.listen(port, '0.0.0.0', () => tell('serving', { node: name }))
}

const clientOf = ({ url = '/' }: IncomingMessage): string => new URL(url, 'http://server').searchParams.get('client') ?? 'nobody'

await main(JSON.parse(process.argv[2] ?? '{}') as TakeoverServerArguments)
