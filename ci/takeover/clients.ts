/**
 * Runs in a guest: clients that know nothing of failures. Each has one connection and no code that would make another, or ask again;
 * each counts what it said, and checks every byte that it gets. Its first argument is a `TakeoverClientsArguments` as JSON. Says
 * `{"event":"warm"}` when all have been answered some times, `{"event":"all-continued"}` when all have been answered again since `fail`,
 * and takes one word a line: `fail` (the server's machine failed just now), `stop` (judge, and end).
 */
import { Agent, request } from 'node:http'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { noWords, replyTo, withWord, type Tally } from './words.js'

export interface TakeoverClientsArguments {
  readonly host: string
  readonly port: number
  /** What the clients' names begin with: who recovers one trial still has the sessions of another. */
  readonly prefix: string
  readonly http: number
  readonly webSockets: number
  readonly thinkMs: number
}

export interface ClientJudgement {
  readonly client: string
  readonly kind: 'http' | 'ws'
  /** Its own port: frames on the wire tell by it whose they are. */
  readonly port: number
  readonly answered: number
  readonly answeredSinceFailure: number
  readonly error: string | undefined
  readonly wrongBytes: number
  /** For an answer that came after the failure, from its request on, in milliseconds. */
  readonly longestWaitMs: number
}

const warmAnswers = 3
const endPatienceMs = 20_000
const say = (event: object): void => void process.stdout.write(`${JSON.stringify(event)}\n`)

abstract class Client {
  readonly name: string
  abstract readonly kind: ClientJudgement['kind']
  readonly #thinkMs: number
  #tally: Tally = noWords
  #wrongBytes = 0
  #failedAtMs = Infinity
  #sinceFailure = 0
  #longestWaitMs = 0
  #error: string | undefined
  port = 0
  stopping = false

  constructor(name: string, thinkMs: number) {
    this.name = name
    this.#thinkMs = thinkMs
  }

  get answered(): number {
    return this.#tally.count
  }

  /** Has it been answered since the failure, or has its connection ended? */
  get isThrough(): boolean {
    return this.#sinceFailure > 1 || this.#error !== undefined
  }

  fail(atMs: number): void {
    this.#failedAtMs = atMs
  }

  async run(onProgress: () => void): Promise<void> {
    try {
      await this.open()
      while (!this.stopping) {
        const word = `${this.name} says ${this.#tally.count}`
        const expected = withWord(this.#tally, word)
        const askedAtMs = performance.now()
        const answer = await this.ask(word)
        const nowMs = performance.now()
        if (nowMs > this.#failedAtMs) {
          this.#sinceFailure++
          this.#longestWaitMs = Math.max(this.#longestWaitMs, nowMs - askedAtMs)
        }
        if (answer !== replyTo(this.name, expected)) this.#wrongBytes++
        this.#tally = expected
        onProgress()
        await sleep(this.#thinkMs * (0.5 + Math.random()))
      }
    } catch (error) {
      this.#error = error instanceof Error ? error.message : String(error)
      onProgress()
    }
    this.close()
  }

  judge(): ClientJudgement {
    return {
      client: this.name, kind: this.kind, port: this.port, answered: this.#tally.count, answeredSinceFailure: this.#sinceFailure,
      error: this.#error, wrongBytes: this.#wrongBytes, longestWaitMs: Math.round(this.#longestWaitMs),
    }
  }

  protected abstract open(): Promise<void>
  /** @returns the answer's body */
  protected abstract ask(word: string): Promise<string>
  abstract close(): void
}

class HttpClient extends Client {
  readonly kind = 'http'
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1, keepAliveMsecs: 1_000_000 })
  readonly #server: { readonly host: string; readonly port: number }
  #socket: Socket | undefined

  constructor(name: string, thinkMs: number, server: { readonly host: string; readonly port: number }) {
    super(name, thinkMs)
    this.#server = server
  }

  protected open(): Promise<void> {
    return Promise.resolve()
  }

  protected ask(word: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const asking = request({ ...this.#server, agent: this.#agent, method: 'POST', path: `/words?client=${this.name}`, headers: { 'content-length': Buffer.byteLength(word) } })
      asking.on('socket', (socket) => {
        if (this.#socket !== undefined && this.#socket !== socket) reject(new Error('its connection had ended'))
        this.#socket = socket
        // One that is new has no port of its own yet.
        const learn = (): void => void (this.port = socket.localPort ?? 0)
        if (socket.connecting) socket.once('connect', learn)
        else learn()
      })
      asking.on('error', reject)
      asking.on('response', (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => (response.statusCode === 200 ? resolve(Buffer.concat(chunks).toString()) : reject(new Error(`status ${String(response.statusCode)}`))))
      })
      asking.end(word)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

class WebSocketClient extends Client {
  readonly kind = 'ws'
  readonly #url: string
  #socket: WebSocket | undefined
  #ended: Error | undefined
  #waiting: { resolve: (text: string) => void; reject: (error: Error) => void } | undefined

  constructor(name: string, thinkMs: number, { host, port }: { readonly host: string; readonly port: number }) {
    super(name, thinkMs)
    this.#url = `ws://${host}:${port}/words?client=${name}`
  }

  protected async open(): Promise<void> {
    const socket = new WebSocket(this.#url, { perMessageDeflate: false })
    this.#socket = socket
    socket.on('message', (data: Buffer) => this.#waiting?.resolve(data.toString()))
    const end = (error: Error): void => {
      this.#ended = error
      this.#waiting?.reject(error)
    }
    socket.on('error', end)
    socket.on('close', (code) => end(new Error(`closed with ${code}`)))
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', reject)
    })
    this.port = (socket as unknown as { _socket: Socket })._socket.localPort ?? 0
  }

  protected ask(word: string): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended)
      this.#waiting = { resolve, reject }
      this.#socket?.send(word)
    })
  }

  close(): void {
    this.#socket?.terminate()
  }
}

async function main({ host, port, prefix, http, webSockets, thinkMs }: TakeoverClientsArguments): Promise<void> {
  const server = { host, port }
  const clients: Client[] = [
    ...Array.from({ length: http }, (_, i) => new HttpClient(`${prefix}h${i}`, thinkMs, server)),
    ...Array.from({ length: webSockets }, (_, i) => new WebSocketClient(`${prefix}w${i}`, thinkMs, server)),
  ]
  const told = { warm: false, through: false }
  let hasFailed = false
  const onProgress = (): void => {
    if (!told.warm && clients.every(({ answered }) => answered >= warmAnswers)) {
      told.warm = true
      say({ event: 'warm' })
    }
    if (hasFailed && !told.through && clients.every(({ isThrough }) => isThrough)) {
      told.through = true
      say({ event: 'all-continued' })
    }
  }
  const runs = clients.map((client) => client.run(onProgress))
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'fail') {
      hasFailed = true
      for (const client of clients) client.fail(performance.now())
    }
    if (line === 'stop') break
  }
  for (const client of clients) client.stopping = true
  await Promise.race([Promise.all(runs), sleep(endPatienceMs)])
  say({ event: 'judged', clients: clients.map((client) => client.judge()) })
  for (const client of clients) client.close()
  process.exit(0)
}

await main(JSON.parse(process.argv[2] ?? '{}') as TakeoverClientsArguments)
